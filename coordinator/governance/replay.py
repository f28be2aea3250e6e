"""The effects of log entries, written into the tables again: how a restored database comes to what a copy of the log tells.

1. Each kind of entry has one effect, and each effect is written by the very functions that wrote it first, where there are any.
2. What happened to runs is in a room of its own (`replay_runs`). A kind that is dealt with in neither does not pass the type check.
3. A kind without an effect on tables is one line in `_take`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.halt_schema import HaltRow
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Site
from coordinator.deploy.effects import take as take_deployment
from coordinator.deploy.monitoring.effects import take as take_monitoring
from coordinator.deploy.monitoring.retraining.effects import take as take_retraining
from coordinator.governance.halts import row_of
from coordinator.governance.policies.packs import write_policy
from coordinator.governance.replay_registry import replay_registry
from coordinator.governance.replay_runs import RunReplay
from coordinator.ledger.adoption import write_adopted
from coordinator.ledger.ceilings import carry_out
from protos.ceilings import SignedCeiling
from protos.halt_lifts import HaltLift
from protos.halts import HaltOrder
from protos.log_deploy_events import Deployed, RecallConfirmed, RecallOrdered, RolloutMoved, TargetAdded
from protos.log_entries import (
    AccountsAdopted,
    CeilingSet,
    GapLogged,
    Halted,
    HaltLifted,
    LogEntry,
    MembersSigned,
    PersonalTold,
    PlanRecorded,
    What,
)
from protos.log_evidence import ModelNoted
from protos.log_gate import GateJudged
from protos.log_loop import RetrainingDecided, RetrainingDrafted, RetrainingLaunched
from protos.log_monitor import DriftAcknowledged, DriftAlarm, MonitorAdded
from protos.log_office import AccessGranted, CallDenied, EnrolmentDenied, PlanApproved, PlanProposed
from protos.log_policies import PolicyInForce, PolicyJudged, PolicyPublished
from protos.log_registry_events import ModelAliased, ModelApproved, ModelMoved, ModelSigned
from protos.membership import Membership, Trusted
from protos.root import SignedRoot
from strategies.encoding import canonical_json
from strategies.errors import CovenantError

_BRING_DOCUMENTS: Final = ("members", "plan", "launch")


class Replay:
    """Replays entries in their order, in one transaction. Raises CovenantError at one whose effect the tables cannot take."""

    def __init__(self, session: Session, engine: Engine, pinned: SignedRoot) -> None:
        """`session` has the tables as they were after the last entry of its own log, whose documents are known then. Member lists lead from
        the `pinned` root."""
        self._session = session
        self._pinned = pinned
        self._trusted: Trusted | None = None
        self._runs = RunReplay(session, engine)
        query = select(LoggedEntry.body).where(LoggedEntry.kind.in_(_BRING_DOCUMENTS))
        for body in session.scalars(query.order_by(LoggedEntry.seq)):
            self._learn(LogEntry.from_canonical(bytes(body)).what)

    def take(self, seq: int, data: bytes) -> None:
        """The effect of entry `seq`, from its bytes."""
        entry = LogEntry.from_canonical(data)
        try:
            self._learn(entry.what)
            self._take(seq, entry.at, entry.what)
            self._session.flush()
        except CovenantError as error:
            raise CovenantError(
                f"the effect of entry {seq} ({entry.what.kind}) cannot be replayed: {error}. Nothing was restored; use another backup, and keep this one"
                " for the officers"
            ) from error

    def _learn(self, what: What) -> None:
        self._runs.learn(what)
        if isinstance(what, MembersSigned):
            document = canonical_json(what.members.document)
            self._trusted = Membership.from_canonical(document).verify(self._pinned)

    def _take(self, seq: int, at: datetime, what: What) -> None:  # noqa: C901, PLR0912  (one line a kind)
        match what:
            case MembersSigned():
                self._members(at, what)
            case PlanRecorded():
                pass  # a document, which launches name
            case CeilingSet():
                self._ceiling(at, what)
            case Halted():
                order = HaltOrder.from_canonical(canonical_json(what.order.document))
                self._session.add(row_of(order, at))
            case HaltLifted():
                self._lifted(at, what)
            case PersonalTold():
                pass  # a site's word, which only the log has
            case AccessGranted() | PlanProposed() | PlanApproved() | CallDenied() | EnrolmentDenied():
                pass  # officers ask for access, and propose, anew: the log has what they signed, and not the documents
            case GapLogged():
                pass  # the log itself is what it changes
            case AccountsAdopted():
                write_adopted(self._session, what, at)
            case (
                ModelSigned() | ModelApproved() | ModelMoved() | ModelAliased() | GateJudged() | ModelNoted()
            ):
                replay_registry(self._session, seq, at, what)
            case PolicyPublished() | PolicyJudged() | PolicyInForce():
                write_policy(self._session, what, at)
            case TargetAdded() | Deployed() | RolloutMoved() | RecallOrdered() | RecallConfirmed():
                take_deployment(self._session, at, what)
            case MonitorAdded() | DriftAlarm() | DriftAcknowledged():
                take_monitoring(self._session, at, what)
            case RetrainingDrafted() | RetrainingDecided() | RetrainingLaunched():
                take_retraining(self._session, at, what)
            case _:
                self._runs.take(at, what)

    def _members(self, at: datetime, what: MembersSigned) -> None:
        listed = what.members.read_as(Membership).signed.list
        for member in listed.members:
            known = self._session.get(Site, member.site)
            if known is None:
                known = Site(name=member.site, enrolled_at=at)
                self._session.add(known)
            known.identity_key, known.node_key = member.identity_key, member.node_key
            known.members_ref = listed.ref

    def _ceiling(self, at: datetime, what: CeilingSet) -> None:
        if self._trusted is None:
            raise CovenantError("no member list before it says who may decide a ceiling")
        signed = what.decision.read_as(SignedCeiling)
        carry_out(self._session, signed.require(self._trusted, at), at)

    def _lifted(self, at: datetime, what: HaltLifted) -> None:
        lift = what.lift.read_as(HaltLift)
        row = self._session.get_one(HaltRow, lift.order)
        row.lift, row.lifted_at = lift.canonical.decode(), at
