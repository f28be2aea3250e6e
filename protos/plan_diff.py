"""What changed from one plan to another, in sentences for whoever has to agree again, and which of it protects less.

Fields are compared one by one (`plan_fields`), and what both plans cost beside them, because a cost follows from many.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_costs import guarantee_of
from protos.plan_fields import FIELDS, Part
from protos.plan_gates import Gate
from protos.plan_privacy import Privacy
from protos.plan_releases import releases_of
from strategies.dp.units import Guarantee

Values = Mapping[str, Any]


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


_EVERY: Final = "evaluation.every"
_WHOLE: Final = frozenset({"sites.weights", "sites.populations", "training.reweigh.weights", "gates"})
"""Mappings by site or group, and all gates together, which are one field each."""


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
