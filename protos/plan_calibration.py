"""Noise, rounds or sampling of a plan, fitted to a privacy budget with the very check that plans are held to.

1. A calibrated plan states the budget as its limit, and passes its own check (`plan_releases.require_limit`).
2. A budget that nothing fits is refused, with what would fit.
3. Shares of a budget are shares of Rényi divergence at one order, where costs add up; an epsilon cannot be shared out.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_costs import guarantee_of, required_releases
from protos.plan_dials import Dial, Vary, dial, noise_dial, with_limit
from protos.plan_privacy import Limit, Privacy
from protos.plan_releases import EVALUATE, PREPARE, best_order, require_limit
from protos.plan_training import GradientSums, PrivateSteps
from protos.yaml_edit import KeyPath
from strategies.dp.budget import cost_of
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee, require_delta
from strategies.errors import UsageError

Split = Mapping[str, float]
"""Which share of the budget a stage's noise is made for; keys are `preparation` and `evaluation`."""

MOST_EPSILON: Final = 1000.0
_STAGES: Final = {"preparation": PREPARE, "evaluation": EVALUATE}
_ADVISED_SHARE: Final = 0.1
_MOST_TRIES: Final = 6
_MAGNITUDES: Final = (3, 6, 12, 24, 48, 96)


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """The calibrated `plan`, and what it cost `before` and costs `after`, both at the same delta."""

    plan: Plan
    vary: Vary
    before: Guarantee
    after: Guarantee


def calibrate(
    plan: Plan,
    contract: Contract,
    *,
    epsilon: float,
    delta: float | None = None,
    vary: Vary = Vary.NOISE,
    split: Split | None = None,
) -> Calibration:
    """Fit `vary` so that all that `plan` releases costs at most (`epsilon`, `delta`) per the plan's own unit; `delta` is the plan's if None.

    It takes the least noise, the most rounds or the largest expected batch that fits. `split` fits the noise of preparation and evaluation
    first, to their shares of the budget. Raises UsageError for values out of bounds, for a plan without privacy, and where nothing fits.
    """
    privacy = _private(plan)
    limit = _limit(epsilon, privacy.limit.delta if delta is None else delta)
    if split is not None:
        _check_split(privacy, split)
    limited = with_limit(plan, limit)
    found = _fitted(limited, contract, vary, split)
    if found is None:
        raise UsageError(_impossible(limited, contract, vary, split))
    fitted = Plan.from_canonical(found.canonical)
    require_limit(fitted, contract)
    return Calibration(
        plan=fitted,
        vary=vary,
        before=_cost(plan, contract, limit),
        after=_cost(fitted, contract, limit),
    )


def _fitted(plan: Plan, contract: Contract, vary: Vary, split: Split | None) -> Plan | None:
    """`plan` with what `vary` names as dear as its limit allows; None if nothing fits."""
    turned = dial(plan, contract, vary)
    start = plan if split is None else _shared_out(plan, contract, turned, split)
    found = None if start is None else turned.furthest(start, lambda each: _fits(each, contract))
    return None if start is None or found is None else turned.turned(start, found)


def values_of(plan: Plan) -> Mapping[KeyPath, float]:
    """Every number of a private plan that calibration may change, by the keys under which it stands in the document."""
    privacy, rule = _private(plan), plan.training
    found: dict[KeyPath, float] = {
        ("privacy", "noise", stage): multiplier
        for stage, multiplier in privacy.noise.model_dump(exclude_none=True).items()
    }
    found["privacy", "limit", "epsilon"] = privacy.limit.epsilon
    found["privacy", "limit", "delta"] = privacy.limit.delta
    found["training", "rounds"] = rule.rounds
    found["evaluation", "every"] = plan.evaluation.every
    if isinstance(rule, GradientSums | PrivateSteps):
        found["training", "expected_batch"] = rule.expected_batch
    return found


def _private(plan: Plan) -> Privacy:
    if not isinstance(plan.privacy, Privacy):
        raise UsageError(
            f"plan {plan.name} has privacy mode none: nothing protects a person's rows, and there is nothing to calibrate; choose mode "
            "distributed, local or central in `privacy`"
        )
    return plan.privacy


def _limit(epsilon: float, delta: float) -> Limit:
    if not 0.0 < epsilon <= MOST_EPSILON:  # phrased so that NaN is refused
        raise UsageError(
            f"epsilon is {epsilon}; use a number above 0 and at most {MOST_EPSILON:g}, such as 4"
        )
    require_delta(delta)
    return Limit(epsilon=epsilon, delta=delta)


def _fits(plan: Plan, contract: Contract) -> bool:
    """Whether the plan's own check passes. Noise for which there is no sampler or no theorem does not fit."""
    try:
        require_limit(plan, contract)
    except UsageError:
        return False
    return True


def _cost(plan: Plan, contract: Contract, limit: Limit) -> Guarantee:
    unit = _private(plan).unit.unit
    try:
        return guarantee_of(required_releases(plan, contract).planned(), limit, unit)
    except UsageError:  # no sampler or no theorem for this noise: nothing is promised
        return Guarantee(epsilon=math.inf, delta=limit.delta, unit=unit)


# --- shares of preparation and evaluation ------------------------------------------------------------------------------


