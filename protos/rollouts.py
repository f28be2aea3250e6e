"""Rollouts: how a version comes to serve at a target, and the rules by which live figures let it go on or take it back.

1. A rollout is planned, may be tried in the shadow or on a share of requests, serves in full, and is superseded by the next one. It may be taken
   back, recalled, or fail, from every state that is not over.
2. What was superseded serves again when the one after it is taken back. Nothing else that is over comes back.
3. `judge` is pure: figures in, decision out. It takes back first, then waits for enough rows, and only then goes on.

PSI is the population stability index of two histograms of scores: sum of (p - q) ln(p / q) over bins, with half a row in an empty one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from types import MappingProxyType
from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from protos.documents import Document, FieldError
from strategies.errors import Refused


class State(StrEnum):
    """Where a rollout stands."""

    PLANNED = "planned"
    SHADOW = "shadow"
    CANARY = "canary"
    FULL = "full"
    SUPERSEDED = "superseded"
    ROLLED_BACK = "rolled_back"
    RECALLED = "recalled"
    FAILED = "failed"


UNDER_WAY: Final = frozenset({State.PLANNED, State.SHADOW, State.CANARY})
_ENDS: Final = (State.ROLLED_BACK, State.RECALLED, State.FAILED)
MOVES: Final[Mapping[State, tuple[State, ...]]] = MappingProxyType(
    {
        State.PLANNED: (State.SHADOW, State.CANARY, State.FULL, *_ENDS),
        State.SHADOW: (State.CANARY, State.FULL, *_ENDS),
        State.CANARY: (State.CANARY, State.FULL, *_ENDS),
        State.FULL: (State.FULL, State.SUPERSEDED, *_ENDS),
        State.SUPERSEDED: (State.FULL, State.RECALLED),
        State.ROLLED_BACK: (),
        State.RECALLED: (),
        State.FAILED: (),
    }
)
"""By the state before. From `full` to `full` a release is renewed; from `canary` to `canary` its share grows."""


@dataclass(frozen=True, slots=True)
class Planned:
    """Recorded, and nothing of it runs."""


@dataclass(frozen=True, slots=True)
class Shadow:
    """It scores every request beside what serves, and answers none."""


@dataclass(frozen=True, slots=True)
class Canary:
    """It answers `share` of the requests, between 0 and 1."""

    share: float


@dataclass(frozen=True, slots=True)
class Full:
    """It answers all."""


@dataclass(frozen=True, slots=True)
class Over:
    """It runs no more, and how that came."""

    how: Literal[State.SUPERSEDED, State.ROLLED_BACK, State.RECALLED, State.FAILED]


Step = Shadow | Canary | Full
Standing = Planned | Step | Over


def standing_of(state: State, share: float) -> Standing:
    """The state as it is kept, as a type."""
    match state:
        case State.PLANNED:
            return Planned()
        case State.SHADOW:
            return Shadow()
        case State.CANARY:
            return Canary(share)
        case State.FULL:
            return Full()
        case State.SUPERSEDED | State.ROLLED_BACK | State.RECALLED | State.FAILED:
            return Over(state)


def kept_as(standing: Standing) -> tuple[State, float]:
    """The state and share by which it is kept."""
    match standing:
        case Planned():
            return State.PLANNED, 0.0
        case Shadow():
            return State.SHADOW, 0.0
        case Canary(share):
            return State.CANARY, share
        case Full():
            return State.FULL, 1.0
        case Over(how):
            return how, 0.0


def require_move(what: str, before: Standing, after: Standing) -> None:
    """Check that `what` may come from `before` to `after`. Raises Refused."""
    was, now = kept_as(before)[0], kept_as(after)[0]
    if now not in MOVES[was]:
        can = ", ".join(MOVES[was]) or "nothing"
        raise Refused(f"{what} is {was} and cannot become {now}; from there it comes to {can}")
    if isinstance(before, Canary) and isinstance(after, Canary) and after.share <= before.share:
        raise Refused(f"{what} answers {before.share:.0%} of requests; a further share is larger")


class RolloutRules(Document):
    """What lets a rollout go on by itself. `steps` are the shares that a canary goes through before it serves in full.

    Rates are over the rows since the share was set. `most_latency_ratio` is of mean latencies, the challenger's by that of what serves.
    """

    covenant: Literal["rollout-rules/v1"] = "rollout-rules/v1"
    automatic: bool = True
    steps: Annotated[tuple[float, ...], Field(max_length=20)] = (0.1, 0.5)
    min_rows: Annotated[int, Field(ge=1, le=10**9)] = 500
    most_error_rate: Annotated[float, Field(ge=0.0, le=1.0)] = 0.01
    most_latency_ratio: Annotated[float, Field(ge=1.0, le=1000.0)] = 3.0
    most_psi: Annotated[float, Field(gt=0.0, le=10.0)] = 0.25

    @model_validator(mode="after")
    def _steps_rise(self) -> Self:
        if not all(0.0 < each < 1.0 for each in self.steps):
            raise FieldError("steps", "a share is between 0 and 1, and neither")
        if not all(low < high for low, high in pairwise(self.steps)):
            raise FieldError("steps", "each share is larger than the one before")
        return self

    def after(self, now: Standing) -> Step:
        """The step that follows `now` where all is well."""
        share = now.share if isinstance(now, Canary) else 0.0
        following = [each for each in self.steps if each > share]
        return Canary(following[0]) if following else Full()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one arm has done since the step began: `requests` were scored, `errors` were not.

    `scores` is a histogram of rows; `latency_sum_ms` is over requests.
    """

    requests: int
    rows: int
    errors: int
    latency_sum_ms: float
    scores: tuple[int, ...]

    @property
    def error_rate(self) -> float:
        """Failed requests by all; 0 where there was none."""
        return self.errors / self.asked if self.asked else 0.0

    @property
    def asked(self) -> int:
        """All requests: those that were scored, and those that failed."""
        return self.requests + self.errors

    @property
    def is_possible(self) -> bool:
        """Whether these can be counts: a service that is broken, or lies badly, promotes nothing."""
        counts = (self.requests, self.rows, self.errors, *self.scores)
        return min(counts) >= 0 and 0.0 <= self.latency_sum_ms < math.inf

    @property
    def latency_ms(self) -> float:
        """The mean; 0 where there was none."""
        return self.latency_sum_ms / self.requests if self.requests else 0.0


