"""What a plan's cost can be turned by: noise, rounds, expected batch. Each is a range of numbers that can be written down, dearest to cheapest.

1. Cost never grows from the dearest position towards the cheapest, so what fits is found by bisection.
2. Noise is turned in steps of 1/1000: what is found is what is written, and nothing is rounded afterwards.
3. Turned plans are unchecked copies, as bisection makes many; who keeps one reads it again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_privacy import Limit, Privacy
from protos.plan_releases import releases_of, require_limit
from protos.plan_training import MOST_EXPECTED, GradientSums, PrivateSteps
from strategies.errors import UsageError

PER_MULTIPLIER: Final = 1000
_MOST_MULTIPLIER: Final = 1_000_000
_MOST_ROUNDS: Final = 10_000
_OTHER_STAGES: Final = ("preparation", "evaluation")


class Vary(StrEnum):
    """What is fitted."""

    NOISE = "noise"
    ROUNDS = "rounds"
    SAMPLING = "sampling"


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Positions from `dearest` to `cheapest`, both included; `turned` sets a plan to one."""

    dearest: int
    cheapest: int
    turned: Callable[[Plan, int], Plan]

    def furthest(self, plan: Plan, fits: Callable[[Plan], bool]) -> int | None:
        """The dearest position that fits; None if not even the cheapest does."""
        fine, too_dear = self.cheapest, self.dearest + (1 if self.dearest > self.cheapest else -1)
        if not fits(self.turned(plan, fine)):
            return None
        while abs(too_dear - fine) > 1:
            middle = (fine + too_dear) // 2
            if fits(self.turned(plan, middle)):
                fine = middle
            else:
                too_dear = middle
        return fine


def dial(plan: Plan, contract: Contract, vary: Vary) -> Dial:
    """The dial of a private plan. Raises UsageError where units are not sampled, and sampling is to vary."""
    match vary:
        case Vary.NOISE:
            return noise_dial(plan, contract, "training")
        case Vary.ROUNDS:
            return Dial(dearest=_MOST_ROUNDS, cheapest=1, turned=_with_rounds)
        case Vary.SAMPLING:
            rule, privacy = plan.training, plan.privacy
            site = isinstance(privacy, Privacy) and privacy.unit.kind == "site"
            if site or not isinstance(rule, GradientSums | PrivateSteps):
                raise UsageError(
                    f"plan {plan.name} takes no sample of units, as a site is always in the sum; vary noise or rounds"
                )
            return Dial(dearest=min(MOST_EXPECTED, rule.nominal_rows), cheapest=1, turned=_with_batch)


def noise_dial(plan: Plan, contract: Contract, stage: str) -> Dial:
    """The noise multiplier of one stage, in thousandths; the cheapest is halved until there is a sampler for so much noise."""

    def turned(each: Plan, thousandths: int) -> Plan:
        return with_noise(each, {stage: thousandths / PER_MULTIPLIER})

    # Another stage whose noise cannot be drawn says nothing about this one.
    bare = with_noise(plan, {other: None for other in _OTHER_STAGES if other != stage})
    most = _MOST_MULTIPLIER * PER_MULTIPLIER
    while most > 1 and not _has_releases(turned(bare, most), contract):
        most //= 2
    return Dial(dearest=1, cheapest=most, turned=turned)


def _has_releases(plan: Plan, contract: Contract) -> bool:
    try:
        releases_of(plan, contract)
    except UsageError:
        return False
    return True


def with_limit(plan: Plan, limit: Limit) -> Plan:
    """`plan` with another limit."""
    return _with_privacy(plan, {"limit": limit})


def with_noise(plan: Plan, multipliers: Mapping[str, float | None]) -> Plan:
    """`plan` with other noise multipliers, by the names that they have in it; None is a stage without noise."""
    privacy = plan.privacy
    if not isinstance(privacy, Privacy):
        return plan
    return _with_privacy(plan, {"noise": privacy.noise.model_copy(update=dict(multipliers))})


def _with_privacy(plan: Plan, changes: Mapping[str, object]) -> Plan:
    return plan.model_copy(update={"privacy": plan.privacy.model_copy(update=dict(changes))})


def _with_rounds(plan: Plan, rounds: int) -> Plan:
    """Held-out rows stay scored once, after the last round."""
    every = max(plan.evaluation.every, rounds)
    return plan.model_copy(
        update={
            "training": plan.training.model_copy(update={"rounds": rounds}),
            "evaluation": plan.evaluation.model_copy(update={"every": every}),
        }
    )


def _with_batch(plan: Plan, expected: int) -> Plan:
    return plan.model_copy(update={"training": plan.training.model_copy(update={"expected_batch": expected})})


def private(plan: Plan) -> Privacy:
    """What a private plan says about privacy. Raises UsageError for one without."""
    if not isinstance(plan.privacy, Privacy):
        raise UsageError(
            f"plan {plan.name} has privacy mode none: nothing protects a person's rows, and there is nothing to calibrate; choose mode "
            "distributed, local or central in `privacy`"
        )
    return plan.privacy


def fits(plan: Plan, contract: Contract) -> bool:
    """Whether the plan's own check passes. Noise for which there is no sampler or no theorem does not fit."""
    try:
        require_limit(plan, contract)
    except UsageError:
        return False
    return True
