"""What released attributions say of a model: how much each feature moves scores, by how much on balance, and in which order, with 95 % intervals.

1. Of contributions as they were released: relative to the reference of `strategies.analytics.contributions`, and clipped. How many rows were clipped is in no
   sum, so no figure here is about contributions before that.
2. An interval counts the noise of sums and rows, the rounding of rows' attributions, and the sampling of rows. No sum of squares is released, so sampling has
   the largest variance that numbers from 0 to `bound` with such a mean have (Bhatia and Davis 2000): it is never too narrow, and often wide.
   Rows are taken to be independent, which those of one person are not.
3. The order of two features is told from their difference, all pairs at once (Bonferroni), so the ranks of all features hold together
   (Mogstad, Romano, Shaikh, Wilhelm 2024). Features whose order is open share ranks.
4. A mean signed contribution says what a feature does on balance over these rows. It does not say what a higher value of it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from strategies.analytics.panels import AttributionPanel
from strategies.analytics.shares import Interval, deviations
from strategies.dp.evaluation_cells import ATTRIBUTION_STEPS

SEEN: Final = 3.0
"""Rows, or all contributions together, are seen if they are this many standard deviations of their noise above zero."""
NEAR_CLIP: Final = 0.5
"""Of the clip: where rows' contributions are as long as this on average, many may have been shortened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """Sums over some rows, in logits: `absolute` and `signed` by feature, each with noise of `noise_std`; `rows` has noise of `row_std`."""

    features: tuple[str, ...]
    absolute: tuple[float, ...]
    signed: tuple[float, ...]
    rows: float
    noise_std: float
    row_std: float
    clip: float

    @property
    def bound(self) -> float:
        """The largest contribution of one feature in one row: absolute and signed ones are clipped together."""
        return self.clip / math.sqrt(2.0)

    @property
    def rounding(self) -> float:
        """What rounding toward zero takes from a contribution at most."""
        return self.clip / ATTRIBUTION_STEPS

    @property
    def are_seen(self) -> bool:
        """Whether noise lets see that there are rows."""
        return self.rows > max(0.0, SEEN * self.row_std)

    def sees(self, place: int) -> bool:
        """Whether noise lets see that a feature contributes anything, with confidence in all features at once."""
        return self.absolute[place] > deviations(len(self.features)) * self.noise_std

    def exceeds(self, one: int, other: int, choices: int, *, sampled: bool = True) -> bool:
        """Whether the feature at `one` contributes more than the one at `other`, with confidence in `choices` such findings at once.

        With `sampled` this is about the rows' population, and otherwise about these rows.
        """
        first, second = self.absolute[one], self.absolute[other]
        variance = 2.0 * self.noise_std**2
        if sampled:
            # (a - b)^2 <= a^2 + b^2 <= bound (a + b) for the contributions a and b of any row.
            variance += self.bound * (max(0.0, first) + max(0.0, second))
        return first - second - max(0.0, self.rows) * self.rounding > deviations(choices) * math.sqrt(
            variance
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Attributed:
    """One feature: its mean `absolute` and `signed` contribution in logits a row, its `share` of all absolute ones (None: hidden by noise), and the `best` and
    `worst` rank that it may have. `seen` is whether noise lets see that it contributes at all."""

    feature: str
    absolute: Interval
    signed: Interval
    share: Interval | None
    best: int
    worst: int
    seen: bool

    @property
    def on_balance(self) -> int:
        """1 where it raises scores on balance, -1 where it lowers them, 0 where that is open."""
        return (self.signed.low > 0.0) - (self.signed.high < 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """All features, the strongest first, over `rows` rows (95 %, for noise). Where nothing can be said there are none, and `cannot` says why."""

    rows: Interval
    clip: float
    noise_std: float
    features: tuple[Attributed, ...] = ()
    cannot: str = ""
    cautions: tuple[str, ...] = ()


def parts_of(panel: AttributionPanel) -> tuple[Sums, ...]:
    """The parts of a panel that has several, each with its own rows; none of a panel that has one."""
    if len(panel.parts) == 1:
        return ()
    row_std = panel.noise_std / panel.clip
    return tuple(
        Sums(
            features=panel.features,
            absolute=panel.absolute[place],
            signed=panel.signed[place],
            rows=panel.rows[place],
            noise_std=panel.noise_std,
            row_std=row_std,
            clip=panel.clip,
        )
        for place in range(len(panel.parts))
    )


def whole_of(panel: AttributionPanel, row_std: float) -> Sums:
    """All rows of a panel together; `row_std` is the noise of their number where the panel has no parts."""
    parts = len(panel.parts)
    return Sums(
        features=panel.features,
        absolute=tuple(map(sum, zip(*panel.absolute, strict=True))),
        signed=tuple(map(sum, zip(*panel.signed, strict=True))),
        rows=sum(panel.rows),
        noise_std=panel.noise_std * math.sqrt(parts),
        row_std=row_std if parts == 1 else panel.noise_std / panel.clip * math.sqrt(parts),
        clip=panel.clip,
    )


def explanation_of(sums: Sums) -> Explanation:
    """What `sums` say of each feature."""
    off = deviations() * sums.row_std
    rows = Interval(max(0.0, sums.rows), max(0.0, sums.rows - off), max(0.0, sums.rows + off))
    found = Explanation(rows=rows, clip=sums.clip, noise_std=sums.noise_std)
    if not sums.are_seen:
        return _silent(found, "noise hides how many rows were explained")
    absolute = [_absolute(sums, each) for each in sums.absolute]
    if not any(map(sums.sees, range(len(sums.features)))) or None in absolute:
        return _silent(found, _why_silent(sums))
    features = [_attributed(sums, place, mean) for place, mean in enumerate(absolute) if mean is not None]
    return Explanation(
        rows=rows,
        clip=sums.clip,
        noise_std=sums.noise_std,
        features=tuple(sorted(features, key=lambda each: (-each.absolute.value, each.feature))),
        cautions=tuple(_cautions(sums, features)),
    )


def _silent(found: Explanation, why: str) -> Explanation:
    return Explanation(rows=found.rows, clip=found.clip, noise_std=found.noise_std, cannot=why)


def _why_silent(sums: Sums) -> str:
    if not sums.noise_std:
        return f"no feature contributes {sums.rounding:.3g} logits, the least that is counted, to any row"
    return (
        f"noise (standard deviation {sums.noise_std / sums.rows:.3g} logits a row) hides what every feature contributes; spend more on the evaluation, hold out"
        " more rows, or lower the clip"
    )


def _attributed(sums: Sums, place: int, absolute: Interval) -> Attributed:
    others = [each for each in range(len(sums.features)) if each != place]
    pairs = max(1, len(sums.features) * len(others) // 2)
    return Attributed(
        feature=sums.features[place],
        absolute=absolute,
        signed=_signed(sums, sums.signed[place], absolute),
        share=_share(sums, sums.absolute[place]),
        best=1 + sum(sums.exceeds(each, place, pairs) for each in others),
        worst=1 + len(others) - sum(sums.exceeds(place, each, pairs) for each in others),
        seen=sums.sees(place),
    )


def _absolute(sums: Sums, total: float) -> Interval | None:
    """All m from 0 to the bound with (total - rows m)^2 <= z^2 (noise + m^2 noise of rows + rows m (bound - m)); None where they have no end."""
    rows, squared = sums.rows, deviations() ** 2
    ends = _ends(
        rows * rows + squared * (rows - sums.row_std**2),
        rows * (total + squared * sums.bound / 2.0),
        total * total - squared * sums.noise_std**2,
    )
    if ends is None:
        return None
    value = min(sums.bound, max(0.0, total / rows))
    low, high = min(value, max(0.0, ends[0])), max(value, ends[1]) + sums.rounding
    return Interval(value, 0.0 if total <= 0.0 else low, min(sums.bound, high))


def _signed(sums: Sums, total: float, absolute: Interval) -> Interval:
    """The same of a signed mean: its rows' squares are at most the bound times their absolute values, whose mean is at most `absolute.high`."""
    rows, squared, most = sums.rows, deviations() ** 2, absolute.high
    ends = _ends(
        rows * rows + squared * (rows - sums.row_std**2),
        rows * total,
        total * total - squared * (sums.noise_std**2 + rows * sums.bound * most),
    )
    value = min(most, max(-most, total / rows))
    if ends is None:
        return Interval(value, -most, most)
    low, high = ends[0] - sums.rounding, ends[1] + sums.rounding
    return Interval(value, max(-most, min(value, low)), min(most, max(value, high)))


def _share(sums: Sums, own: float) -> Interval | None:
    """All p with (own - p total)^2 <= z^2 times what noise and sampling give it; None where noise hides the total."""
    count, total, squared = len(sums.features), sum(sums.absolute), deviations() ** 2
    noise = sums.noise_std**2
    if not total > max(0.0, SEEN * sums.noise_std * math.sqrt(count)):
        return None
    value = min(1.0, max(0.0, own / total))
    # Of a row, ((1 - p) a - p rest)^2 <= (1 - p)^2 bound a + p^2 (sqrt(count) bound) rest: both are positive, and a row's contributions have a norm of `bound`.
    longest = (1.0 - value) * sums.bound + value * sums.bound * math.sqrt(count)
    ends = _ends(
        total * total + squared * (total * longest - noise * count),
        own * total + squared * (total * longest / 2.0 - noise),
        own * own - squared * noise,
    )
    if ends is None:
        return None
    off = sums.rows * sums.rounding / total
    low, high = min(value, max(0.0, ends[0])) / (1.0 + count * off), max(value, ends[1]) + off
    return Interval(value, low if own > 0.0 else 0.0, min(1.0, high))


def _ends(a: float, b: float, c: float) -> tuple[float, float] | None:
    """Where a x^2 - 2 b x + c is at most 0; None where that has no end."""
    if not a > 0.0:
        return None
    half = math.sqrt(max(0.0, b * b - a * c))
    return (b - half) / a, (b + half) / a


def _cautions(sums: Sums, features: Sequence[Attributed]) -> Iterator[str]:
    yield (
        f"a row's contributions are clipped together at {sums.clip:g} logits; how many rows that shortened is not released"
    )
    longest = math.sqrt(sum(each.absolute.value**2 for each in features))
    if longest > NEAR_CLIP * sums.bound:
        yield (
            f"contributions are at least {longest:.3g} logits long on average, and at most {sums.bound:.3g} are counted: many rows may have been shortened, and strong"
            " features look weaker than they are. Raise evaluation.explanations.clip in the next plan"
        )
    if hidden := [each.feature for each in features if not each.seen]:
        plural = "s" if len(hidden) == 1 else ""
        if sums.noise_std:
            yield f"noise hides whether {listed(hidden)} contribute{plural} anything"
        else:
            yield f"{listed(hidden)} contribute{plural} nothing to any row, or less than is counted"
    if tied := _tied(features):
        yield f"the order of {listed(tied)} is open"


def _tied(features: Sequence[Attributed]) -> list[str]:
    """Those that are seen and may have each other's rank."""
    seen = sorted((each for each in features if each.seen), key=lambda each: -each.absolute.value)
    tied = {
        each.feature: None
        for one, other in pairwise(seen)
        if one.worst >= other.best
        for each in (one, other)
    }
    return list(tied)


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names as a sentence has them, at least one."""
    shown = list(names[:most])
    if len(names) > most:
        shown.append(f"{len(names) - most} more")
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"
