"""What decisions come to in money, as a bank's finance department states it, and what resources cost: `costs/v1`.

1. Costs are positive and income is negative, per decision, in one named currency. `bad` is the class that the score is the probability of.
2. A score at or above `decline_at` is declined; with a review band, a score from `review.from_score` to `decline_at` goes to a person.
3. Amounts are the same for every decision: score counts know no loan amounts, so there are no rates per amount here. Use means per decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from protos.documents import Document, FieldError, Part
from protos.names import matching

MOST_AMOUNT: Final = 1e9
MOST_THRESHOLDS: Final = 10
Amount = Annotated[float, Field(ge=-MOST_AMOUNT, le=MOST_AMOUNT)]
Rate = Annotated[float, Field(ge=0.0, le=MOST_AMOUNT)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Threshold = Annotated[float, Field(gt=0.0, lt=1.0)]
_ROW: Final = {"good", "bad"}


def _is_row(value: object) -> object:
    """A row of the matrix has two amounts by name: what was meant by a bare list or a number would be a guess."""
    if not isinstance(value, Mapping) or set(value) != _ROW:
        raise ValueError(
            "a row of the cost matrix has two amounts by name; write {good: AMOUNT, bad: AMOUNT}, costs positive and income negative"
        )
    return value


class ByOutcome(Part):
    """What a decision comes to if the outcome is `good`, such as repaid, or `bad`, such as defaulted."""

    good: Amount
    bad: Amount


Row = Annotated[ByOutcome, BeforeValidator(_is_row)]


class Review(Part):
    """Scores from `from_score` to `decline_at` go to a person, at a `cost` each, who turns away the share `finds` of bad ones and `turns_away` of good ones."""

    from_score: Threshold
    cost: Rate
    finds: Share
    turns_away: Share = 0.0


class Volume(Part):
    """Decisions in a year: at least so many and at most so many."""

    least: Annotated[int, Field(ge=1, le=10**10)]
    most: Annotated[int, Field(ge=1, le=10**10)]

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.least > self.most:
            raise FieldError("least", f"{self.least} is more than `most`, {self.most}; write the smaller one")
        return self


class Rates(Part):
    """What making a model is charged at. Epsilon has no price here: a budget of privacy is not bought."""

    site_hour: Rate = 0.0
    """An hour that the coordinator waited for answers of a site: that computed for no longer, and some of it is the network."""
    gigabyte: Rate = 0.0
    """10^9 bytes sent or received."""
    approval: Rate = 0.0
    """One signature of one officer."""


class Costs(Document):
    """A cost matrix, where declining begins, perhaps a review band, the volume of a year, and rates."""

    covenant: Literal["costs/v1"] = "costs/v1"
    currency: Annotated[str, matching(r"[A-Z]{3}", "three capital letters of ISO 4217, such as EUR")]
    approve: Row
    decline: Row
    decline_at: Threshold
    review: Review | None = None
    volume_per_year: Volume
    rates: Rates = Rates()

    @model_validator(mode="before")
    @classmethod
    def _is_by_decision(cls, found: Any) -> Any:  # noqa: ANN401  (whatever somebody wrote)
        if isinstance(found, Mapping) and ("matrix" in found or "costs" in found):
            raise FieldError(
                "matrix" if "matrix" in found else "costs",
                "the cost matrix is written as two keys, `approve: {good: AMOUNT, bad: AMOUNT}` and `decline: {good: AMOUNT, bad: AMOUNT}`",
            )
        return found

    @model_validator(mode="after")
    def _is_worth_deciding(self) -> Self:
        if not self.approve.bad > self.decline.bad:
            raise FieldError(
                "approve",
                f"approving a bad one comes to {self.approve.bad:g}, declining it to {self.decline.bad:g}: nothing is gained by declining. Costs are positive"
                " and income negative",
            )
        if not self.decline.good > self.approve.good:
            raise FieldError(
                "decline",
                f"declining a good one comes to {self.decline.good:g}, approving it to {self.approve.good:g}: nothing is gained by approving. Costs are positive"
                " and income negative",
            )
        if self.review is not None and not self.review.from_score < self.decline_at:
            raise FieldError(
                "review",
                f"review begins at {self.review.from_score:g}, which is not below decline_at, {self.decline_at:g}; nothing would be reviewed",
            )
        return self
