"""What most likely moved, from released counts alone: a fault in the data, another population, or outcomes that no longer follow scores.

1. A fault shows as faults do: values missing, values at the end of the range that clipping leaves them at, or one value that takes nearly all. Drift of a
   population moves neighbours with it.
2. A mark of a fault counts where it is far beyond chance (`FAR` standard deviations) and large (`LARGE` of all rows); a fault is the cause where features
   with such marks hold at least half of what the streams show.
3. Concept drift is outcomes that moved where inputs did not. Where both moved, the population is the likely cause of some of it, and that is said.
4. A place alone points to that place's systems; all places at once to the world.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from strategies.analytics.two_histograms import Histogram

NO_OUTCOMES: Final = "outcomes have not arrived, so whether the model still fits is not known"
"""What is said at a window of decisions, whose outcomes come later; whoever repeats it later looks whether they have."""
FAR: Final = 5.0
LARGE: Final = 0.05
_NEARLY_ALL: Final = 0.85
_HALF: Final = 0.5
_NAMED: Final = 10
Kind = Literal["data fault", "population shift", "concept drift", "unexplained"]
Mark = Literal["missing", "unknown words", "out of range", "one value"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """One input that the test says has moved: its counts on both sides, the bins' `labels`, and how much its statistic exceeds chance.

    `numeric` inputs have bins in order, and then one of missing values. `flag` inputs have no order, and a last bin of missing values; words have a last bin "other".
    """

    feature: str
    kind: Literal["number", "words", "flag"]
    labels: Sequence[str]
    reference: Histogram
    window: Histogram
    excess: float


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one feature shows: the share of rows in the bin `label` before and now. `mark` is None where it looks like no fault."""

    feature: str
    share: float
    mark: Mark | None
    label: str
    before: float
    now: float

    @property
    def words(self) -> str:
        """One sentence."""
        what = {
            "missing": "values are missing",
            "unknown words": "words are none of the contract's",
            "out of range": "values lie at the end of their range, where those beyond it are put",
            "one value": "one value takes nearly all",
            None: "the distribution moved",
        }[self.mark]
        return f"{self.feature}: {what}; {self.before:.1%} of rows were {self.label} in the reference, {self.now:.1%} are now ({self.share:.0%} of what moved)"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """The likely cause, the inputs that moved by their share of the statistic, and the places that moved; `alone` is whether that is one of several. `words` are one sentence."""

    kind: Kind
    features: tuple[Evidence, ...]
    places: tuple[str, ...]
    alone: bool
    words: str


def likely_cause(
    moved: Sequence[Moved],
    *,
    scores_moved: bool,
    outcomes_moved: bool | None,
    places: Mapping[str, bool],
) -> Cause:
    """The likely cause of a window in which the inputs `moved`, or none of them but scores or outcomes.

    `places` says of each place with a window to compare whether it moved; `outcomes_moved` is None where no outcomes have arrived.
    """
    total = sum(each.excess for each in moved) or 1.0
    features = tuple(
        sorted((_evidence(each, each.excess / total) for each in moved), key=lambda each: -each.share)
    )
    at_fault = sum(each.share for each in features if each.mark is not None)
    named = tuple(sorted(name for name, has in places.items() if has))
    alone = len(named) == 1 and len(places) > 1
    if features and at_fault >= _HALF:
        kind: Kind = "data fault"
    elif features:
        kind = "population shift"
    elif outcomes_moved:
        kind = "concept drift"
    else:
        kind = "unexplained"
    words = _words(kind, features, named, alone=alone, scores=scores_moved, outcomes=outcomes_moved)
    return Cause(kind=kind, features=features, places=named, alone=alone, words=words)


def _evidence(moved: Moved, share: float) -> Evidence:
    before = np.clip(moved.reference.counts, 0.0, None) / max(1.0, moved.reference.rows)
    now = np.clip(moved.window.counts, 0.0, None) / max(1.0, moved.window.rows)
    spread = np.sqrt(
        np.maximum(before * (1.0 - before), 10.0 / moved.window.rows) / moved.window.rows
        + (moved.window.noise_std / moved.window.rows) ** 2
        + (moved.reference.noise_std / moved.reference.rows) ** 2
    )
    gained = now - before
    clear = (gained > FAR * spread) & (gained > LARGE)
    mark, place = _mark(moved, now, before, clear)
    if mark is None:
        place = int(np.abs(gained).argmax())
    return Evidence(moved.feature, share, mark, moved.labels[place], float(before[place]), float(now[place]))


def _mark(moved: Moved, now: np.ndarray, before: np.ndarray, clear: np.ndarray) -> tuple[Mark | None, int]:
    last = now.size - 1
    if clear[last]:
        return ("unknown words" if moved.kind == "words" else "missing"), last
    fullest = int(now.argmax())
    ends = (0, last - 1) if moved.kind == "number" else ()
    full = now[fullest] >= _NEARLY_ALL and before[fullest] <= _HALF and clear[fullest]
    if full:
        return ("out of range" if fullest in ends else "one value"), fullest
    for end in ends:
        beside = 1 if end == 0 else last - 2
        # What piles up at the end of a range, and not beside it.
        if clear[end] and last > 2 and now[end] - before[end] > 3.0 * max(0.0, now[beside] - before[beside]):  # noqa: PLR2004
            return "out of range", end
    return None, 0


def _words(
    kind: Kind,
    features: Sequence[Evidence],
    named: Sequence[str],
    *,
    alone: bool,
    scores: bool,
    outcomes: bool | None,
) -> str:
    more = f" and {len(named) - _NAMED} more places" if len(named) > _NAMED else ""
    where = f" at {', '.join(named[:_NAMED])}{more}" if named else ""
    which = ", ".join(each.feature for each in features[:3])
    came = {
        None: NO_OUTCOMES,
        True: "outcomes moved as well",
        False: "outcomes at equal scores did not move",
    }[outcomes]
    match kind:
        case "data fault":
            found = f"probably a fault in the data{where}: {which} changed as if values were read or delivered wrongly; {came}"
        case "population shift":
            found = f"probably another population{where}: {which} moved, and nothing in that looks like a fault; {came}"
        case "concept drift":
            found = f"probably concept drift{where}: outcomes at equal scores moved, and inputs did not"
        case "unexplained":
            what = "scores moved" if scores else "something moved"
            found = f"{what}{where} though no single input did; inputs may have moved together, which counts by feature cannot show; {came}"
    return found + ("; no other place moved, so look at that place's systems first" if alone else "")
