"""A version of a model at the desk: that it is what its run made, that the gate has passed it, and what is signed.

The version's digest is over the digests of its files, and is computed here; its registration, the gate's verdict and the move to `validated` are in the
log that this desk has read. Metrics beside them are the coordinator's word.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

from coordinator.console.desk.checks import Checks, stopping
from coordinator.console.desk.history import recorded_author
from coordinator.console.desk.looking import FIRST, Looked
from coordinator.console.desk.memory import Kept, Memory, require_kept
from coordinator.console.desk.session import Session
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion
from protos.approvals import APPROVING
from protos.gates import Verdict
from protos.log_entries import ModelRegistered
from protos.log_gate import GateJudged
from protos.log_registry_events import ModelApproved, ModelMoved
from protos.membership import Officer, Role, Trusted
from protos.model_approvals import ModelStatement, Subject, approve_model, require_model_statement, until
from protos.model_stages import Stage
from strategies.errors import Refused

FILES: Final = "The version's files"
REGISTERED: Final = "Its registration"
VALIDATED: Final = "The gate's verdict"
MODEL_CHECKS: Final = (*FIRST, FILES, REGISTERED, VALIDATED)
_MOST: Final = 500


@dataclass
class ModelAtDesk:
    """What was found. Only where every check holds can it be signed."""

    checks: Checks
    found: ModelStanding | None = None
    subject: Subject | None = None
    verdict: Verdict | None = None
    given: tuple[ModelStatement, ...] = ()
    roles: tuple[Role, ...] = ()
    hinders: str | None = None

    @property
    def shown(self) -> dict[str, Any]:
        """All that a signature rests on."""
        subject = self.subject
        return {
            "files": None if subject is None else subject.digest,
            "verdict": None if subject is None else subject.on,
            "author": None if subject is None else subject.author,
            "approvals": sorted(each.officer for each in self.given),
        }


def waiting(session: Session) -> Sequence[ModelVersion]:
    """Versions that wait for approval, by the coordinator's word."""
    found = islice(session.models.versions(), _MOST)
    return [each for each in found if each.stage is Stage.VALIDATED]


def model_at_desk(session: Session, looked: Looked, model: str) -> ModelAtDesk:
    """Look at the version `NAME@NUMBER`. Raises Unreachable."""
    view = ModelAtDesk(looked.checks)
    if looked.checks.hold_all:
        with stopping():
            _check(view, session, looked, model)
    looked.checks.open(MODEL_CHECKS)
    return view


def _check(view: ModelAtDesk, session: Session, looked: Looked, model: str) -> None:
    trusted, officer = looked.sound
    checks, memory = view.checks, session.trust.memory
    view.found = found = checks.hold(
        FILES,
        lambda: session.models.standing(model),
        lambda it: (
            f"the digests of its {len(it.version.artifacts)} files come to {it.version.digest}, computed here"
        ),
    )
    registered = checks.hold(
        REGISTERED,
        lambda: _registered(memory, found.version),
        lambda it: f"entry {it[0].seq}: {it[1].run} made these very files",
    )
    view.subject, view.verdict = checks.hold(
        VALIDATED,
        lambda: _validated(memory, found.version, registered[1]),
        lambda it: f"the gate passed it on {it[0].on[:12]}, and the log has the verdict",
    )
    view.given = _given(memory, view.subject, trusted, session)
    view.roles = tuple(role for role in APPROVING if role in officer.roles)
    view.hinders = _hinders(view.subject, view.roles, officer)


def _registered(memory: Memory, version: ModelVersion) -> tuple[Kept, ModelRegistered]:
    kept = require_kept(memory.of_subject("model", version.ref), f"{version.ref} having been registered")
    what = kept.entry.what
    if not isinstance(what, ModelRegistered) or what.digest != version.digest or what.run != version.run_id:
        raise Refused(
            f"entry {kept.seq} registers other files, or another run, as {version.ref} than were sent"
        )
    return kept, what


def _validated(memory: Memory, version: ModelVersion, registered: ModelRegistered) -> tuple[Subject, Verdict]:
    """What officers sign of a version: with the verdict on which it was validated last. Raises Refused for one that is not validated now."""
    moved = require_kept(
        memory.of_subject("model-moved", version.ref), f"{version.ref} having been validated"
    ).entry.what
    if not isinstance(moved, ModelMoved) or moved.to is not Stage.VALIDATED or moved.on is None:
        stage = moved.to if isinstance(moved, ModelMoved) else "unknown"
        raise Refused(f"by the log {version.ref} is {stage}: it is approved while it is validated")
    for kept in reversed(memory.of_subject("gate", version.ref)):
        what = kept.entry.what
        if isinstance(what, GateJudged) and what.verdict.digest == moved.on:
            if not what.verdict.passed or what.verdict.artifacts != version.digest:
                raise Refused(
                    f"entry {kept.seq}, the verdict that {version.ref} was validated on, does not pass these files"
                )
            author = recorded_author(memory, registered.run)
            return (
                Subject(
                    name=version.name,
                    version=version.version,
                    digest=version.digest,
                    on=moved.on,
                    author=author,
                ),
                what.verdict,
            )
    raise Refused(f"the log has no verdict {moved.on[:12]}, on which {version.ref} is said to be validated")


def _given(
    memory: Memory, subject: Subject, trusted: Trusted, session: Session
) -> tuple[ModelStatement, ...]:
    """Approvals of exactly this subject that count now, by the log."""
    found: dict[str, ModelStatement] = {}
    for kept in memory.of_subject("model-approved", subject.ref):
        what = kept.entry.what
        if not isinstance(what, ModelApproved):
            continue
        try:
            require_model_statement(what.statement, subject, trusted, session.clock())
        except Refused:
            continue
        found[what.statement.officer] = what.statement
    return tuple(found.values())


def _hinders(subject: Subject, roles: Sequence[Role], officer: Officer) -> str | None:
    if subject.author == officer.name:
        return "You wrote its plan; somebody else must approve its model."
    if not roles:
        return f"You are {', '.join(officer.roles)}; a model is approved as {' or '.join(APPROVING)}."
    return None


def sign_model(session: Session, view: ModelAtDesk, looked: Looked, role: str) -> ModelStatement:
    """The officer's approval of exactly what was looked at, for a year. Raises Refused unless every check holds."""
    if view.subject is None or not view.checks.hold_all:
        failed = view.checks.failed
        raise Refused(f"nothing was signed: {'a check is open' if failed is None else failed.words}")
    if view.hinders is not None or role not in view.roles:
        raise Refused(f"nothing was signed: {view.hinders or 'choose the role in which you approve'}")
    trusted, officer = looked.sound
    at = session.clock()
    return approve_model(
        view.subject,
        officer.name,
        Role(role),
        session.trust.signer,
        federation=trusted.federation,
        at=at,
        expires=until(at, None),
    )
