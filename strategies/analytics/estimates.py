"""A figure with its 95 % interval."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Estimate:
    """`value`, and from `low` to `high` where it lies with 95 % confidence, in the unit of the figure. What the interval counts is said where it is made."""

    value: float
    low: float
    high: float
