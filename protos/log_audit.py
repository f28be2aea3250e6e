"""What a transparency log says, judged by its reader entry by entry: it is believed as far as every entry fits those before it.

1. A run is launched under a plan and its contract, and the newest member list, which the log has, with the author and the approvals that the plan asks
   for, good at the time; it reserves exactly what the plan releases. Resumed, it holds no more than that.
2. What happens to a run comes in its order (`log_runs`), and is charged to accounts that are replayed (`log_budgets`).
3. A model comes from a run with all its rounds: it has the plan's name, the next version, the last round's weights, and the run's plan and contract.
4. Member lists lead, one after the other, from the root that the reader has pinned, and no root that was left behind comes back.
5. Time goes on (`log_clock`): what was good when an entry says that it was written was good no more than minutes before it was.
6. What sites have witnessed is this log, and they have witnessed each run before a sum over them is settled (`log_witnesses`).
7. Nothing that a halt covers is launched, resumed or settled while it stands (`log_halts`).
8. A site personalises a model that is registered, by its own signed word, told once (`log_personal`).
9. A model moves between stages as `model_stages` has it, and is called as it moved (`log_registry`). What is released to run somewhere is an approved
   version, signed for that place, in an order without gaps, and what is quarantined is recalled with that (`log_deploy`).
10. What the gate says of a version is what its plan and the metrics of its run come to (`log_gate`), and only what it passes is validated; a plan's
   champion is a model of this log.
11. Policy packs are signed, and nothing is launched that one in effect blocks (`log_policies`).
12. What officers say of a version is signed by them, and the last note of a kind counts (`log_evidence`).
13. What officers do through the control API is signed by them (`log_office`).
14. Entries may be missing where the root's quorum declared a gap, after the very head that it names. No run from before goes on after it, and a
   site's accounts are charged again only once its own statement was adopted (`log_gaps`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from protos.approvals import ApprovedPlan, PlanEvidence, require_approved
from protos.ceilings import SignedCeiling
from protos.contract import Contract
from protos.gaps import SignedGap
from protos.halt_lifts import HaltLift
from protos.halts import HaltOrder
from protos.log_budgets import Budgets
from protos.log_clock import require_in_time
from protos.log_deploy import (
    Deployed,
    DeployStory,
    RecallConfirmed,
    RecallOrdered,
    RolloutMoved,
    TargetAdded,
)
from protos.log_entries import (
    AccountsAdopted,
    CeilingSet,
    GapLogged,
    Halted,
    HaltLifted,
    LogEntry,
    MembersSigned,
    ModelRegistered,
    PersonalTold,
    PlanRecorded,
    RunLaunched,
    What,
)
from protos.log_evidence import ModelNoted, NoteStory
from protos.log_gaps import GapStory
from protos.log_gate import GateJudged, judge_gate, require_champion
from protos.log_halts import HaltStory
from protos.log_names import origin_of
from protos.log_office import (
    AccessGranted,
    CallDenied,
    EnrolmentDenied,
    PlanApproved,
    PlanProposed,
    judge_office,
)
from protos.log_personal import PersonalStory
from protos.log_policies import PolicyInForce, PolicyJudged, PolicyPublished, PolicyStory
from protos.log_registry import OUT, ModelAliased, ModelApproved, ModelMoved, ModelSigned, RegistryStory
from protos.log_run_events import (
    ReservationGivenUp,
    RunEvent,
    RunResumed,
    RunWitnessed,
    SiteRefused,
    SumSettled,
)
from protos.log_runs import RunStory
from protos.log_witnesses import Witnesses, require_refused
from protos.membership import MemberList, Membership, Trusted, check_members
from protos.model_release import Released
from protos.model_stages import RELEASABLE, Stage
from protos.personal import PersonalStatement
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases, releases_of
from protos.policy_recall import Recollection, approval_facts
from protos.policy_verdicts import PlanSubject
from protos.root import SignedRoot
from protos.succession import Newest, newest_after
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, RunId
from strategies.transparency.notes import Checkpoint

PLAN_FILE: Final = "plan.json"
CONTRACT_FILE: Final = "contract.json"
"""The artifacts of a model that are the documents of its run."""
_APPROVAL: Final = (Stage.VALIDATED, Stage.APPROVED)


class AuditRefused(Refused):
    """An entry that contradicts those before it, or a document in it that is not what it must be."""


@dataclass
class Audit:
    """The story of a whole log. `take` its entries in order; raises `AuditRefused`."""

    pinned: SignedRoot
    runs: dict[RunId, RunStory] = field(default_factory=dict)
    models: list[ModelRegistered] = field(default_factory=list)
    registry: RegistryStory = field(default_factory=RegistryStory)
    policies: PolicyStory = field(default_factory=PolicyStory)
    deployments: DeployStory = field(default_factory=DeployStory)
    notes: NoteStory = field(default_factory=NoteStory)
    personal: PersonalStory = field(default_factory=PersonalStory)
    budgets: Budgets = field(default_factory=Budgets)
    gaps: GapStory = field(default_factory=GapStory)
    halts: HaltStory = field(default_factory=HaltStory)
    members: MemberList | None = None
    witnesses: Witnesses = field(default_factory=Witnesses)
    """Who has seen this log, and the tree of the entries that were taken."""
    _lists: dict[Digest, Trusted] = field(default_factory=dict)
    _newest: Newest | None = None
    _trusted: Trusted | None = None
    _clock: datetime | None = None
    """The latest moment that any entry has."""
    _plans: dict[tuple[Digest, Digest], tuple[Plan, Contract]] = field(default_factory=dict)
    """Plans with their contracts, by the digests of both."""
    _recalled: Recollection = field(init=False)
    _evidence: dict[Digest, PlanEvidence] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._recalled = Recollection(self._plans, self.runs, self.models, self.notes, self.registry.versions)

    def take(self, seq: int, data: bytes) -> None:
        """Judge entry `seq`, from its bytes."""
        kind = "entry"
        try:
            entry = LogEntry.from_canonical(data)
            kind = entry.what.kind
            require_in_time(entry.at, self._clock)
            self._judge(seq, entry.at, entry.what)
            self._clock = entry.at if self._clock is None else max(self._clock, entry.at)
        except CovenantError as refused:
            raise AuditRefused(f"entry {seq} ({kind}): {refused}") from refused
        self.witnesses.tree.append(data)

    def require_whole(self) -> None:
        """Check, at the end of the entries, that nothing is missing that is told with the last. Raises Refused."""
        self.deployments.require_recalled()

    def require_reaches(self, known: Membership) -> None:
        """Check that the log has come to a member list that its reader knows of, by the same root. Raises Refused."""
        newest = known.verify(self.pinned)
        if self.members is None or self.members.version < newest.members.version:
            has = "none" if self.members is None else self.members.ref
            raise Refused(
                f"this log ends before member list {newest.members.ref}, which you have (it comes to {has}): ask for a later export, and what became of it"
            )
        if self.members.version == newest.members.version and self.members != newest.members:
            raise Refused(
                f"this log has another member list {newest.members.ref} than you have: compare both with the officers"
            )

    def _judge(self, seq: int, at: datetime, what: What) -> None:  # noqa: C901, PLR0912  (one line a kind)
        self.deployments.require_recalled(what)
        match what:
            case MembersSigned():
                self._members(what)
            case PlanRecorded():
                self._plan(what)
            case RunLaunched():
                self._launch(seq, at, what)
            case ModelRegistered():
                self._model(what)
            case PersonalTold():
                said = what.statement.read_as(PersonalStatement)
                self.personal.take(said, self.models, self.members, self.pinned.root.identity)
            case GapLogged():
                self._gap(what)
            case AccountsAdopted():
                self._adopt(what)
            case ModelMoved() | ModelAliased() | ModelSigned() | ModelApproved():
                if isinstance(what, ModelMoved) and (what.before, what.to) == _APPROVAL:
                    self.policies.require_entered(what.name, what.version, what.to, at)
                self.registry.take(what, self._trusted, at)
                if isinstance(what, ModelMoved) and what.to in OUT:
                    self.deployments.take_back(what.name, what.version)
            case PolicyPublished() | PolicyJudged() | PolicyInForce():
                self.policies.take(what, self._trusted, self._recalled.facts, self.registry.versions, at)
            case GateJudged():
                self._gate(what, at)
            case ModelNoted():
                self.notes.take(what, self.registry.versions, self._trusted, at)
            case TargetAdded() | Deployed() | RolloutMoved() | RecallOrdered() | RecallConfirmed():
                if isinstance(what, Deployed) and (runs := self.deployments.brought_on(what)) is not None:
                    self.policies.require_entered(runs.model, runs.version, Stage.DEPLOYED, at)
                self.deployments.take(what, self._trusted, self._releasable)
                if isinstance(what, Deployed):
                    self.registry.require_approved(what.releases, self._trusted, at)
            case CeilingSet() | Halted() | HaltLifted():
                self._decide(at, what)
            case AccessGranted() | PlanProposed() | PlanApproved() | CallDenied() | EnrolmentDenied():
                judge_office(what, self._trusted, at)
            case _:
                self._happen(what)

    def _decide(self, at: datetime, what: CeilingSet | Halted | HaltLifted) -> None:
        match what:
            case CeilingSet():
                self._ceiling(at, what)
            case Halted():
                self.halts.halt(what.order.read_as(HaltOrder), self.members, self.pinned.root.identity, at)
            case HaltLifted():
                self.halts.lift(what.lift.read_as(HaltLift), self.members, at)

    def _members(self, what: MembersSigned) -> None:
        trusted = what.members.read_as(Membership).verify(self.pinned)
        self._newest, self.members = newest_after(trusted, self._newest), trusted.members
        self._lists[what.members.digest] = self._trusted = trusted

    def _ceiling(self, at: datetime, what: CeilingSet) -> None:
        if self._trusted is None:
            raise Refused("a ceiling is decided before any member list says who may decide it")
        self.budgets.set_ceiling(what.decision.read_as(SignedCeiling).require(self._trusted, at))

    def _gap(self, what: GapLogged) -> None:
        sound = what.gap.read_as(SignedGap).verify(self.pinned)
        if self._newest is not None and sound.root.version < self._newest.root:
            raise Refused(
                f"it is signed under root version {sound.root.version}, and version {self._newest.root} has been accepted"
            )
        origin, tree = origin_of(self.pinned.root.federation), self.witnesses.tree
        self.gaps.take(sound, Checkpoint(origin=origin, size=tree.size, root=tree.root))
        self.witnesses.lost |= {(each.size, each.root) for each in sound.declared.lost_heads}
        for run in self.runs.values():
            run.is_before_gap = True

    def _adopt(self, what: AccountsAdopted) -> None:
        self.gaps.adopt(what)
        self.budgets.know(what.releases)
        self.budgets.adopt(what)

    def _plan(self, what: PlanRecorded) -> None:
        plan, contract = what.plan.read_as(Plan), what.contract.read_as(Contract)
        check_plan(plan, contract)
        self._plans[plan.digest, contract.digest] = plan, contract
        if what.evidence is not None:
            self._evidence[what.evidence.digest] = what.evidence.read_as(PlanEvidence)

    def _launch(self, seq: int, at: datetime, what: RunLaunched) -> None:
        found, trusted = self._plans.get((what.plan, what.contract)), self._lists.get(what.members)
        if found is None or trusted is None:
            missing = "plan with this contract" if found is None else "member list"
            raise Refused(f"{what.run} is launched under a {missing} that is not in the log before it")
        if what.run in self.runs:
            raise Refused(f"{what.run} is launched twice")
        if trusted.members != self.members:
            raise Refused(f"{what.run} is launched under an older member list, {trusted.members.ref}")
        plan, contract = found
        check_members(plan, trusted.members)
        self.halts.require_free("launched", what.run, plan.sites.invite)
        evidence = PlanEvidence() if what.evidence is None else self._evidence.get(what.evidence)
        if evidence is None:
            raise Refused(
                f"{what.run} is launched under evidence {what.evidence}, which is not in the log before it"
            )
        approved = require_approved(plan, contract, evidence, trusted, [plan.approval_rule], at)
        self._pass_policies(plan, contract, approved, at)
        require_champion(plan, self.models, self.runs, self.registry)
        releases = releases_of(plan, contract)
        self.budgets.know(what.releases)
        _require_reserved(what, plan, releases)
        self.gaps.require_adopted(what.run, what.reserved)
        self.budgets.reserve(what.run, what.reserved)
        self.runs[what.run] = RunStory(
            run=what.run,
            plan=plan,
            contract=contract.digest,
            approved=approved,
            releases=releases,
            launch=seq,
            members=trusted.members,
        )

    def _pass_policies(self, plan: Plan, contract: Contract, approved: ApprovedPlan, at: datetime) -> None:
        subject = PlanSubject(name=plan.name, plan=plan.digest, contract=contract.digest)
        made = self._recalled.facts(subject) or {}
        self.policies.require_passed(subject, made | approval_facts(approved), at)

    def _model(self, what: ModelRegistered) -> None:
        run = self._run(what.run)
        versions = [each.version for each in self.models if each.name == what.name]
        documents = (what.artifacts.get(PLAN_FILE), what.artifacts.get(CONTRACT_FILE))
        if (
            not run.is_complete
            or what.name != run.plan.name
            or what.weights != run.weights
            or what.version != len(versions) + 1
            or documents != (run.plan.digest, run.contract)
        ):
            raise Refused(
                f"{what.name}@{what.version} is said to come from {what.run}, which has not made such a model"
            )
        self.models.append(what)
        self.registry.register(what.name, what.version, what.digest, run.approved.author)

    def _gate(self, what: GateJudged, at: datetime) -> None:
        run = self._run(what.verdict.run)
        judge_gate(what, self.registry, run, self._plans[run.plan.digest, run.contract])
        self.policies.require_told(what.name, what.version, what.verdict.policies, at)

    def _releasable(self, name: str, version: int) -> Released:
        """A version as it may be released. Raises Refused where it is not registered or not approved."""
        for each in self.models:
            if (each.name, each.version) == (name, version):
                stage = self.registry.versions[name, version].stage
                if stage not in RELEASABLE:
                    raise Refused(f"{name}@{version} is released, and is {stage}")
                return Released(
                    model=name, version=version, digest=each.digest, artifacts=dict(each.artifacts)
                )
        raise Refused(f"{name}@{version} is released, and was never registered")

    def _happen(self, what: RunEvent) -> None:
        run = self._run(what.run)
        run.take(what)
        match what:
            case SumSettled():
                self.halts.require_free("settled", what.run, what.sites)
                self.budgets.settle(what.run, what.stage, what.sites, what.releases)
            case ReservationGivenUp():
                self.budgets.give_up(what.run, what.releases)
            case RunResumed():
                self.halts.require_free("resumed", what.run)
                self._reserve_again(run, what)
            case RunWitnessed():
                self.witnesses.take(run, what)
            case SiteRefused():
                require_refused(run, what)
            case _:
                pass  # releases nothing

    def _reserve_again(self, run: RunStory, what: RunResumed) -> None:
        self.gaps.require_adopted(run.run, what.reserved)
        self.budgets.reserve(run.run, what.reserved)
        planned = {each[:-1]: each[-1] for each in _planned(run.plan, run.releases)}
        for site, population, stage, release, times in self.budgets.held(run.run):
            if times > planned.get((site, population, stage, release), 0):
                raise Refused(f"{run.run} is resumed, and holds more than its plan releases")

    def _run(self, run: RunId) -> RunStory:
        if run not in self.runs:
            raise Refused(f"{run} was never launched")
        return self.runs[run]


def audit(entries: Iterable[bytes], pinned: SignedRoot) -> Audit:
    """The story that all `entries` tell, from the first to the last that its head has. Raises AuditRefused, and Refused for an end that leaves something out."""
    story = Audit(pinned)
    for seq, data in enumerate(entries):
        story.take(seq, data)
    story.require_whole()
    return story


def _require_reserved(what: RunLaunched, plan: Plan, releases: PlannedReleases | None) -> None:
    """What is reserved is what the plan releases, at every site that it invites, and nothing else."""
    found = sorted(
        (each.site, each.population, each.stage, each.release, each.times) for each in what.reserved
    )
    if found != sorted(_planned(plan, releases)):
        raise Refused(f"{what.run} does not reserve what its plan releases")


def _planned(plan: Plan, releases: PlannedReleases | None) -> Iterator[tuple[str, str, str, str, int]]:
    if releases is None:
        return
    for site in plan.sites.invite:
        for stage in (PREPARE, TRAIN, EVALUATE):
            if times := releases.times(stage):
                yield site, plan.population_of(site), stage, releases.of(stage).digest, times
