"""The facts that policy rules may use: one table of names, types and meanings, and the pure functions that make them from documents.

1. A fact is recorded, or follows from what is. Nothing is asked of people or guessed.
2. A fact that does not exist is left out, such as the epsilon of a plan without privacy: a rule that needs it is an error then, and no error passes.
   `||` and `&&` look at what they need only.
3. A fact that is new is added to `LATER`: logs have judgements from before it, and nobody writes them anew. Such a judgement is believed where the fact is
   what it was of every plan until then, and no rule is decided by a fact that its judgement does not have (`covenant policy recheck`).
4. The facts of a plan follow from plan, contract and evidence alone, and those of a model from what the log has of it besides: an auditor makes all of
   them again.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self, TypeAlias

from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_privacy import Privacy
from protos.plan_releases import forecast, releases_of
from protos.plan_training import GradientSums, PrivateSteps
from protos.policy_pack import Kind
from strategies.dp.units import Guarantee
from strategies.errors import Refused

Value: TypeAlias = bool | int | float | str | list[str] | dict[str, float]
PolicyFacts: TypeAlias = dict[str, Value]
_SAME: Final = 1e-9
"""Relative: figures of two machines may differ in the last bits."""


class FactType(StrEnum):
    """The type of a fact, as CEL names it."""

    BOOL = "bool"
    INT = "int"
    DOUBLE = "double"
    STRING = "string"
    STRINGS = "list(string)"
    NUMBERS = "map(string, double)"


@dataclass(frozen=True, slots=True)
class Fact:
    """A fact by name. One that `of_models` is about models only; `absent` says when there is none."""

    name: str
    type: FactType
    words: str
    of_models: bool = False
    absent: str = ""


_B, _I, _D, _S = FactType.BOOL, FactType.INT, FactType.DOUBLE, FactType.STRING
_L, _N = FactType.STRINGS, FactType.NUMBERS
_PRIVATE: Final = "privacy mode none"

FACTS: Final = (
    Fact("plan.name", _S, "Its name."),
    Fact("plan.purpose", _S, "Its purpose, the label that it names."),
    Fact("plan.features", _L, "The columns that the model sees."),
    Fact("plan.columns", _L, "These, and the columns that the champion sees that it is compared with."),
    Fact("plan.protected", _L, "The protected attributes that it counts groups by, or reweighs by; the model sees none of them."),
    Fact("plan.explanations", _B, "Whether its evaluation sums up attributions by feature."),
    Fact("plan.profile", _B, "Whether its evaluation counts a profile of the features."),
    Fact("plan.sites", _I, "How many sites it invites."),
    Fact("plan.minimum", _I, "The fewest sites whose sum is opened."),
    Fact("plan.colluding", _I, "How many sites may collude; 0 without secure aggregation."),
    Fact("plan.honest_survivors", _I, "The fewest sites in an opened sum that do not collude."),
    Fact("plan.witnesses", _I, "How many sites must witness a run before anything is settled."),
    Fact("plan.aggregation", _S, "`secure` or `plain`."),
    Fact("plan.adversary", _S, "`active`, `semi-honest`, or `none` without secure aggregation."),
    Fact("plan.rule", _S, "What is made of the sites' updates: `mean`, `trimmed-mean`, `median` or `multi-krum`."),
    Fact("plan.has_gate", _B, "Whether a mean update that is opened is held to a norm."),
    Fact("plan.gate_norm", _D, "That norm.", absent="a plan without a gate"),
    Fact("plan.privacy", _S, "`distributed`, `local`, `central` or `none`."),
    Fact("plan.unit", _S, "Whom the privacy figures protect: `record`, `customer`, `site`, or `none`."),
    Fact("plan.exempt", _L, "Stages that are released without noise."),
    Fact("plan.epsilon_limit", _D, "The most that the plan says it may cost.", absent=_PRIVATE),
    Fact("plan.delta_limit", _D, "The delta of that limit.", absent=_PRIVATE),
    Fact("plan.nominal_rows", _I, "The public number of units at a site.", absent="training without noise"),
    Fact("plan.rounds", _I, "How many rounds it trains."),
    Fact("plan.holdout_share", _D, "The share of rows that are held out of training and scored."),
    Fact("plan.asks_privacy_officer", _I, "How many approvals by privacy officers it asks for."),
    Fact("plan.asks_model_risk", _I, "How many approvals by model risk it asks for."),
    Fact("contract.ref", _S, "The data contract, such as `lending-club@1`."),
    Fact("contract.protected", _L, "The attributes that it marks as protected."),
    Fact("contract.has_definition", _B, "Whether it says in words what makes a record positive."),
    Fact("contract.has_freshness", _B, "Whether it says how old the newest record may be."),
    Fact("contract.newest_within_s", _D, "How old, in seconds.", absent="a contract that does not say it"),
    Fact("contract.minimum_rows", _I, "The fewest rows that a site must have; 0 where it does not say."),
    Fact("forecast.epsilon", _D, "What all planned releases cost one unit at most, retries included.", absent=_PRIVATE),
    Fact("forecast.delta", _D, "The delta of that figure.", absent=_PRIVATE),
    Fact("approvals.author", _S, "The officer who signed as the plan's author; empty where nobody did."),
    Fact("approvals.officers", _L, "The officers who approved the plan under this contract."),
    Fact("approvals.roles", _L, "The roles in which they did."),
    Fact("model.name", _S, "Its name.", of_models=True),
    Fact("model.version", _I, "Its version.", of_models=True),
    Fact("model.stage", _S, "Its stage, or the one that it is about to enter.", of_models=True),
    Fact("model.is_checked", _B, "Whether that stage is validated, approved or deployed.", of_models=True),
    Fact("model.serves", _B, "Whether that stage is approved or deployed.", of_models=True),
    Fact("model.artifacts", _L, "The names of its files.", of_models=True),
    Fact("model.metrics", _N, "Its recorded metrics by name, such as `auc`; empty where there are none.", of_models=True),
    Fact("model.calibration_bins", _I, "How many bins of scores its calibration is recorded for.", of_models=True),
    Fact("model.is_signed", _B, "Whether a signature over its files is recorded.", of_models=True),
    Fact("model.earlier_versions", _I, "How many versions of the name are older.", of_models=True),
    Fact("model.champion_compared", _B, "Whether a comparison with the champion is recorded.", of_models=True),
    Fact("model.statements", _L, "What officers have stated of it, signed: `purpose`, `limitations`, `oversight`, `monitoring`, `validation-opinion`.", of_models=True),
    Fact("run.witnesses", _L, "Sites that have witnessed its run in the log.", of_models=True),
    Fact("run.fewest_survivors", _I, "The fewest sites in a committed sum of its run; 0 where none was.", of_models=True),
)  # fmt: skip
"""All facts, in the order in which people read them."""
LATER: Final[Mapping[str, Value]] = {
    "plan.protected": [],
    "plan.explanations": False,
    "plan.profile": False,
    "plan.rule": "mean",
    "plan.has_gate": False,
}
"""Facts that judgements from before them do not have, and what each of them is of all plans that there were then."""


def facts_for(kind: Kind, unknown: Collection[str] = ()) -> tuple[Fact, ...]:
    """The facts that a rule about a plan, or about a model, may use where those that are `unknown` did not exist yet."""
    return tuple(
        each for each in FACTS if (kind == "model" or not each.of_models) and each.name not in unknown
    )


def unknown_to(facts: Mapping[str, Any]) -> frozenset[str]:
    """Facts that did not exist yet when a subject was judged by `facts`: every plan that is judged now has them."""
    return frozenset(LATER.keys() - facts.keys())


def plan_facts(plan: Plan, contract: Contract, evidence: PlanEvidence) -> PolicyFacts:
    """The facts of a plan under its contract; of the evidence, what is said about this very plan. Who said it is judged elsewhere.

    Raises UsageError for noise that nobody can draw, as `check_plan` does.
    """
    said = evidence.about(plan.digest, contract.digest)
    facts: PolicyFacts = {
        "plan.name": plan.name,
        "plan.purpose": plan.purpose,
        "plan.features": list(plan.features),
        "plan.columns": list(plan.columns),
        "plan.protected": list(plan.protected_columns),
        "plan.explanations": plan.evaluation.explanations is not None,
        "plan.profile": plan.evaluation.profile is not None,
        "plan.sites": len(plan.sites.invite),
        "plan.minimum": plan.sites.minimum,
        "plan.honest_survivors": plan.honest_survivors,
        "plan.witnesses": plan.witnesses,
        "plan.rounds": plan.training.rounds,
        "plan.holdout_share": plan.evaluation.holdout.share,
        "plan.asks_privacy_officer": plan.approval_rule.privacy_officer,
        "plan.asks_model_risk": plan.approval_rule.model_risk,
        "approvals.author": "" if said.author is None else said.author.officer,
        "approvals.officers": [each.officer for each in said.approvals],
        "approvals.roles": sorted({str(each.role) for each in said.approvals}),
    }
    return facts | _aggregation(plan) | _privacy(plan) | _forecast(plan, contract) | _contract(contract)


def _aggregation(plan: Plan) -> PolicyFacts:
    chosen, gate = plan.aggregation, plan.update_gate
    facts: PolicyFacts = {
        "plan.aggregation": chosen.mode,
        "plan.rule": chosen.rule_kind,
        "plan.has_gate": gate is not None,
        "plan.colluding": 0,
        "plan.adversary": "none",
    }
    if gate is not None:
        facts["plan.gate_norm"] = gate.update_norm
    if isinstance(chosen, SecureAggregation):
        facts |= {"plan.colluding": chosen.colluding, "plan.adversary": chosen.adversary}
    return facts


def _privacy(plan: Plan) -> PolicyFacts:
    privacy, training = plan.privacy, plan.training
    facts: PolicyFacts = {"plan.privacy": privacy.mode, "plan.unit": "none", "plan.exempt": []}
    if isinstance(privacy, Privacy):
        facts["plan.unit"] = privacy.unit.kind
        facts["plan.exempt"] = [str(each) for each in privacy.exempt]
        facts["plan.epsilon_limit"] = privacy.limit.epsilon
        facts["plan.delta_limit"] = privacy.limit.delta
    if isinstance(training, GradientSums | PrivateSteps):
        facts["plan.nominal_rows"] = training.nominal_rows
    return facts


def _forecast(plan: Plan, contract: Contract) -> PolicyFacts:
    cost = cost_of_plan(plan, contract)
    if cost is None or math.isinf(
        cost.epsilon
    ):  # a cost without bound is no figure, and a rule about it an error
        return {}
    return {"forecast.epsilon": cost.epsilon, "forecast.delta": cost.delta}


def cost_of_plan(plan: Plan, contract: Contract) -> Guarantee | None:
    """What the plan costs one unit at most; None without privacy."""
    releases = releases_of(plan, contract)
    if releases is None or not isinstance(plan.privacy, Privacy):
        return None
    return forecast(releases, plan.privacy)


def _contract(contract: Contract) -> PolicyFacts:
    facts: PolicyFacts = {
        "contract.ref": contract.ref,
        "contract.protected": list(contract.protected or ()),
        "contract.has_definition": contract.target.definition is not None,
        "contract.has_freshness": contract.freshness is not None,
        "contract.minimum_rows": contract.minimum_rows or 0,
    }
    if contract.freshness is not None:
        facts["contract.newest_within_s"] = contract.freshness.newest_within
    return facts


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedModel:
    """What is recorded of a registered version and its run, beside the documents of the run. `stage` is the one that it is judged for."""

    name: str
    version: int
    stage: str
    artifacts: tuple[str, ...]
    metrics: Mapping[str, Any]
    is_signed: bool
    earlier_versions: int
    statements: tuple[str, ...]
    witnesses: tuple[str, ...]
    fewest_survivors: int

    def at(self, stage: str) -> Self:
        """The same, about to enter `stage`."""
        return replace(self, stage=stage)

    def facts(self) -> PolicyFacts:
        """As rules see them, without those of the plan."""
        facts: PolicyFacts = {
            "model.name": self.name,
            "model.version": self.version,
            "model.artifacts": sorted(self.artifacts),
            "model.is_signed": self.is_signed,
            "model.earlier_versions": self.earlier_versions,
            "model.statements": sorted(self.statements),
            "run.witnesses": sorted(self.witnesses),
            "run.fewest_survivors": self.fewest_survivors,
        }
        return facts | stage_facts(self.stage) | metric_facts(self.metrics)


def stage_facts(stage: str) -> PolicyFacts:
    """What follows from the stage that a version has, or is about to enter."""
    return {
        "model.stage": str(stage),
        "model.is_checked": stage in {"validated", "approved", "deployed"},
        "model.serves": stage in {"approved", "deployed"},
    }


def metric_facts(metrics: Mapping[str, Any]) -> PolicyFacts:
    """What follows from the metrics of a run's last round."""
    bins = metrics.get("calibration")
    return {
        "model.metrics": _numbers(metrics),
        "model.calibration_bins": len(bins) if isinstance(bins, list | tuple) else 0,
        "model.champion_compared": metrics.get("champion") is not None,
    }


def _numbers(metrics: Mapping[str, Any]) -> dict[str, float]:
    return {
        name: float(value)
        for name, value in sorted(metrics.items())
        if isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    }


def require_same(recorded: Mapping[str, Any], made: Mapping[str, Value], what: str) -> None:
    """Check that `recorded` facts are those `made` again from documents, each of them and none besides, but for those that did not exist yet and would have
    said nothing. Raises Refused."""
    known = {each.name for each in FACTS}
    for name in recorded:
        if name not in known:
            raise Refused(f"{what} is judged by {name}, which is no fact")
        if name not in made:
            raise Refused(f"{what} is judged by {name}, which it does not have")
    for name, value in made.items():
        if name not in recorded and name in LATER and _is_same(LATER[name], value):
            continue
        if name not in recorded or not _is_same(recorded[name], value):
            raise Refused(f"{what} is judged by {name} {recorded.get(name)!r}, and it is {value!r}")


def _is_same(one: Any, other: Value) -> bool:  # noqa: ANN401  (whatever an entry says)
    if isinstance(other, float):
        return (
            isinstance(one, int | float)
            and not isinstance(one, bool)
            and math.isclose(one, other, rel_tol=_SAME)
        )
    return type(one) is type(other) and bool(one == other)
