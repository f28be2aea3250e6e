"""What a plan asks of its model before it may be validated: bounds on figures that the log has, decided before the first site is asked.

1. A gate has one bound, on the side on which its metric can be too bad.
2. `over: champion` is about the difference to the plan's champion on the same held-out rows. Where noise hides a figure, the bad end of what it may be
   is what counts (`protos.gates`).
3. A gate on a `group` is about the group of it that fares worst against the reference group; one that cannot be told of does not pass.
4. What the plan will have no figure for is refused when it is written, and not when the model is there.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import FieldError, Part
from protos.names import ColumnName, Word, distinct
from strategies.analytics.panels import NOT_GIVEN

MOST_GATES: Final = 32
Metric = Literal[
    "auc",
    "ks",
    "brier",
    "log_loss",
    "calibration",
    "stability",
    "explanation_stability",
    "epsilon",
    "adverse_impact_ratio",
    "demographic_parity",
    "equal_opportunity",
    "equalised_odds",
    "predictive_parity",
    "group_calibration",
]
HIGHER_IS_BETTER: Final = frozenset({"auc", "ks", "adverse_impact_ratio", "explanation_stability"})
COMPARED: Final = frozenset({"auc", "ks", "brier", "log_loss"})
"""What a champion has too."""
OF_GROUPS: Final = frozenset(
    {
        "adverse_impact_ratio",
        "demographic_parity",
        "equal_opportunity",
        "equalised_odds",
        "predictive_parity",
        "group_calibration",
    }
)
"""Figures of one protected attribute, as `strategies.analytics.comparisons` defines them; differences without their sign."""
_SHARES: Final = (
    frozenset({"auc", "ks", "brier", "calibration", "stability", "explanation_stability"}) | OF_GROUPS
)
"""Metrics that a bound from 0 to 1 is about, or from -1 where they have a sign."""
MOST_GROUPS: Final = 100

Bound = Annotated[float, Field(ge=-1_000, le=1_000)]


class Gate(Part):
    """One bound. `calibration` is the largest gap between mean score and share of positives in a group of rows; `stability` is how far the AUC of
    the last three evaluated rounds lie apart, `explanation_stability` the rank correlation of features between the two parts of explanations, `epsilon` what the plan costs one unit at most.

    `group` is the protected attribute of a figure by group. Its groups are compared with `reference` (the largest, if None); `only` names those that are
    judged (all that the contract has, if None), so that groups which are known to be too small to be told of are left out by name."""

    metric: Metric
    over: Literal["champion"] | None = None
    group: ColumnName | None = None
    reference: Word | None = None
    only: (
        Annotated[tuple[Word, ...], Field(min_length=1, max_length=MOST_GROUPS), AfterValidator(distinct)]
        | None
    ) = None
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
        by = "" if self.group is None else f" by {self.group}"
        return f"{self.metric}{by}{over} {self.side.replace('_', ' ')} {self.bound:g}"

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
        self._check_groups()
        signed = self.over is not None or self.metric == "explanation_stability"
        least = -1.0 if signed else 0.0
        if self.metric in _SHARES and not least <= self.bound <= 1.0:
            raise FieldError(
                needed, f"{self.metric} lies from {least:g} to 1 here, so {self.bound:g} decides nothing"
            )
        return self

    def _check_groups(self) -> None:
        if (self.group is not None) != (self.metric in OF_GROUPS):
            raise FieldError(
                "metric" if self.group is None else "group",
                f"{self.metric} is about the groups of a protected attribute; name it in `group`"
                if self.group is None
                else f"{self.metric} is about all rows; leave `group` out, or choose {', '.join(sorted(OF_GROUPS))}",
            )
        named = (*(self.only or ()), *(() if self.reference is None else (self.reference,)))
        if named and self.group is None:
            raise FieldError("metric", "`reference` and `only` are about the groups of a protected attribute")
        if NOT_GIVEN in named:
            raise FieldError(
                "only" if NOT_GIVEN in (self.only or ()) else "reference",
                f"{NOT_GIVEN!r} is no group that anything is compared with or judged by; name others",
            )
        if self.only is not None and set(self.only) <= {self.reference}:
            raise FieldError(
                "only", "the reference group is compared with itself; name another group beside it"
            )
