"""Noise of preparation and evaluation by shares of a budget: of Rényi divergence at one order, where costs add up.

An epsilon cannot be shared out. Which order suits depends on the noise, and the other way round: the search goes on until the order stays.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_costs import required_releases
from protos.plan_dials import PER_MULTIPLIER, Dial, fits, noise_dial, private, with_noise
from protos.plan_privacy import Privacy
from protos.plan_releases import EVALUATE, PREPARE, best_order
from strategies.dp.budget import cost_of
from strategies.dp.filters import Ceiling
from strategies.errors import UsageError

Split = Mapping[str, float]
"""Which share of the budget a stage's noise is made for; keys are those of `STAGES`."""

STAGES: Final = {"preparation": PREPARE, "evaluation": EVALUATE}
ADVISED_SHARE: Final = 0.1
_MOST_TRIES: Final = 6
_MAGNITUDES: Final = (3, 6, 12, 24, 48, 96)


def check_split(privacy: Privacy, split: Split) -> None:
    """Raise UsageError unless each share is above 0, of a stage that has noise, and training is left something."""
    for stage, share in split.items():
        if stage not in STAGES:
            raise UsageError(
                f"{stage!r} takes no share of a budget; use preparation and evaluation: training gets what they leave"
            )
        if stage in privacy.exempt:
            raise UsageError(
                f"the plan exempts {stage}, which has no noise to fit; leave it out of the split"
            )
        if not 0.0 < share < 1.0:  # phrased so that NaN is refused
            raise UsageError(
                f"the share of {stage} is {share}; use a number above 0 and below 1, such as {ADVISED_SHARE}"
            )
    if not 0.0 < math.fsum(split.values()) < 1.0:
        raise UsageError(
            f"the shares add up to {math.fsum(split.values()):g}; they must leave training something: use less than 1 in all"
        )


def shared_out(plan: Plan, contract: Contract, turned: Dial, split: Split) -> Plan | None:
    """`plan` with the noise that makes each stage of `split` cost its share, at the order that suits what the dial then allows.

    Which order that is depends on the noise, and the other way round: go on until the order stays, and keep where the dial gets furthest.
    None where no such noise leaves the dial anything.
    """
    best: tuple[int, Plan] | None = None
    for start in _first_orders(private(plan)):
        order = start
        for _ in range(_MOST_TRIES):
            shared = _with_shares(plan, contract, split, order)
            found = None if shared is None else turned.furthest(shared, lambda each: fits(each, contract))
            if shared is None or found is None:
                break
            far = abs(found - turned.dearest)
            if best is None or far < best[0]:
                best = far, shared
            before, order = order, _best_order(turned.turned(shared, found), contract)
            if order == before:
                break
        if best is not None:
            return best[1]
    return None


def _first_orders(privacy: Privacy) -> tuple[int, ...]:
    """The order at which the budget bears the most Gaussian releases without sampling; failing that, a few of all magnitudes."""
    limit = privacy.limit
    try:
        suited = Ceiling.fixed(epsilon=limit.epsilon, delta=limit.delta, unit=privacy.unit.unit).order
    except UsageError:  # it bears nothing at any order
        return ()
    return (suited, *_MAGNITUDES)


def _best_order(plan: Plan, contract: Contract) -> int:
    return best_order(required_releases(plan, contract).planned(), private(plan).limit)


def _with_shares(plan: Plan, contract: Contract, split: Split, order: int) -> Plan | None:
    """`plan` with the least noise in each stage of `split` that keeps it within its share at `order`; None if there is no such noise."""
    limit = private(plan).limit
    try:
        ceiling = Ceiling.fixed(
            epsilon=limit.epsilon, delta=limit.delta, unit=private(plan).unit.unit, order=order
        )
    except UsageError:  # this order leaves nothing to share out
        return None
    # A stage whose noise cannot be drawn shall not be in the way of another.
    silent = with_noise(plan, {**dict.fromkeys(split), "training": 1.0})
    multipliers: dict[str, float | None] = {}
    for stage, share in split.items():
        most = share * ceiling.renyi_budget
        within = _Within(contract=contract, stage=STAGES[stage], order=order, renyi=most)
        found = noise_dial(silent, contract, stage).furthest(silent, within)
        if found is None:
            return None
        multipliers[stage] = found / PER_MULTIPLIER
    return with_noise(plan, multipliers)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Within:
    """Whether one stage of a plan costs at most `renyi` at `order`, retries included."""

    contract: Contract
    stage: str
    order: int
    renyi: float

    def __call__(self, plan: Plan) -> bool:
        try:
            planned = required_releases(plan, self.contract)
            cost = cost_of({planned.of(self.stage): planned.times(self.stage)}, self.order)
        except UsageError:  # no sampler or no theorem for this noise
            return False
        return cost.renyi <= self.renyi
