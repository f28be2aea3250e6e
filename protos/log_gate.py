"""Verdicts of the gate, as the transparency log tells them: recomputed by whoever audits it, from the plan and the metrics that it has already."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, Protocol

from protos.contract import Contract
from protos.documents import Part
from protos.gates import Evidence, Subject, Verdict, judge
from protos.log_registry import OUT, RegistryStory
from protos.log_registry_events import By, Why
from protos.log_runs import RunStory
from protos.model_approvals import Version
from protos.model_stages import Stage
from protos.names import Name
from protos.plan import Plan
from strategies.errors import Refused
from strategies.ids import Digest, RunId


class ModelNamed(Protocol):
    """A registered model, as its entry names it."""

    @property
    def name(self) -> str:
        """Of the model."""

    @property
    def version(self) -> int:
        """Its number."""

    @property
    def run(self) -> RunId:
        """Where it comes from."""

    @property
    def weights(self) -> Digest:
        """Of the run's last model."""


class GateJudged(Part):
    """The gate judged a version, asked by `by`. What policies say in the verdict is an input of it, which their own entries tell of."""

    kind: Literal["gate"] = "gate"
    name: Name
    version: Version
    verdict: Verdict
    why: Why
    by: By

    @property
    def ref(self) -> str:
        """`lending-default@3`."""
        return f"{self.name}@{self.version}"


def judge_gate(
    what: GateJudged,
    registry: RegistryStory,
    run: RunStory,
    documents: tuple[Plan, Contract],
) -> None:
    """Recompute a verdict on a version of `run`, which had `documents`, and keep it in `registry`. Raises Refused."""
    known = registry.versions.get((what.name, what.version))
    said = what.verdict
    if known is None or (said.model, said.artifacts) != (what.ref, known.digest):
        raise Refused(f"the gate judged {what.ref}, which is not registered with these artifacts before it")
    plan, contract = documents
    subject = Subject(
        ref=what.ref,
        digest=known.digest,
        run=run.run,
        plan=plan,
        contract=contract,
        returned=known.returned,
    )
    again = judge(subject, Evidence.of_rounds(run.metrics, plan.training.rounds), said.policies)
    if not again.is_like(said):
        raise Refused(
            f"the gate's verdict on {what.ref} is not what its run and plan come to: {_difference(again, said)}"
        )
    registry.judge(what.name, what.version, said.digest, passed=said.passed)


def require_in_service(plan: Plan, stage: Stage) -> None:
    """Check that the champion of `plan`, which is in `stage`, was not taken back when a run of it is launched. Raises Refused."""
    if stage in OUT and plan.evaluation.champion is not None:
        raise Refused(
            f"champion {plan.evaluation.champion.model} of plan {plan.name} is {stage}; compare with a version that is neither quarantined nor retired"
        )


def require_champion(
    plan: Plan, models: Iterable[ModelNamed], runs: Mapping[RunId, RunStory], registry: RegistryStory
) -> None:
    """Check that the champion that `plan` names is a model of this log, with the weights, scaling, features, shape and contract of its run, and was not
    taken back. Raises Refused."""
    named = plan.evaluation.champion
    if named is None:
        return
    model = next((each for each in models if f"{each.name}@{each.version}" == named.model), None)
    if model is None:
        raise Refused(f"plan {plan.name} names champion {named.model}, which is not registered before it")
    require_in_service(plan, registry.versions[model.name, model.version].stage)
    run = runs[model.run]
    known = (model.weights, run.scaling, run.contract, run.plan.features, run.plan.model)
    if known != (named.weights, named.scaling, named.contract, named.features, named.shape):
        raise Refused(
            f"plan {plan.name} names champion {named.model} as another model than {model.run} has made"
        )


def _difference(again: Verdict, said: Verdict) -> str:
    ours, theirs = (each.model_dump(mode="json") for each in (again, said))
    return ", ".join(_differing(ours, theirs))


def _differing(ours: dict[str, object], theirs: dict[str, object]) -> Iterable[str]:
    return (f"{key} differs" for key in ours if ours[key] != theirs[key])
