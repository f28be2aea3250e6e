"""How long a mean update can be: what honest sites can bring about, what noise alone makes it, and what any input can. Gates are judged by it.

1. It follows from plan and contract alone, so centre and sites judge a gate alike.
2. What is honest is exceeded with probability below 2^-40 a round: noise and sampling have below 2^-41 each. That the sum wraps comes on top
   (`strategies.secagg.fixedpoint`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from protos.contract import Contract
from protos.frames import Stage
from protos.payloads import payload_of
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_releases import gradient_grid
from protos.plan_training import GradientSums
from strategies.dp.mechanisms import NoisySum, centre_variance, site_variance
from strategies.errors import Refused, UsageError
from strategies.secagg.fixedpoint import fitting_grid

_RARE: Final = 41.0 * math.log(2.0)
"""Of two such events one or the other happens with probability below 2^-40."""
_LONG: Final = math.sqrt(2.0 * _RARE)
"""Standard deviations, 7.54: a Gaussian vector is longer than its root mean square by more with probability below 2^-41."""
_SHORT: Final = 3.0
"""And shorter by more than these with probability below 1.2 %: exp(-9/2)."""
_FLOAT_SLACK: Final = 1e-9
"""Relative, of bounds and norms that are computed in float64."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateBounds:
    """L2 norms of the mean update of one round of a plan.

    `honest` is what sites that follow the plan stay within, with as many units as the plan takes them to have: clipped, rounded to the grid, with
    noise. `noise` is what noise alone exceeds in 99 of 100 rounds, 0 without. `reach` is what nothing exceeds that fits into the ring: one site can get there.
    """

    honest: float
    noise: float
    reach: float


def update_bounds(plan: Plan, contract: Contract) -> UpdateBounds | None:
    """The bounds of `plan`; None under plain aggregation, where nothing bounds an update."""
    if not isinstance(plan.aggregation, SecureAggregation):
        return None
    if isinstance(plan.training, GradientSums):
        return _of_gradients(plan, plan.training, contract)
    return _of_updates(plan, plan.aggregation, contract)


def most_sampled(expected: float) -> float:
    """So many units or more are sampled, each by a draw of its own, with probability below 2^-41 where `expected` are on average, above 0.

    Bernstein's inequality (Boucheron, Lugosi, Massart 2013, theorem 2.10): P(N >= m + t) <= exp(-t^2 / (2 (m + t / 3))), whatever the rates. A Gaussian
    tail would be too short: the upper tail of a count of rare events is longer.
    """
    third = _RARE / 3.0
    return expected + third + math.sqrt(third * third + 2.0 * _RARE * expected)


def require_reachable(plan: Plan, contract: Contract, norm: float | None) -> None:
    """Raise Refused for a norm, None for one beyond float64, that no mean update of `plan` has: what a sum in its ring can be is known."""
    bounds = update_bounds(plan, contract)
    if bounds is None:
        return
    most = bounds.reach * (1.0 + _FLOAT_SLACK)
    if (math.inf if norm is None else norm) > most and math.isfinite(bounds.reach * bounds.reach):
        told = "beyond float64" if norm is None else f"{norm:g}"
        raise Refused(
            f"a mean update whose L2 norm is {told}: no sum of plan {plan.name} can have one above {bounds.reach:.6g}"
        )


def check_gate(plan: Plan, contract: Contract) -> None:
    """Raise UsageError for a gate that no sum can be above, or that the noise of an honest round nearly always is."""
    gate, bounds = plan.update_gate, update_bounds(plan, contract)
    if gate is None or bounds is None:
        return
    if gate.update_norm >= bounds.reach:
        raise UsageError(
            f"the gate of plan {plan.name} is {gate.update_norm:g}, and no sum of this plan can have a larger mean update than {bounds.reach:.4g}, so it"
            f" would never end a round. Use less in aggregation.gate.update_norm; honest sites stay within {bounds.honest:.4g}"
        )
    if gate.update_norm < bounds.noise:
        raise UsageError(
            f"the gate of plan {plan.name} is {gate.update_norm:g}, and the plan's noise alone makes a mean update longer than {bounds.noise:.4g} in 99 of"
            f" 100 rounds, so it would end nearly every run. Use more in aggregation.gate.update_norm; honest sites stay within {bounds.honest:.4g}"
        )


def gate_words(plan: Plan, contract: Contract) -> str:
    """What the gate of a plan lets through beside what honest sites send, in words; without a gate, which one would do."""
    bounds, gate = update_bounds(plan, contract), plan.update_gate
    if bounds is None:
        return "none: the coordinator sees each update"
    known = (
        f"honest sites stay within {bounds.honest:.4g}, and one site that lies can reach {bounds.reach:.4g}"
    )
    if gate is None:
        return f"none, so one site that lies can make the mean update of a round what it likes: {known}"
    if gate.update_norm >= bounds.honest:
        return f"{gate.update_norm:g}: no honest round is above it ({known})"
    return (
        f"{gate.update_norm:g}: below what honest sites may send, so that an honest round may end the run too ({known}); choose it by"
        " `covenant simulate robustness`"
    )


def _of_updates(plan: Plan, secure: SecureAggregation, contract: Contract) -> UpdateBounds:
    """Each coordinate of each honest update is within the range, and so is that of any weighted mean of them."""
    size = plan.dense_model(contract.feature_spec(plan.features).width).size
    grid, ring = fitting_grid(secure.update_range, len(plan.sites.invite))
    weights = sorted(plan.weight_of(site) for site in plan.sites.invite)
    lightest = sum(weights[: plan.sites.minimum]) / weights[-1]
    return UpdateBounds(
        honest=secure.update_range * math.sqrt(size),
        noise=0.0,
        reach=(ring.modulus // 2) * grid.step / lightest * math.sqrt(size),
    )


def _of_gradients(plan: Plan, rule: GradientSums, contract: Contract) -> UpdateBounds:
    """The clipping norm for each unit that is expected, and noise."""
    grid, invited = gradient_grid(plan, contract), tuple(sorted(plan.sites.invite))
    noisy = payload_of(plan, contract, Stage.TRAIN, invited).embedding
    if not isinstance(noisy, NoisySum):
        raise UsageError(f"algorithm {rule.algorithm} sums up gradients with noise")

    def step(survivors: int) -> float:
        """What one step of the grid is in a mean over so many sites."""
        return rule.clip / (grid.steps * rule.expected_batch * survivors)

    def deviation(survivors: int) -> float:
        """Of the noise on a coordinate of the mean."""
        release = noisy.release
        return math.sqrt(survivors * site_variance(release) + centre_variance(release)) * step(survivors)

    fewest, d = plan.sites.minimum, float(grid.parameters)
    expected = float(rule.expected_batch * fewest)
    units = most_sampled(expected) if rule.sampling_rate < 1.0 else expected
    rounding = (grid.sensitivity - grid.steps) * fewest * step(fewest)
    return UpdateBounds(
        honest=rule.clip * units / expected + rounding + deviation(fewest) * (math.sqrt(d) + _LONG),
        noise=max(0.0, deviation(len(invited)) * (math.sqrt(d - 1.0) - _SHORT)),
        reach=(noisy.ring.modulus // 2) * step(fewest) * math.sqrt(grid.dimension)
        + centre_variance(noisy.release) ** 0.5 * step(fewest) * (math.sqrt(d) + _LONG),
    )
