"""What changed from one plan to another, in sentences for whoever has to agree again, and which of it protects less.

1. Every field of a plan has words here (a test walks them), so that no change goes untold.
2. A change protects less if, all else alike, more is released, to more parties, with less noise, for another purpose, or fewer people agree to it.
   Where a field cannot be compared, such as another contract, it is told as if it did.
3. What both plans cost is compared beside the fields, because a cost follows from many of them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_costs import guarantee_of
from protos.plan_gates import Gate
from protos.plan_privacy import Privacy
from protos.plan_releases import releases_of
from strategies.dp.units import Guarantee

Values = Mapping[str, Any]
Gates = tuple[Mapping[str, Any], ...]
Loosens = Callable[[Any, Any], bool]


class Part(StrEnum):
    """What a field is about, in the order in which it is told."""

    WHO = "who takes part"
    WHAT = "what for, and from which data"
    RELEASED = "what is released, and what it costs"
    SEEN = "who sees what"
    TRAINING = "training"
    GATES = "how the model is judged"
    APPROVALS = "who must approve"


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One field that differs; `old` or `new` is None where the plan does not have it. `field` is its path in the document."""

    part: Part
    field: str
    sentence: str
    old: Any
    new: Any
    loosens: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """What changed; `cost_old` and `cost_new` are of the whole plans to one unit at one site, None in privacy mode none."""

    changes: tuple[Change, ...]
    cost_old: Guarantee | None
    cost_new: Guarantee | None

    @property
    def costs_more(self) -> bool:
        """Whether the new plan costs a unit more, or promises nothing where the old one did; also where the two are not comparable."""
        if self.cost_old is None or self.cost_new is None:
            return self.cost_new is None and self.cost_old is not None
        comparable = (self.cost_old.delta, self.cost_old.unit) == (self.cost_new.delta, self.cost_new.unit)
        return not (comparable and self.cost_new.epsilon <= self.cost_old.epsilon)

    @property
    def loosens(self) -> bool:
        """Whether anything protects less than before."""
        return any(each.loosens for each in self.changes) or self.costs_more


@dataclass(frozen=True, slots=True)
class _Field:
    part: Part
    words: str
    loosens: Loosens


def _never(_old: object, _new: object) -> bool:
    return False


def _always(_old: object, _new: object) -> bool:
    return True


def _more(old: float | None, new: float | None) -> bool:
    return old is not None and new is not None and not new <= old


def _less(old: float | None, new: float | None) -> bool:
    return old is not None and new is not None and not new >= old


def _further(old: tuple[object, ...] | None, new: tuple[object, ...] | None) -> bool:
    return bool(set(new or ()) - set(old or ()))


def _appears(old: object, new: object) -> bool:
    return old is None and new is not None


def _further_back(old: Gates | None, new: Gates | None) -> bool:
    """Whether a gate is gone, or asks for less."""

    def strict(gates: Gates | None) -> dict[tuple[str, object], float]:
        return {
            (each["metric"], each["over"]): -each["at_most"] if each["at_least"] is None else each["at_least"]
            for each in gates or ()
        }

    before, after = strict(old), strict(new)
    return any(not after.get(key, -math.inf) >= bound for key, bound in before.items())


def _towards(*order: str) -> Loosens:
    """Whether a word comes later in `order`, from what protects most to what protects least; what is not in it counts last."""

    def loosens(old: str, new: str) -> bool:
        places = [order.index(each) if each in order else len(order) for each in (old, new)]
        return places[1] > places[0]

    return loosens