@dataclass(frozen=True, slots=True)
class Wait:
    """Not enough is known."""

    why: str


@dataclass(frozen=True, slots=True)
class GoOn:
    """All is well: on to `step`."""

    step: Step
    why: str


@dataclass(frozen=True, slots=True)
class TakeBack:
    """Something is worse than the rules admit."""

    why: str


Decision = Wait | GoOn | TakeBack


def judge(rules: RolloutRules, now: Shadow | Canary, stable: Figures, challenger: Figures) -> Decision:
    """What becomes of a rollout on trial, by what both arms have done since this step began."""
    if challenger.rows < rules.min_rows and challenger.asked < rules.min_rows:
        return Wait(f"{challenger.rows} of {rules.min_rows} rows")
    possible = stable.is_possible and challenger.is_possible
    if not (possible and challenger.error_rate <= rules.most_error_rate):
        return TakeBack(
            f"{challenger.error_rate:.2%} of requests failed; at most {rules.most_error_rate:.2%} may"
            if possible
            else "there are figures that cannot be counts"
        )
    if stable.rows < rules.min_rows or challenger.rows < rules.min_rows:
        return Wait(f"{min(stable.rows, challenger.rows)} of {rules.min_rows} rows on both arms")
    ratio = challenger.latency_ms / stable.latency_ms if stable.latency_ms > 0.0 else 1.0
    if not ratio <= rules.most_latency_ratio:
        return TakeBack(
            f"it takes {ratio:.1f} times as long; at most {rules.most_latency_ratio:.1f} is admitted"
        )
    shift = psi(stable.scores, challenger.scores)
    if not shift <= rules.most_psi:
        return TakeBack(f"scores shifted by a PSI of {shift:.3f}; at most {rules.most_psi:.3f} is admitted")
    return GoOn(
        rules.after(now),
        f"{challenger.rows} rows, {challenger.error_rate:.2%} failed, {ratio:.1f} times the latency, PSI {shift:.3f}",
    )


def psi(expected: Sequence[int], found: Sequence[int]) -> float:
    """The population stability index of two histograms with the same bins; infinite where one has no rows. Raises ValueError."""
    if len(expected) != len(found):
        raise ValueError(f"{len(expected)} bins cannot be compared with {len(found)}")
    total, other = sum(expected), sum(found)
    if not total or not other:
        return math.inf
    pairs = [
        (max(p, 0.5) / total, max(q, 0.5) / other) for p, q in zip(expected, found, strict=True) if p or q
    ]
    return sum((p - q) * math.log(p / q) for p, q in pairs)
