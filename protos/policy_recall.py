"""Facts of plans and models made again from the documents that a transparency log has: what judgements in it are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from protos.approvals import ApprovedPlan, PlanEvidence
from protos.contract import Contract
from protos.log_entries import ModelRegistered
from protos.log_evidence import NoteStory
from protos.log_registry import VersionStory
from protos.log_runs import RunStory
from protos.plan import Plan
from protos.policy_facts import PolicyFacts, metric_facts, plan_facts
from protos.policy_verdicts import ModelSubject, PlanSubject, Subject
from strategies.errors import Refused
from strategies.ids import Digest, RunId


@dataclass(frozen=True, slots=True)
class Recollection:
    """The documents, runs and models of a log, as far as it was read."""

    plans: Mapping[tuple[Digest, Digest], tuple[Plan, Contract]]
    """Plans with their contracts, by the digests of both."""
    runs: Mapping[RunId, RunStory]
    models: Sequence[ModelRegistered]
    notes: NoteStory
    versions: Mapping[tuple[str, int], VersionStory]
    """The same, as they stand."""
    _made: dict[tuple[Digest, Digest], PolicyFacts] = field(default_factory=dict)

    def facts(self, subject: Subject) -> PolicyFacts | None:
        """The facts of a subject that follow from the log; of a plan, without what was said about it; of a model, without its stage. None for a plan that it does not have.

        Raises Refused for a model that is not registered.
        """
        match subject:
            case PlanSubject():
                return self._of_plan((subject.plan, subject.contract))
            case ModelSubject():
                return self._of_model(subject)

    def launched(self, subject: PlanSubject) -> bool:
        """Whether a run of the plan was launched."""
        place = (subject.plan, subject.contract)
        return any((each.plan.digest, each.contract) == place for each in self.runs.values())

    def _of_plan(self, place: tuple[Digest, Digest]) -> PolicyFacts | None:
        if place not in self._made and place in self.plans:
            plan, contract = self.plans[place]
            self._made[place] = plan_facts(plan, contract, PlanEvidence())
        return self._made.get(place)

    def _of_model(self, subject: ModelSubject) -> PolicyFacts:
        for each in self.models:
            if (each.name, each.version) == (subject.name, subject.version):
                run = self.runs[each.run]
                made = self._of_plan((run.plan.digest, run.contract)) or {}
                own: PolicyFacts = {
                    "model.name": each.name,
                    "model.version": each.version,
                    "model.artifacts": sorted(each.artifacts),
                    "model.statements": sorted(map(str, self.notes.kinds(each.name, each.version))),
                    "model.is_signed": self.versions[each.name, each.version].signed is not None,
                    "model.earlier_versions": each.version - 1,
                    "run.witnesses": sorted(run.witnesses),
                    "run.fewest_survivors": run.fewest,
                }
                measured = metric_facts(run.metrics.get(run.plan.training.rounds, {}))
                return made | approval_facts(run.approved) | own | measured
        raise Refused(f"{subject.words} is judged, and is not registered before it")


def approval_facts(approved: ApprovedPlan) -> PolicyFacts:
    """What was said about a plan when it was launched."""
    return {
        "approvals.author": approved.author or "",
        "approvals.officers": [name for name, _ in approved.approved_by],
        "approvals.roles": sorted({str(role) for _, role in approved.approved_by}),
    }
