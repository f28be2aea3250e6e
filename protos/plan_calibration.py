"""Noise, rounds or sampling of a plan, fitted to a privacy budget with the very check that plans are held to.

1. A calibrated plan states the budget as its limit, and passes its own check (`plan_releases.require_limit`).
2. A budget that nothing fits is refused, with what would fit.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_costs import guarantee_of, required_releases
from protos.plan_dials import Vary, dial, fits, private, with_limit, with_noise
from protos.plan_privacy import Limit
from protos.plan_releases import require_limit
from protos.plan_shares import ADVISED_SHARE, STAGES, Split, check_split, shared_out
from protos.plan_training import GradientSums, PrivateSteps
from protos.yaml_edit import KeyPath
from strategies.dp.budget import cost_of
from strategies.dp.curves import ORDERS
from strategies.dp.events import Release
from strategies.dp.filters import TOTAL_VARIATION_SHARE
from strategies.dp.units import Guarantee, require_delta
from strategies.errors import UsageError

MOST_EPSILON: Final = 50.0


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
    privacy = private(plan)
    limit = _limit(epsilon, privacy.limit.delta if delta is None else delta)
    if split is not None:
        check_split(privacy, split)
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
    start = plan if split is None else shared_out(plan, contract, turned, split)
    found = None if start is None else turned.furthest(start, lambda each: fits(each, contract))
    return None if start is None or found is None else turned.turned(start, found)


def values_of(plan: Plan) -> Mapping[KeyPath, float]:
    """Every number of a private plan that calibration may change, by the keys under which it stands in the document."""
    privacy, rule = private(plan), plan.training
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


def _limit(epsilon: float, delta: float) -> Limit:
    if not 0.0 < epsilon <= MOST_EPSILON:  # phrased so that NaN is refused
        raise UsageError(
            f"epsilon is {epsilon}; use a number above 0 and at most {MOST_EPSILON:g}, such as 4"
        )
    require_delta(delta)
    return Limit(epsilon=epsilon, delta=delta)


def _cost(plan: Plan, contract: Contract, limit: Limit) -> Guarantee:
    unit = private(plan).unit.unit
    try:
        return guarantee_of(required_releases(plan, contract).planned(), limit, unit)
    except UsageError:  # no sampler or no theorem for this noise: nothing is promised
        return Guarantee(epsilon=math.inf, delta=limit.delta, unit=unit)


# --- what would be possible --------------------------------------------------------------------------------------------

_CHEAPEST: Final = {
    Vary.NOISE: "with any training noise",
    Vary.ROUNDS: "with one round",
    Vary.SAMPLING: "with an expected batch of 1",
}


def _impossible(plan: Plan, contract: Contract, vary: Vary, split: Split | None) -> str:
    """Why nothing fits the plan's limit, and what would. Raises UsageError instead where the plan's other noise cannot be drawn."""
    privacy = private(plan)
    asked = Guarantee(epsilon=privacy.limit.epsilon, delta=privacy.limit.delta, unit=privacy.unit.unit)
    turned = dial(plan, contract, vary)
    rest = plan if split is None else with_noise(plan, dict.fromkeys(split))
    planned = required_releases(turned.turned(rest, turned.cheapest), contract).planned()
    if asked.epsilon > (largest := _largest_epsilon(planned, privacy.limit)):
        return f"{_cannot(plan, asked)}: {_too_far(largest)}"
    possible = []
    why = f"the shares of {' and '.join(split or ())} leave training no room"
    if split is None:
        costs = guarantee_of(planned, privacy.limit, asked.unit)
        why = f"{_CHEAPEST[vary]} it costs {costs.words}, retries included"
        if costs.epsilon < MOST_EPSILON:
            possible.append(f"--epsilon {math.ceil(costs.epsilon * 1000 + 1) / 1000:g} or more")
    possible += _other_ways(plan, contract, vary, split)
    advice = f"possible: {', or '.join(possible)}" if possible else "raise --epsilon or --delta"
    return f"{_cannot(plan, asked)}: {why}; {advice}"


def _cannot(plan: Plan, asked: Guarantee) -> str:
    return f"plan {plan.name} cannot be brought to {asked.words}"


def _too_far(largest: int) -> str:
    """Why the samplers' distance from their law does not fit into delta, by the `largest` epsilon at which it would."""
    law = "how far the samplers of noise are from their law"
    if largest < 1:
        return f"so small a delta leaves no room for {law}; raise --delta"
    return f"so large an epsilon leaves no room in delta for {law}; use --epsilon {largest} or less"


def _largest_epsilon(planned: Mapping[Release, int], limit: Limit) -> int:
    """The largest whole epsilon at which the samplers' distance from their law, which weighs 1 + e^epsilon, fits into its part of delta."""
    distance = cost_of(planned, ORDERS[0]).total_variation
    if distance == 0.0:
        return int(MOST_EPSILON)
    return math.floor(math.log(max(2.0, limit.delta * TOTAL_VARIATION_SHARE / distance) - 1.0))


def _other_ways(plan: Plan, contract: Contract, vary: Vary, split: Split | None) -> list[str]:
    """Options that were not tried and would fit the plan's limit, each with what comes of it; the simplest ones that do."""
    shares = {stage: ADVISED_SHARE for stage in STAGES if stage not in private(plan).exempt}
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
    takes = dict(private(found).noise.model_dump(exclude_none=True))
    if vary is Vary.ROUNDS:
        takes["rounds"] = found.training.rounds
    if vary is Vary.SAMPLING:
        takes["expected_batch"] = values_of(found)["training", "expected_batch"]
    return (
        f"{' '.join(options)}, which takes {', '.join(f'{name}: {value}' for name, value in takes.items())}"
    )