def _check_split(privacy: Privacy, split: Split) -> None:
    for stage, share in split.items():
        if stage not in _STAGES:
            raise UsageError(
                f"{stage!r} takes no share of a budget; use preparation and evaluation: training gets what they leave"
            )
        if stage in privacy.exempt:
            raise UsageError(
                f"the plan exempts {stage}, which has no noise to fit; leave it out of the split"
            )
        if not 0.0 < share < 1.0:  # phrased so that NaN is refused
            raise UsageError(
                f"the share of {stage} is {share}; use a number above 0 and below 1, such as {_ADVISED_SHARE}"
            )
    if not 0.0 < math.fsum(split.values()) < 1.0:
        raise UsageError(
            f"the shares add up to {math.fsum(split.values()):g}; they must leave training something: use less than 1 in all"
        )


def _shared_out(plan: Plan, contract: Contract, turned: Dial, split: Split) -> Plan | None:
    """`plan` with the noise that makes each stage of `split` cost its share, at the order that suits what the dial then allows.

    Which order that is depends on the noise, and the other way round: go on until the order stays, and keep where the dial gets furthest.
    None where no such noise leaves the dial anything.
    """
    best: tuple[int, Plan] | None = None
    for start in _first_orders(_private(plan)):
        order = start
        for _ in range(_MOST_TRIES):
            shared = _with_shares(plan, contract, split, order)
            found = None if shared is None else turned.furthest(shared, lambda each: _fits(each, contract))
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
    return best_order(required_releases(plan, contract).planned(), _private(plan).limit)


def _with_shares(plan: Plan, contract: Contract, split: Split, order: int) -> Plan | None:
    """`plan` with the least noise in each stage of `split` that keeps it within its share at `order`; None if there is no such noise."""
    limit = _private(plan).limit
    try:
        ceiling = Ceiling.fixed(
            epsilon=limit.epsilon, delta=limit.delta, unit=_private(plan).unit.unit, order=order
        )
    except UsageError:  # this order leaves nothing to share out
        return None
    for stage, share in split.items():
        turned = noise_dial(plan, contract, stage)
        within = _Within(
            contract=contract, stage=_STAGES[stage], order=order, renyi=share * ceiling.renyi_budget
        )
        found = turned.furthest(plan, within)
        if found is None:
            return None
        plan = turned.turned(plan, found)
    return plan


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


# --- what would be possible --------------------------------------------------------------------------------------------

_CHEAPEST: Final = {
    Vary.NOISE: "with any training noise",
    Vary.ROUNDS: "with one round",
    Vary.SAMPLING: "with an expected batch of 1",
}


def _impossible(plan: Plan, contract: Contract, vary: Vary, split: Split | None) -> str:
    """Why nothing fits the plan's limit, and what would. Raises UsageError instead where the plan's other noise cannot be drawn."""
    privacy = _private(plan)
    asked = Guarantee(epsilon=privacy.limit.epsilon, delta=privacy.limit.delta, unit=privacy.unit.unit)
    possible = []
    why = f"the shares of {' and '.join(split or ())} leave training no room"
    if split is None:
        turned = dial(plan, contract, vary)
        cheapest = turned.turned(plan, turned.cheapest)
        costs = guarantee_of(required_releases(cheapest, contract).planned(), privacy.limit, asked.unit)
        why = f"{_CHEAPEST[vary]} it costs {costs.words}, retries included"
        if costs.epsilon < MOST_EPSILON:
            possible.append(f"--epsilon {math.ceil(costs.epsilon * 1000 + 1) / 1000:g} or more")
    possible += _other_ways(plan, contract, vary, split)
    advice = f"possible: {', or '.join(possible)}" if possible else "raise --epsilon or --delta"
    return f"plan {plan.name} cannot be brought to {asked.words}: {why}; {advice}"


def _other_ways(plan: Plan, contract: Contract, vary: Vary, split: Split | None) -> list[str]:
    """Options that were not tried and would fit the plan's limit, each with what comes of it; the simplest ones that do."""
    shares = {stage: _ADVISED_SHARE for stage in _STAGES if stage not in _private(plan).exempt}
    simple: list[tuple[Vary, Split | None]] = [(Vary.NOISE, None), (vary, shares)]
    for tries in (simple, [(Vary.NOISE, shares)]):
        new = [way for way in tries if way != (vary, split) and way[1] != {}]
        found = [(way, _fitted(plan, contract, *way)) for way in new]
        if ways := [_way_words(vary, *way, fitted) for way, fitted in found if fitted is not None]:
            return ways
    return []


def _way_words(asked: Vary, vary: Vary, split: Split | None, found: Plan) -> str:
    options = [] if vary is asked else [f"--vary {vary}"]
    if split is not None:
        options.append("--split " + ",".join(f"{stage}={share:g}" for stage, share in split.items()))
    takes = dict(_private(found).noise.model_dump(exclude_none=True))
    if vary is Vary.ROUNDS:
        takes["rounds"] = found.training.rounds
    if vary is Vary.SAMPLING:
        takes["expected_batch"] = values_of(found)["training", "expected_batch"]
    return (
        f"{' '.join(options)}, which takes {', '.join(f'{name}: {value:g}' for name, value in takes.items())}"
    )
