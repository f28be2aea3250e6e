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
15. A registered version is watched by the reference that its run's evaluation gives; an alarm is of one that is watched, and a model has one at a time that
    is open (`log_monitor`).
16. The coordinator launches retraining by itself only where a pack in effect allows it and a person has adopted the very plan (`log_loop`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from protos.approvals import ApprovedPlan, require_approved
from protos.ceilings import SignedCeiling
from protos.contract import Contract
from protos.gaps import SignedGap
from protos.log_budgets import Budgets
from protos.log_clock import require_in_time
from protos.log_deploy import DeployStory
from protos.log_deploy_events import Deployed, DeployEvent
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
from protos.log_loop import LoopEvent, LoopStory, RetrainingDrafted
from protos.log_made import released, require_made, require_reference
from protos.log_members import MemberStory
from protos.log_monitor import MonitorAdded, MonitorEvent, MonitorStory
from protos.log_names import origin_of
from protos.log_office import OfficeEvent, judge_office
from protos.log_personal import PersonalStory
from protos.log_plans import PlanStory, require_planned, require_reserved
from protos.log_policies import ACTING, PolicyEvent, PolicyStory, in_effect
from protos.log_registry import OUT, RegistryStory
from protos.log_registry_events import ModelAliased, ModelApproved, ModelMoved, ModelSigned
from protos.log_run_events import (
    ReservationGivenUp,
    RoundEvaluated,
    RunEnded,
    RunEvent,
    RunResumed,
    RunWitnessed,
    SiteRefused,
    SumSettled,
)
from protos.log_runs import RunStory
from protos.log_witnesses import Witnesses, require_refused
from protos.membership import MemberList, check_members
from protos.model_release import Released
from protos.model_stages import Stage
from protos.panels_told import require_evaluation
from protos.personal import PersonalStatement
from protos.plan import Plan
from protos.plan_releases import releases_of
from protos.plan_update_bounds import require_reachable
from protos.policy_recall import Recollection, approval_facts
from protos.policy_verdicts import ModelSubject, PlanSubject
from protos.root import SignedRoot
from strategies.analytics.panels import released_panels
from strategies.errors import CovenantError, Refused
from strategies.ids import RunId
from strategies.transparency.notes import Checkpoint

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
    monitors: MonitorStory = field(default_factory=MonitorStory)
    loop: LoopStory = field(default_factory=LoopStory)
    personal: PersonalStory = field(default_factory=PersonalStory)
    budgets: Budgets = field(default_factory=Budgets)
    gaps: GapStory = field(default_factory=GapStory)
    halts: HaltStory = field(default_factory=HaltStory)
    witnesses: Witnesses = field(default_factory=Witnesses)
    """Who has seen this log, and the tree of the entries that were taken."""
    lists: MemberStory = field(init=False)
    _clock: datetime | None = None
    """The latest moment that any entry has."""
    _plans: PlanStory = field(default_factory=PlanStory)
    _recalled: Recollection = field(init=False)

    def __post_init__(self) -> None:
        self.lists = MemberStory(self.pinned)
        versions = self.registry.versions
        self._recalled = Recollection(self._plans.recorded, self.runs, self.models, self.notes, versions)

    @property
    def members(self) -> MemberList | None:
        """The member list in force at the last entry."""
        return self.lists.members

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
        self.loop.require_launched()

    def _judge(self, seq: int, at: datetime, what: What) -> None:  # noqa: C901, PLR0912  (one line a kind)
        self.deployments.require_recalled(what)
        match what:
            case MembersSigned():
                self.lists.take(what)
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
            case ModelMoved():
                self._move(what, at)
            case ModelAliased() | ModelSigned() | ModelApproved():
                self.registry.take(what, self.lists.trusted, at)
            case _ if isinstance(what, PolicyEvent):
                self.policies.take(what, self.lists.trusted, self._recalled, at)
            case GateJudged():
                self._gate(what, at)
            case ModelNoted():
                self.notes.take(what, self.registry.versions, self.lists.trusted, at)
            case _ if isinstance(what, DeployEvent):
                if isinstance(what, Deployed) and (runs := self.deployments.brought_on(what)) is not None:
                    self._enter(runs.model, runs.version, Stage.DEPLOYED, at)
                self.deployments.take(what, self.lists.trusted, self._releasable)
                if isinstance(what, Deployed):
                    self.registry.require_approved(what.releases, self.lists.trusted, at)
            case _ if isinstance(what, MonitorEvent):
                self._monitor(what, at)
            case _ if isinstance(what, LoopEvent):
                self._retrain(what, at)
            case CeilingSet():
                self._ceiling(at, what)
            case Halted() | HaltLifted():
                self.halts.take(what, self.members, self.pinned.root.identity, at)
            case _ if isinstance(what, OfficeEvent):
                judge_office(what, self.lists.trusted, at)
            case _:
                self._happen(what)

    def _move(self, what: ModelMoved, at: datetime) -> None:
        if what.by == ACTING:
            self.policies.require_blocked(what)
        if (what.before, what.to) == _APPROVAL:
            self._enter(what.name, what.version, what.to, at)
        self.registry.take(what, self.lists.trusted, at)
        if Stage.DEPLOYED in {what.before, what.to}:
            self.deployments.require_stage(what)
        if what.to in OUT:
            self.deployments.take_back(what.name, what.version)

    def _enter(self, name: str, version: int, stage: Stage, at: datetime) -> None:
        self.policies.require_entered(ModelSubject(name=name, version=version), stage, self._recalled, at)

    def _ceiling(self, at: datetime, what: CeilingSet) -> None:
        trusted = self.lists.known("a ceiling is decided before any member list says who may decide it")
        self.budgets.set_ceiling(what.decision.read_as(SignedCeiling).require(trusted, at))

    def _gap(self, what: GapLogged) -> None:
        sound = what.gap.read_as(SignedGap).verify(self.pinned)
        self.lists.require_root(sound.root.version)
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
        plan, contract = self._plans.take(what)
        self.policies.require_recalled(PlanSubject.of_plan(plan, contract), self._recalled)

    def _launch(self, seq: int, at: datetime, what: RunLaunched) -> None:
        if what.run in self.runs:
            raise Refused(f"{what.run} is launched twice")
        plan, contract, evidence = self._plans.launched(what)
        trusted = self.lists.in_force(what.members, what.run)
        check_members(plan, trusted.members)
        self.halts.require_free("launched", what.run, plan.sites.invite)
        approved = require_approved(plan, contract, evidence, trusted, [plan.approval_rule], at)
        roles = {str(role) for _, role in approved.approved_by}
        self.loop.launched(what.run, plan.name, plan.digest, contract.digest, roles)
        self._pass_policies(plan, contract, approved, at)
        require_champion(plan, self.models, self.runs, self.registry)
        releases = releases_of(plan, contract)
        self.budgets.know(what.releases)
        require_reserved(what, plan, releases)
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
        subject = PlanSubject.of_plan(plan, contract)
        made = self._recalled.facts(subject) or {}
        self.policies.require_passed(subject, made | approval_facts(approved), at)

    def _model(self, what: ModelRegistered) -> None:
        run = self._run(what.run)
        require_made(what, run, self.models)
        self.models.append(what)
        self.registry.register(what.name, what.version, what.digest, run.approved.author)

    def _monitor(self, what: MonitorEvent, at: datetime) -> None:
        """What windows are compared with is what the run in this log released, not what a registry was changed to."""
        registered = {(each.name, each.version, each.digest) for each in self.models}
        self.monitors.take(what, registered, at, self.lists.trusted)
        if isinstance(what, MonitorAdded):
            made = next(
                each for each in self.models if (each.name, each.version) == (what.model, what.version)
            )
            # Of a run before a gap the metrics may be lost; a model whose run is nowhere was refused when it was registered.
            if (run := self.runs.get(made.run)) is not None and not run.is_before_gap:
                last = run.plan.training.rounds
                require_reference(what, made, released_panels(run.metrics.get(last), run.alone.get(last)))

    def _retrain(self, what: LoopEvent, at: datetime) -> None:
        """Whoever is asked about a draft is the author of a version's plan, whose run is in this log."""
        made = [each for each in self.models if each.name == what.model]
        if isinstance(what, RetrainingDrafted):
            authors = {self.runs[each.run].approved.author for each in made if each.run in self.runs}
            if what.author is not None and authors and what.author not in authors:
                raise Refused(
                    f"{what.draft} is for {what.author}, who is the author of no plan of {what.model}"
                )
        packs = in_effect(self.policies.published.values(), at)
        self.loop.take(what, {(each.name, each.version) for each in made}, self.monitors.alarms, packs, at)

    def _gate(self, what: GateJudged, at: datetime) -> None:
        run = self._run(what.verdict.run)
        judge_gate(what, self.registry, run, self._plans.recorded[run.plan.digest, run.contract])
        subject = ModelSubject(name=what.name, version=what.version)
        self.policies.require_told(subject, what.verdict.policies, self._recalled, at)

    def _releasable(self, name: str, version: int) -> Released:
        return released(name, version, self.models, self.registry.versions)

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
            case RoundEvaluated():
                _, contract = self._plans.recorded[run.plan.digest, run.contract]
                require_evaluation(run.plan, contract, what.metrics, what.panels)
            case RunEnded() if what.tripped is not None:
                _, contract = self._plans.recorded[run.plan.digest, run.contract]
                require_reachable(run.plan, contract, what.tripped.norm)
            case _:
                pass  # releases nothing

    def _reserve_again(self, run: RunStory, what: RunResumed) -> None:
        self.gaps.require_adopted(run.run, what.reserved)
        self.budgets.reserve(run.run, what.reserved)
        require_planned(run, self.budgets.held(run.run))

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
