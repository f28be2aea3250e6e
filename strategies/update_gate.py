"""The gate on an opened sum: how long a mean update may be before nobody goes on from it.

1. It is a function of what was opened, so it releases nothing.
2. Centre and sites judge the same float64 vector and come to the same bits: each square is rounded once, their sum is the correctly rounded
   one (`math.fsum`: in whatever order), and so is its square root.
3. What cannot be compared, such as NaN, does not pass.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np

from strategies.encoding import Vector
from strategies.errors import Refused, UsageError

_BLOCK: Final = 1 << 16


class GateTripped(Refused):
    """The mean update of a round is longer than the plan lets it be; `norm` is its L2 norm, infinite beyond float64."""

    def __init__(self, sentence: str, norm: float) -> None:
        super().__init__(sentence)
        self.norm = norm


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateGate:
    """The most that the L2 norm of a mean update may be, finite and above 0. Raises UsageError otherwise."""

    update_norm: float

    def __post_init__(self) -> None:
        if not 0 < self.update_norm < math.inf:
            raise UsageError(f"the gate's norm is {self.update_norm}; use a finite number above 0")

    def admits(self, norm: float) -> bool:
        """Whether a mean update of L2 norm `norm` passes; NaN never does."""
        return norm <= self.update_norm

    def require(self, mean_update: Vector, number: int) -> None:
        """Raise `GateTripped` where the mean update of round `number`, (d,) float64, does not pass."""
        norm = l2_norm(mean_update)
        if not self.admits(norm):
            raise GateTripped(
                f"the mean update of round {number} has L2 norm {norm:.6g}, and the plan's gate is {self.update_norm:g}"
                " (aggregation.gate.update_norm)",
                norm,
            )


def l2_norm(vector: Vector) -> float:
    """The L2 norm of (d,) float64, the same to the bit on every machine and in every order; infinite where a square or the sum overflows."""
    return math.sqrt(_sum_of_squares(vector))


def _sum_of_squares(vector: Vector) -> float:
    with np.errstate(over="ignore"):
        squares = (
            square
            for first in range(0, len(vector), _BLOCK)
            for square in np.square(vector[first : first + _BLOCK]).tolist()
        )
        try:
            return math.fsum(squares)
        except OverflowError:
            return math.inf
