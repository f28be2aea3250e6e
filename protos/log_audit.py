"""What a transparency log says, judged by its reader entry by entry: it is believed as far as every entry fits those before it.

1. A run is launched under a plan, a contract and a member list that the log has, and reserves exactly what the plan releases.
2. A sum is settled once, over sites that the plan invites and no fewer than its minimum, for a stage and round that the plan has.
3. A round is committed after the one before, over the very sites that its attempt settled. A run completes with all its rounds.
4. A model comes from a run with all its rounds, under the plan's name.
5. Member lists lead, one after the other, from the root that the reader has pinned.
6. Accounts are replayed (`log_budgets`).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar, assert_never

from protos.contract import Contract
from protos.documents import Document
from protos.log_budgets import Budgets
from protos.log_entries import (
    AttemptVoided,
    CeilingSet,
    LogEntry,
    LoggedDocument,
    MembersSigned,
    ModelRegistered,
    PlanRecorded,
    ReservationGivenUp,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunEnded,
    RunLaunched,
    RunResumed,
    SumSettled,
    What,
)
from protos.membership import MemberList, Membership, check_members
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_releases import PlannedReleases, releases_of
from protos.root import SignedRoot
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, RunId, SiteName

D = TypeVar("D", bound=Document)
At = tuple[str, int, int]
"""Stage, round, attempt."""


class AuditRefused(Refused):
    """An entry that contradicts those before it, or a document in it that is not what it must be."""


@dataclass
class RunStory:
    """A run as the log tells it."""

    run: RunId
    plan: Plan
    releases: PlannedReleases | None
    launched: int
    """The entry of its launch."""
    settled: dict[At, tuple[SiteName, ...]] = field(default_factory=dict)
    committed: int = 0
    survivors: set[SiteName] = field(default_factory=set)
    prepared: bool = False
    state: str = "running"

    @property
    def is_complete(self) -> bool:
        """Whether all rounds of the plan are committed."""
        return self.committed == self.plan.training.rounds

    def require_settled(self, at: At, survivors: tuple[SiteName, ...]) -> None:
        """Check that an attempt was settled over exactly these sites. Raises Refused."""
        if self.settled.get(at) != survivors:
            raise Refused(
                f"{self.run}: attempt {at[2]} at {at[0]} of round {at[1]} was not settled over these sites"
            )


@dataclass
class Audit:
    """The story of a whole log. `take` its entries in order; raises `AuditRefused`."""

    pinned: SignedRoot
    runs: dict[RunId, RunStory] = field(default_factory=dict)
    models: list[ModelRegistered] = field(default_factory=list)
    budgets: Budgets = field(default_factory=Budgets)
    members: MemberList | None = None
    _lists: dict[Digest, MemberList] = field(default_factory=dict)
    _plans: dict[Digest, Plan] = field(default_factory=dict)
    _contracts: dict[Digest, Contract] = field(default_factory=dict)

    def take(self, seq: int, data: bytes) -> None:
        """Judge entry `seq`, from its bytes."""
        kind = "entry"
        try:
            what = LogEntry.from_canonical(data).what
            kind = what.kind
            self._judge(seq, what)
        except CovenantError as refused:
            raise AuditRefused(f"entry {seq} ({kind}): {refused}") from refused

    def _judge(self, seq: int, what: What) -> None:
        match what:
            case MembersSigned():
                self._members(what)
            case PlanRecorded():
                self._plan(what)
            case RunLaunched():
                self._launch(seq, what)
            case CeilingSet():
                self.budgets.set_ceiling(what)
            case ModelRegistered():
                self._model(what)
            case _:
                self._of_run(what)

    def _members(self, what: MembersSigned) -> None:
        listed = _parsed(what.members, Membership).verify(self.pinned).members
        if self.members is not None and listed.version <= self.members.version:
            raise Refused(f"member list {listed.ref} comes after {self.members.ref}")
        self.members = self._lists[what.members.digest] = listed

    def _plan(self, what: PlanRecorded) -> None:
        plan, contract = _parsed(what.plan, Plan), _parsed(what.contract, Contract)
        check_plan(plan, contract)
        self._plans[plan.digest], self._contracts[contract.digest] = plan, contract

    def _launch(self, seq: int, what: RunLaunched) -> None:
        for digest, known, name in (
            (what.plan, self._plans, "plan"),
            (what.contract, self._contracts, "contract"),
            (what.members, self._lists, "member list"),
        ):
            if digest not in known:
                raise Refused(
                    f"{what.run} is launched under {name} {digest}, which is not in the log before it"
                )
        if what.run in self.runs:
            raise Refused(f"{what.run} is launched twice")
        plan, members = self._plans[what.plan], self._lists[what.members]
        if members != self.members:
            raise Refused(f"{what.run} is launched under an older member list, {members.ref}")
        check_members(plan, members)
        releases = releases_of(plan, self._contracts[what.contract])
        self.budgets.know(what.releases)
        _require_reserved(what, plan, releases)
        self.budgets.reserve(what.run, what.reserved)
        self.runs[what.run] = RunStory(run=what.run, plan=plan, releases=releases, launched=seq)

    def _model(self, what: ModelRegistered) -> None:
        run = self._run(what.run)
        if not run.is_complete or what.name != run.plan.name:
            raise Refused(
                f"{what.name}@{what.version} is said to come from {what.run}, which has not made such a model"
            )
        self.models.append(what)

    def _of_run(
        self,
        what: RoundPrepared
        | SumSettled
        | AttemptVoided
        | RoundCommitted
        | RoundEvaluated
        | RunEnded
        | RunResumed
        | ReservationGivenUp,
    ) -> None:
        run = self._run(what.run)
        match what:
            case RunEnded():
                _end(run, what)
            case RunResumed():
                self._resume(run, what)
            case ReservationGivenUp():
                self.budgets.give_up(what.run, what.releases)
            case SumSettled():
                _require_running(run)
                _settle(run, what)
                self.budgets.settle(what.run, what.stage, what.sites, what.releases)
            case RoundPrepared():
                _require_running(run)
                run.require_settled(("prepare", 0, what.attempt), what.survivors)
                run.prepared = True
            case RoundCommitted():
                _require_running(run)
                _commit(run, what)
            case RoundEvaluated():
                _require_running(run)
                _evaluate(run, what)
            case AttemptVoided():
                if what.round <= run.committed:
                    raise Refused(f"{what.run} voids an attempt at round {what.round}, which is committed")
            case unreachable:
                assert_never(unreachable)

    def _resume(self, run: RunStory, what: RunResumed) -> None:
        if run.state not in {"failed", "stopped"}:
            raise Refused(f"{run.run} is resumed, but it is {run.state}")
        run.state = "running"
        self.budgets.reserve(run.run, what.reserved)

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
        for stage in ("prepare", "train", "evaluate"):
            if times := releases.times(stage):
                yield site, plan.population_of(site), stage, releases.of(stage).digest, times


def _require_running(run: RunStory) -> None:
    if run.state != "running":
        raise Refused(f"{run.run} is {run.state}")


def _settle(run: RunStory, what: SumSettled) -> None:
    at = (what.stage, what.round, what.attempt)
    if at in run.settled:
        raise Refused(
            f"{run.run}: attempt {what.attempt} at {what.stage} of round {what.round} is settled twice"
        )
    if not _is_planned(run.plan, what.stage, what.round):
        raise Refused(f"{run.run}: the plan has no {what.stage} in round {what.round}")
    strangers = sorted(set(what.sites) - set(run.plan.sites.invite))
    if strangers or len(set(what.sites)) < run.plan.sites.minimum:
        raise Refused(
            f"{run.run}: a sum over {', '.join(what.sites)}; the plan invites {', '.join(run.plan.sites.invite)}, at least {run.plan.sites.minimum}"
        )
    expected = () if run.releases is None else (run.releases.of(what.stage).digest,)
    if what.releases != expected:
        raise Refused(f"{run.run}: {what.stage} is charged as another release than the plan's")
    run.settled[at] = what.sites
    run.survivors |= set(what.sites)


def _is_planned(plan: Plan, stage: str, number: int) -> bool:
    match stage:
        case "prepare":
            return number == 0
        case "train":
            return 1 <= number <= plan.training.rounds
        case _:
            return plan.evaluates(number)


def _commit(run: RunStory, what: RoundCommitted) -> None:
    if not run.prepared or what.round != run.committed + 1:
        raise Refused(f"{run.run} commits round {what.round} after round {run.committed}")
    run.require_settled(("train", what.round, what.attempt), what.survivors)
    run.committed = what.round


def _evaluate(run: RunStory, what: RoundEvaluated) -> None:
    if what.round > run.committed:
        raise Refused(f"{run.run} evaluates round {what.round}, which is not committed")
    run.require_settled(("evaluate", what.round, what.attempt), what.survivors)


def _end(run: RunStory, what: RunEnded) -> None:
    _require_running(run)
    if what.state == "completed" and not run.is_complete:
        raise Refused(f"{run.run} completed with {run.committed} of {run.plan.training.rounds} rounds")
    run.state = what.state
