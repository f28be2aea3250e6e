"""Plans as the transparency log tells them: the documents that runs are launched under, and what each launch reserves."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.log_entries import PlanRecorded, RunLaunched
from protos.log_runs import RunStory
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases
from strategies.errors import Refused
from strategies.ids import Digest


@dataclass
class PlanStory:
    """The documents of a log. `take` entries in order; raises Refused."""

    recorded: dict[tuple[Digest, Digest], tuple[Plan, Contract]] = field(default_factory=dict)
    """Plans with their contracts, by the digests of both."""
    _evidence: dict[Digest, PlanEvidence] = field(default_factory=dict)

    def take(self, what: PlanRecorded) -> tuple[Plan, Contract]:
        """A plan and its contract, which fit each other, with what was said about them."""
        plan, contract = what.plan.read_as(Plan), what.contract.read_as(Contract)
        check_plan(plan, contract)
        self.recorded[plan.digest, contract.digest] = plan, contract
        if what.evidence is not None:
            self._evidence[what.evidence.digest] = what.evidence.read_as(PlanEvidence)
        return plan, contract

    def launched(self, what: RunLaunched) -> tuple[Plan, Contract, PlanEvidence]:
        """What a run is launched under. Raises Refused where the log does not have it."""
        found = self.recorded.get((what.plan, what.contract))
        if found is None:
            raise Refused(
                f"{what.run} is launched under a plan with this contract that is not in the log before it"
            )
        evidence = PlanEvidence() if what.evidence is None else self._evidence.get(what.evidence)
        if evidence is None:
            raise Refused(
                f"{what.run} is launched under evidence {what.evidence}, which is not in the log before it"
            )
        return *found, evidence


def require_reserved(what: RunLaunched, plan: Plan, releases: PlannedReleases | None) -> None:
    """Check that what is reserved is what the plan releases, at every site that it invites, and nothing else. Raises Refused."""
    found = sorted(
        (each.site, each.population, each.stage, each.release, each.times) for each in what.reserved
    )
    if found != sorted(_planned(plan, releases)):
        raise Refused(f"{what.run} does not reserve what its plan releases")


def require_planned(run: RunStory, held: Iterable[tuple[str, str, str, str, int]]) -> None:
    """Check that a run that is resumed holds no more than its plan releases. Raises Refused."""
    planned = {each[:-1]: each[-1] for each in _planned(run.plan, run.releases)}
    for site, population, stage, release, times in held:
        if times > planned.get((site, population, stage, release), 0):
            raise Refused(f"{run.run} is resumed, and holds more than its plan releases")


def _planned(plan: Plan, releases: PlannedReleases | None) -> Iterator[tuple[str, str, str, str, int]]:
    if releases is None:
        return
    for site in plan.sites.invite:
        for stage in (PREPARE, TRAIN, EVALUATE):
            if times := releases.times(stage):
                yield site, plan.population_of(site), stage, releases.of(stage).digest, times
