"""What a plan asks of its model before it may be validated: bounds on figures that the log has, decided before the first site is asked.

1. A gate has one bound, on the side on which its metric can be too bad.
2. `over: champion` is about the difference to the plan's champion on the same held-out rows. Where noise hides a figure, the bad end of what it may be
   is what counts (`protos.gates`).
3. What the plan will have no figure for is refused when it is written, and not when the model is there.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import FieldError, Part

MOST_GATES: Final = 32
Metric = Literal["auc", "ks", "brier", "log_loss", "calibration", "stability", "epsilon"]
HIGHER_IS_BETTER: Final = frozenset({"auc", "ks"})
COMPARED: Final = frozenset({"auc", "ks", "brier", "log_loss"})
"""What a champion has too."""
_SHARES: Final = frozenset({"auc", "ks", "brier", "calibration", "stability"})
"""Metrics from 0 to 1."""

Bound = Annotated[float, Field(ge=-1_000, le=1_000)]


class Gate(Part):
    """One bound. `calibration` is the largest gap between mean score and share of positives in a group of rows; `stability` is how far the AUC of
    the last three evaluated rounds lie apart, `epsilon` what the plan costs one unit at most."""

    metric: Metric
    over: Literal["champion"] | None = None
    at_least: Bound | None = None
    at_most: Bound | None = None

    @property
    def bound(self) -> float:
        """The bound, on whichever side it is."""
        (bound,) = (each for each in (self.at_least, self.at_most) if each is not None)
        return bound

    @property
    def side(self) -> Literal["at_least", "at_most"]:
        """Which side the bound is on."""
        return "at_most" if self.at_least is None else "at_least"

    @property
    def words(self) -> str:
        """The gate for people."""
        over = "" if self.over is None else " over the champion's"
        return f"{self.metric}{over} {self.side.replace('_', ' ')} {self.bound:g}"

    @model_validator(mode="after")
    def _has_the_bound_that_can_fail(self) -> Self:
        needed, other = ("at_least", "at_most")[:: 1 if self.metric in HIGHER_IS_BETTER else -1]
        if getattr(self, needed) is None or getattr(self, other) is not None:
            better = "higher" if self.metric in HIGHER_IS_BETTER else "lower"
            raise FieldError(
                "metric" if getattr(self, other) is None else other,
                f"{self.metric} is better where it is {better}; give the gate {needed}, and nothing else",
            )
        if self.over is not None and self.metric not in COMPARED:
            raise FieldError(
                "over",
                f"{self.metric} of a champion is not measured; compare {', '.join(sorted(COMPARED))}, or leave `over` out",
            )
        least = 0.0 if self.over is None else -1.0
        if self.metric in _SHARES and not least <= self.bound <= 1.0:
            raise FieldError(
                needed, f"{self.metric} lies from {least:g} to 1 here, so {self.bound:g} decides nothing"
            )
        return self
