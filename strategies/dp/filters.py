"""The ceiling of an account, enforced by a Renyi filter: it stays valid when each plan depends on the results of those before.

Feldman and Zrnic 2021 ("Individual privacy accounting via a Renyi filter"): fix an order a and a budget r. If every release, chosen in full
knowledge of all earlier results, is admitted only while the sum of the Renyi divergences at order a stays at most r, then all of them
together have Renyi divergence at most r at order a. It converts to (epsilon, delta) by Canonne, Kamath, Steinke 2020, proposition 12.

1. The order is fixed with the ceiling, before the first release. The best order afterwards would be chosen by looking at the results, and
   cost a union bound over the orders; no method here offers it.
2. A sampler within total variation eta of its law adds (1 + e^epsilon) eta to delta: once for either neighbour, and the second is scaled by
   e^epsilon. A fixed part of delta is set aside for it.
3. A comparison with NaN refuses.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final, Self

from strategies.dp.curves import ORDERS
from strategies.dp.facts import number, require_names
from strategies.dp.units import Guarantee, Neighbours, PrivacyUnit, require_delta
from strategies.errors import UsageError

TOTAL_VARIATION_SHARE: Final = 2**-10
"""Part of delta set aside for the total variation of samplers."""


def delta_for_renyi(delta: float) -> float:
    """What is left of `delta` beside the part set aside for samplers."""
    return delta * (1.0 - TOTAL_VARIATION_SHARE)


def epsilon_from_renyi(renyi: float, order: int, delta: float) -> float:
    """Epsilon at `delta` of a Renyi divergence of at most `renyi` at `order`; 0 for no divergence, never below 0.

    Canonne, Kamath, Steinke 2020, proposition 12.
    """
    if renyi == 0.0:
        return 0.0  # the two laws are equal
    return max(0.0, renyi + _offset(order, delta))


def _offset(order: int, delta: float) -> float:
    return math.log1p(-1.0 / order) - (math.log(delta) + math.log(order)) / (order - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What releases cost one unit: `renyi` divergence in nats at one order, and the `total_variation` of their samplers; both add up."""

    renyi: float
    total_variation: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            renyi=self.renyi + other.renyi, total_variation=self.total_variation + other.total_variation
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """At most (`epsilon`, `delta`) per `unit`, ever, by a Renyi filter at `order`; make one with `fixed`.

    Raises UsageError for NaN, for values outside their bounds, and where the order leaves nothing to spend.
    """

    epsilon: float
    delta: float
    unit: PrivacyUnit
    order: int
    neighbours: Neighbours = Neighbours.ADD_OR_REMOVE_ONE

    def __post_init__(self) -> None:
        if not 0.0 < self.epsilon < math.inf:  # phrased, here and below, so that NaN is refused
            raise UsageError(f"the ceiling's epsilon is {self.epsilon}; use a finite number above 0")
        require_delta(self.delta)
        if not isinstance(self.order, int) or self.order not in ORDERS:
            raise UsageError(f"the filter's order is {self.order}; use one of {', '.join(map(str, ORDERS))}")
        if not self.renyi_budget > 0.0:
            raise UsageError(
                f"epsilon {self.epsilon} at delta {self.delta:g} leaves nothing to spend at order {self.order}; raise epsilon or delta"
            )

    @classmethod
    def fixed(cls, *, epsilon: float, delta: float, unit: PrivacyUnit, order: int | None = None) -> Self:
        """A ceiling with its order fixed: the one given, or the one that admits the most Gaussian releases without sampling.

        Such a release costs in proportion to the order, so that is the order with the largest budget per order.
        """
        if order is None:
            require_delta(delta)
            share = delta_for_renyi(delta)
            order = max(ORDERS, key=lambda each: (epsilon - _offset(each, share)) / each)
        return cls(epsilon=epsilon, delta=delta, unit=unit, order=order)

    @property
    def renyi_budget(self) -> float:
        """The largest Renyi divergence at `order` that is within the ceiling, in nats."""
        return self.epsilon - _offset(self.order, self._delta_for_renyi)

    @property
    def total_variation_budget(self) -> float:
        """The largest sum of the samplers' total variations that delta's part for them covers: that part over 1 + e^epsilon."""
        return self._total_variation_at(self.epsilon)

    @property
    def words(self) -> str:
        """The ceiling, for people: with unit and neighbours, as everywhere."""
        return Guarantee(
            epsilon=self.epsilon, delta=self.delta, unit=self.unit, neighbours=self.neighbours
        ).words

    def admits(self, cost: Cost) -> bool:
        """Whether releases that cost `cost` together stay within the ceiling; False for NaN."""
        return cost.renyi <= self.renyi_budget and cost.total_variation <= self.total_variation_budget

    def fraction(self, cost: Cost) -> float:
        """How much of the ceiling `cost` is: of the Rényi budget or of that for samplers, whichever is more; 1 is all."""
        parts = (
            (cost.renyi, self.renyi_budget),
            (cost.total_variation, self.total_variation_budget),
        )
        # A large epsilon leaves samplers a budget that underflows to 0.
        return max(spent / budget if budget > 0.0 else float(spent > 0.0) for spent, budget in parts)

    def loosens(self, before: Self) -> str:
        """In which respect this ceiling allows more, or counts less, than the one `before`; empty if in none."""
        if not (self.epsilon <= before.epsilon and self.delta <= before.delta):
            return "raising a ceiling"
        if self.unit.max_sites < before.unit.max_sites:
            return "counting a person at fewer sites"
        return ""

    def guarantee(self, cost: Cost) -> Guarantee:
        """What the filter's order promises for `cost` at `delta`: within the ceiling exactly if `admits(cost)`.

        Epsilon is 0 for no cost, and infinite for NaN and where the samplers' total variation exceeds its part of delta.
        """
        epsilon = epsilon_from_renyi(cost.renyi, self.order, self._delta_for_renyi)
        if self.admits(cost):
            epsilon = min(epsilon, self.epsilon)  # not a rounding error above what was admitted
        elif not cost.total_variation <= self._total_variation_at(max(epsilon, self.epsilon)) or math.isnan(
            cost.renyi
        ):
            epsilon = math.inf
        return Guarantee(epsilon=epsilon, delta=self.delta, unit=self.unit, neighbours=self.neighbours)

    def facts(self) -> dict[str, Any]:
        """The ceiling as JSON values; `from_facts` reads it back."""
        return {
            "covenant": "ceiling/v1",
            "epsilon": self.epsilon,
            "delta": self.delta,
            "unit": self.unit.facts(),
            "order": self.order,
            "neighbours": str(self.neighbours),
        }  # fmt: skip

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        """Read `facts()` back, whoever wrote them. Raises UsageError for what is no ceiling, and for anything that is not in one."""
        try:
            if facts["covenant"] != "ceiling/v1":
                raise UsageError(f"a ceiling of format {facts['covenant']!r}; this version reads ceiling/v1")
            require_names(facts, cls, "covenant")
            return cls(
                epsilon=number(facts["epsilon"]),
                delta=number(facts["delta"]),
                unit=PrivacyUnit.from_facts(facts["unit"]),
                order=facts["order"],
                neighbours=Neighbours(facts["neighbours"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"this is no ceiling: {error}") from error

    @property
    def _delta_for_renyi(self) -> float:
        return delta_for_renyi(self.delta)

    def _total_variation_at(self, epsilon: float) -> float:
        inverse = math.exp(-epsilon)
        return self.delta * TOTAL_VARIATION_SHARE * (inverse / (1.0 + inverse))