FIELDS: Final[Mapping[str, _Field]] = {
    "covenant": _Field(Part.WHAT, "The version of the document", _always),
    "name": _Field(Part.WHAT, "The name of the plan and its model", _never),
    "purpose": _Field(Part.WHAT, "The purpose", _always),
    "contract": _Field(Part.WHAT, "The data contract", _always),
    "features": _Field(Part.WHAT, "The columns that are read", _further),
    "sites.members": _Field(Part.WHO, "The member list", _never),
    "sites.invite": _Field(Part.WHO, "The invited sites", _never),
    "sites.minimum": _Field(Part.WHO, "The fewest sites in a sum", _less),
    "sites.witnesses": _Field(Part.WHO, "The fewest sites that witness a run in the log", _less),
    "sites.join_within": _Field(Part.WHO, "The seconds that sites have to join", _never),
    "sites.weights": _Field(Part.WHO, "What each site counts in the mean", _never),
    "sites.populations": _Field(Part.WHO, "The populations whose accounts are charged", _always),
    "model.kind": _Field(Part.TRAINING, "The kind of model", _never),
    "model.hidden": _Field(Part.TRAINING, "The widths of the model's layers", _never),
    "training.component": _Field(Part.TRAINING, "The training's behaviour version", _never),
    "training.algorithm": _Field(Part.TRAINING, "The algorithm", _towards("dp-sgd", "dp-fedsgd")),
    "training.server_optimiser.kind": _Field(Part.TRAINING, "The server's optimiser", _never),
    "training.server_optimiser.learning_rate": _Field(Part.TRAINING, "The server's learning rate", _never),
    "training.server_optimiser.momentum": _Field(Part.TRAINING, "The server's momentum", _never),
    "training.server_optimiser.beta1": _Field(Part.TRAINING, "The server's beta1", _never),
    "training.server_optimiser.beta2": _Field(Part.TRAINING, "The server's beta2", _never),
    "training.server_optimiser.tau": _Field(Part.TRAINING, "The server's tau", _never),
    "training.rounds": _Field(Part.RELEASED, "The rounds, each of which is released", _more),
    "training.class_weights.negative": _Field(
        Part.TRAINING, "What an example of the negative class counts", _never
    ),
    "training.class_weights.positive": _Field(
        Part.TRAINING, "What an example of the positive class counts", _never
    ),
    "training.round_deadline": _Field(Part.TRAINING, "The seconds until the deadline of a round", _never),
    "training.seed": _Field(Part.TRAINING, "The seed", _never),
    "training.proximal_mu": _Field(Part.TRAINING, "The proximal term", _never),
    "training.local_epochs": _Field(Part.TRAINING, "The passes of a site over its rows in a round", _never),
    "training.batch_size": _Field(Part.TRAINING, "The batch size", _never),
    "training.learning_rate": _Field(Part.TRAINING, "The sites' learning rate", _never),
    "training.l2": _Field(Part.TRAINING, "The weight of the L2 penalty", _never),
    "training.expected_batch": _Field(Part.RELEASED, "The units expected in a step", _more),
    "training.nominal_rows": _Field(Part.RELEASED, "The units that a site is taken to have", _less),
    "training.clip": _Field(Part.TRAINING, "The norm that gradients are clipped to", _never),
    "training.rotation": _Field(Part.TRAINING, "The rotation of gradient sums", _never),
    "training.local_steps": _Field(Part.RELEASED, "The noisy steps of a site in a round", _more),
    "aggregation.mode": _Field(Part.SEEN, "Aggregation", _towards("secure", "plain")),
    "aggregation.adversary": _Field(
        Part.SEEN, "The coordinator that secure aggregation withstands", _towards("active", "semi-honest")
    ),
    "aggregation.suite": _Field(Part.SEEN, "The ciphers of secure aggregation", _never),
    "aggregation.colluding": _Field(Part.SEEN, "The sites that may collude with the coordinator", _less),
    "aggregation.update_range": _Field(Part.TRAINING, "The range that updates are clipped to", _never),
    "aggregation.dropouts": _Field(Part.SEEN, "The share of sites that may stop", _more),
    "privacy.mode": _Field(
        Part.RELEASED, "The privacy mode", _towards("local", "distributed", "central", "none")
    ),
    "privacy.unit.kind": _Field(
        Part.RELEASED, "Whom figures protect", _towards("site", "customer", "record")
    ),
    "privacy.unit.column": _Field(Part.RELEASED, "The column that tells customers apart", _always),
    "privacy.unit.max_rows": _Field(Part.RELEASED, "The rows of a unit that count", _never),
    "privacy.unit.max_sites": _Field(
        Part.RELEASED, "The sites at which a person's rows may be, and are charged", _less
    ),
    "privacy.neighbours": _Field(Part.RELEASED, "What neighbours are", _always),
    "privacy.limit.epsilon": _Field(Part.RELEASED, "The limit's epsilon", _more),
    "privacy.limit.delta": _Field(Part.RELEASED, "The limit's delta", _more),
    "privacy.noise.training": _Field(Part.RELEASED, "The noise multiplier of training", _less),
    "privacy.noise.preparation": _Field(Part.RELEASED, "The noise multiplier of preparation", _less),
    "privacy.noise.evaluation": _Field(Part.RELEASED, "The noise multiplier of evaluation", _less),
    "privacy.retries": _Field(Part.RELEASED, "The failed attempts that are paid for in advance", _more),
    "privacy.exempt": _Field(Part.RELEASED, "The stages that are released without noise", _further),
    "evaluation.every": _Field(
        Part.GATES, "The rounds from one evaluation, which is released, to the next", _less
    ),
    "evaluation.score_bins": _Field(Part.GATES, "The score bins of an evaluation", _more),
    "evaluation.holdout.by": _Field(Part.GATES, "The column that tells held-out rows apart", _never),
    "evaluation.holdout.share": _Field(Part.GATES, "The share of rows that is held out", _never),
    "evaluation.holdout.salt": _Field(Part.GATES, "The salt of the hold-out", _never),
    "evaluation.champion.model": _Field(
        Part.GATES,
        "The champion that scores the held-out rows beside the model, a second set of counts",
        _appears,
    ),
    "evaluation.champion.weights": _Field(Part.GATES, "The champion's weights", _never),
    "evaluation.champion.scaling": _Field(Part.GATES, "The champion's scaling", _never),
    "evaluation.champion.contract": _Field(Part.GATES, "The contract of the champion", _never),
    "evaluation.champion.features": _Field(Part.WHAT, "The columns that the champion reads", _further),
    "evaluation.champion.shape.kind": _Field(Part.GATES, "The champion's kind of model", _never),
    "evaluation.champion.shape.hidden": _Field(Part.GATES, "The widths of the champion's layers", _never),
    "gates": _Field(Part.GATES, "What the model must reach to be validated", _further_back),
    "approvals.privacy_officer": _Field(Part.APPROVALS, "The privacy officers who must approve", _less),
    "approvals.model_risk": _Field(Part.APPROVALS, "The people of model risk who must approve", _less),
    "approvals.valid_for": _Field(Part.APPROVALS, "The seconds that an approval may be good at most", _more),
}
"""By the path of the field in the document."""
_EVERY: Final = "evaluation.every"
_WHOLE: Final = frozenset({"sites.weights", "sites.populations", "gates"})
"""Mappings by site, and all gates together, which are one field each."""


