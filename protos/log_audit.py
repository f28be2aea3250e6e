"""What a transparency log says, judged by its reader entry by entry: it is believed as far as every entry fits those before it.

1. A run is launched under a plan and its contract, and the newest member list, which the log has, with the author and the approvals that the plan asks
   for, good at the time; it reserves exactly what the plan releases. Resumed, it holds no more than that.
2. What happens to a run comes in its order (`log_runs`), and is charged to accounts that are replayed (`log_budgets`).
3. A model comes from a run with all its rounds: it has the plan's name, the next version, the last round's weights, and the run's plan and contract.
4. Member lists lead, one after the other, from the root that the reader has pinned, and no root that was left behind comes back.
5. Entries may be missing where the root's quorum declared a gap, after the very head that it names. No run from before goes on after it, and a
   site's accounts are charged again only once its own statement was adopted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, NamedTuple, TypeVar

from protos.approvals import PlanEvidence, require_approved
from protos.contract import Contract
from protos.documents import Document
from protos.gaps import SignedGap, SoundGap
from protos.log_budgets import Budgets
from protos.log_entries import (
    AccountsAdopted,
    CeilingSet,
    GapLogged,
    LogEntry,
    LoggedDocument,
    MembersSigned,
    ModelRegistered,
    PlanRecorded,
    ReservationGivenUp,
    Reserved,
    RunEvent,
    RunLaunched,
    RunResumed,
    SumSettled,
    What,
)
from protos.log_names import origin_of
from protos.log_runs import RunStory
from protos.membership import MemberList, Membership, check_members
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases, releases_of
from protos.root import SignedRoot
from protos.succession import Newest, newest_after
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, RunId, SiteName
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint

PLAN_FILE: Final = "plan.json"
CONTRACT_FILE: Final = "contract.json"
"""The artifacts of a model that are the documents of its run."""
D = TypeVar("D", bound=Document)


class AuditRefused(Refused):
    """An entry that contradicts those before it, or a document in it that is not what it must be."""


class Gap(NamedTuple):
    """A gap that the reader has come to: entry `seq` of the log."""

    seq: int
    sound: SoundGap


@dataclass
class Audit:
    """The story of a whole log. `take` its entries in order; raises `AuditRefused`."""

    pinned: SignedRoot
    runs: dict[RunId, RunStory] = field(default_factory=dict)
    models: list[ModelRegistered] = field(default_factory=list)
    budgets: Budgets = field(default_factory=Budgets)
    gaps: list[Gap] = field(default_factory=list)
    members: MemberList | None = None
    tree: Frontier = field(default_factory=Frontier)
    """Over the entries that were taken."""
    _adopted: set[SiteName] = field(default_factory=set)
    """Sites whose accounts were adopted after the last gap."""
    _lists: dict[Digest, MemberList] = field(default_factory=dict)
    _newest: Newest | None = None
    _plans: dict[tuple[Digest, Digest], tuple[Plan, Contract]] = field(default_factory=dict)
    """Plans with their contracts, by the digests of both."""
    _evidence: dict[Digest, PlanEvidence] = field(default_factory=dict)

    def take(self, seq: int, data: bytes) -> None:
        """Judge entry `seq`, from its bytes."""
        kind = "entry"
        try:
            entry = LogEntry.from_canonical(data)
            kind = entry.what.kind
            self._judge(entry.at, entry.what)
        except CovenantError as refused:
            raise AuditRefused(f"entry {seq} ({kind}): {refused}") from refused
        self.tree, _ = self.tree.append(leaf_hash(data))

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

    def _judge(self, at: datetime, what: What) -> None:
        match what:
            case MembersSigned():
                self._members(what)
            case PlanRecorded():
                self._plan(what)
            case RunLaunched():
                self._launch(at, what)
            case CeilingSet():
                self.budgets.set_ceiling(what)
            case ModelRegistered():
                self._model(what)
            case GapLogged():
                self._gap(what)
            case AccountsAdopted():
                self._adopt(what)
            case _:
                self._happen(what)

    def _members(self, what: MembersSigned) -> None:
        trusted = _parsed(what.members, Membership).verify(self.pinned)
        self._newest, self.members = newest_after(trusted, self._newest), trusted.members
        self._lists[what.members.digest] = trusted.members

    def _gap(self, what: GapLogged) -> None:
        sound = _parsed(what.gap, SignedGap).verify(self.pinned)
        if self._newest is not None and sound.root.version < self._newest.root:
            raise Refused(
                f"it is signed under root version {sound.root.version}, and version {self._newest.root} has been accepted"
            )
        origin = origin_of(self.pinned.root.federation)
        sound.require_after(Checkpoint(origin=origin, size=self.tree.size, root=self.tree.root))
        self.gaps.append(Gap(self.tree.size, sound))
        self._adopted = set()
        for run in self.runs.values():
            run.is_before_gap = True

    def _adopt(self, what: AccountsAdopted) -> None:
        if not self.gaps:
            raise Refused(f"accounts of {what.site} are adopted, and there was no gap")
        if what.site in self._adopted:
            raise Refused(f"accounts of {what.site} are adopted twice after one gap")
        if what.made_at < self.gaps[-1].sound.declared.declared:
            raise Refused(f"the statement of {what.site} was made before the gap was declared")
        self.budgets.know(what.releases)
        self.budgets.adopt(what)
        self._adopted.add(what.site)

    def _require_adopted(self, run: RunId, reserved: Iterable[Reserved]) -> None:
        if not self.gaps:
            return
        for each in reserved:
            if each.site not in self._adopted:
                raise Refused(
                    f"{run} charges {each.site}, whose accounts were not adopted after the gap at entry {self.gaps[-1].seq}"
                )

    def _plan(self, what: PlanRecorded) -> None:
        plan, contract = _parsed(what.plan, Plan), _parsed(what.contract, Contract)
        check_plan(plan, contract)
        self._plans[plan.digest, contract.digest] = plan, contract
        if what.evidence is not None:
            self._evidence[what.evidence.digest] = _parsed(what.evidence, PlanEvidence)

    def _launch(self, at: datetime, what: RunLaunched) -> None:
        found, members = self._plans.get((what.plan, what.contract)), self._lists.get(what.members)
        if found is None or members is None:
            missing = "plan with this contract" if found is None else "member list"
            raise Refused(f"{what.run} is launched under a {missing} that is not in the log before it")
        if what.run in self.runs:
            raise Refused(f"{what.run} is launched twice")
        if members != self.members:
            raise Refused(f"{what.run} is launched under an older member list, {members.ref}")
        plan, contract = found
        check_members(plan, members)
        evidence = PlanEvidence() if what.evidence is None else self._evidence.get(what.evidence)
        if evidence is None:
            raise Refused(
                f"{what.run} is launched under evidence {what.evidence}, which is not in the log before it"
            )
        approved = require_approved(plan, contract, evidence, members, [plan.approval_rule], at)
        releases = releases_of(plan, contract)
        self.budgets.know(what.releases)
        _require_reserved(what, plan, releases)
        self._require_adopted(what.run, what.reserved)
        self.budgets.reserve(what.run, what.reserved)
        self.runs[what.run] = RunStory(
            run=what.run,
            plan=plan,
            contract=contract.digest,
            approved=approved,
            releases=releases,
        )

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

    def _happen(self, what: RunEvent) -> None:
        run = self._run(what.run)
        run.take(what)
        match what:
            case SumSettled():
                self.budgets.settle(what.run, what.stage, what.sites, what.releases)
            case ReservationGivenUp():
                self.budgets.give_up(what.run, what.releases)
            case RunResumed():
                self._reserve_again(run, what)
            case _:
                pass  # releases nothing

    def _reserve_again(self, run: RunStory, what: RunResumed) -> None:
        self._require_adopted(run.run, what.reserved)
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
    """The story that all `entries` tell, from the first. Raises AuditRefused."""
    story = Audit(pinned)
    for seq, data in enumerate(entries):
        story.take(seq, data)
    return story


def _parsed(logged: LoggedDocument, kind: type[D]) -> D:
    return kind.from_canonical(canonical_json(logged.document))


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