def diff(old: Plan, old_contract: Contract, new: Plan, new_contract: Contract) -> PlanDiff:
    """What changed from `old` to `new`. Raises UsageError where a plan does not fit its contract."""
    found = tuple(changes(values_of(old), values_of(new)))
    if _evaluations(new) <= _evaluations(old):
        # Fewer rounds apart, but as many releases: the plan has fewer rounds.
        found = tuple(replace(each, loosens=each.loosens and each.field != _EVERY) for each in found)
    return PlanDiff(
        changes=found,
        cost_old=_cost(old, old_contract),
        cost_new=_cost(new, new_contract),
    )


def _evaluations(plan: Plan) -> int:
    return sum(plan.evaluates(number) for number in range(1, plan.training.rounds + 1))


def values_of(plan: Plan) -> Values:
    """The fields of a plan by their paths, what is left out with its default."""
    whole = plan.model_copy(update={"approvals": plan.approval_rule})
    return dict(_flat(whole.model_dump(), ""))


def _flat(tree: Mapping[str, Any], above: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        path = f"{above}{key}"
        if isinstance(value, Mapping) and path not in _WHOLE:
            yield from _flat(value, f"{path}.")
        elif value is not None:
            yield path, value


def changes(old: Values, new: Values) -> Iterator[Change]:
    """The fields that differ, by what they are about."""
    order = list(FIELDS)
    paths = [path for path in {**old, **new} if old.get(path) != new.get(path)]
    for path in sorted(paths, key=lambda each: (list(Part).index(FIELDS[each].part), order.index(each))):
        before, after, field = old.get(path), new.get(path), FIELDS[path]
        yield Change(
            part=field.part,
            field=path,
            sentence=_sentence(field.words, before, after),
            old=before,
            new=after,
            loosens=field.loosens(before, after),
        )


def _sentence(words: str, old: object, new: object) -> str:
    if isinstance(old, tuple | None) and isinstance(new, tuple | None):
        gained_or_lost = _gained_and_lost(words, old or (), new or ())
        if gained_or_lost:
            return gained_or_lost
    if old is None:
        return f"{words}: {shown(new)}, where there was nothing."
    if new is None:
        return f"{words}: nothing, where it was {shown(old)}."
    return f"{words}: {shown(new)}, where it was {shown(old)}."


def _gained_and_lost(words: str, old: tuple[object, ...], new: tuple[object, ...]) -> str:
    """Of a list whose members, and not their order, differ; empty for another."""
    gained = shown(tuple(each for each in new if each not in old))
    lost = shown(tuple(each for each in old if each not in new))
    if not gained and not lost:
        return ""
    if not lost:
        return f"{words}: {gained} as well."
    if not gained:
        return f"{words}: {lost} no more."
    return f"{words}: {gained} as well, and {lost} no more."


def shown(value: object) -> str:
    """A value for people."""
    match value:
        case {"metric": _, "at_least": _, "at_most": _}:
            return Gate.model_validate(value).words
        case tuple():
            return ", ".join(map(shown, value))
        case Mapping():
            return ", ".join(f"{key} {shown(each)}" for key, each in sorted(value.items())) or "none"
        case float():
            return f"{value:g}"
        case _:
            return str(value)


def _cost(plan: Plan, contract: Contract) -> Guarantee | None:
    planned = releases_of(plan, contract)
    if planned is None or not isinstance(plan.privacy, Privacy):
        return None
    return guarantee_of(planned.planned(), plan.privacy.limit, plan.privacy.unit.unit)
