"""What one evaluation sums up, as one vector of integers: score counts, and where a plan asks for them groups, attributions and a profile.

1. A row adds one to one cell of each model's score counts, of each protected attribute and of each profiled feature. Its attributions, in one of the
   `parts`, are integers of steps with an L2 norm of at most one count, and where there are several parts it is counted in its own.
2. A profile has a block for each feature, and the figures that a model is judged by would drown in the noise of so many. So all other blocks are summed up
   `stress` times, about the root of the number of profiled features: they take half of the noise's budget at least, whatever is profiled.
3. One row moves the vector by at most sqrt(`weight`) units, and a unit of several rows by that many times more: no row in two cells of one block.
4. Counts are in steps of 1/256 where there are attributions, which are rounded toward zero, and whole otherwise.
5. Blocks lie one behind the other, score counts first: without panels the vector is what it was before there were any.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from strategies.errors import UsageError

Integers = npt.NDArray[np.int64]

ATTRIBUTION_STEPS: Final = 256
"""Steps to a count where there are attributions: what rounding takes from a row's attribution is below 1/256 of the clip."""
_LABELS: Final = 2
_MOST_ROWS: Final = 1 << 31


@dataclass(frozen=True, slots=True)
class Blocks:
    """One vector, taken apart, all int64 in steps: `scores` (models, 2, bins), one of `groups` (groups, 2, bins) for each attribute, `part_rows` (parts,)
    or empty, `attributions` (parts, 2, features), absolute and then signed, and one of `profile` (bins,) for each feature."""

    scores: Integers
    groups: tuple[Integers, ...]
    part_rows: Integers
    attributions: Integers
    profile: tuple[Integers, ...]


@dataclass(frozen=True, slots=True)
class EvaluationCells:
    """The cells of `bins` score bins of each of `models`, and of the panels.

    `groups` is how many groups each protected attribute has, counted by label and `group_bins`; `attributed` how many features have attributions (0: none),
    in `parts`; `profile` how many bins each profiled feature has.
    """

    bins: int
    models: int = 1
    groups: tuple[int, ...] = ()
    group_bins: int = 0
    attributed: int = 0
    parts: int = 1
    profile: tuple[int, ...] = ()

    @property
    def scored(self) -> int:
        """Coordinates of the score counts: two labels of each model."""
        return _LABELS * self.models * self.bins

    @property
    def dimension(self) -> int:
        """Coordinates of the whole vector."""
        return sum(math.prod(shape) for shape in self._shapes())

    @property
    def steps(self) -> int:
        """Steps to a count, of all blocks but the profile's."""
        return self.profile_steps * self.stress

    @property
    def profile_steps(self) -> int:
        """Steps to a count of a profile."""
        return ATTRIBUTION_STEPS if self.attributed else 1

    @property
    def stress(self) -> int:
        """How much more a count outside the profile weighs: the root of the number of profiled features, rounded up; 1 without any."""
        return math.isqrt(len(self.profile) - 1) + 1 if self.profile else 1

    @property
    def weight(self) -> int:
        """The most that one row adds to the square of the vector's length, in counts of a profile."""
        split = self.attributed > 0 and self.parts > 1
        judged = self.models + len(self.groups) + (self.attributed > 0) + split
        return judged * self.stress**2 + len(self.profile)

    def sensitivity(self, rows: int) -> float:
        """The most that `rows` rows of one unit move the vector, L2, in steps. Rounded up where it is no integer."""
        most = rows * self.profile_steps
        return float(most) if self.weight == 1 else math.nextafter(most * math.sqrt(self.weight), math.inf)

    @property
    def levels(self) -> int:
        """The largest coordinate of a site of up to 2^31 rows."""
        return _MOST_ROWS * self.steps

    @property
    def signed(self) -> tuple[int, int]:
        """The coordinates that may be negative before noise, from the first up to the second: those of attributions."""
        sizes = [math.prod(shape) for shape in self._shapes()]
        before = sum(sizes[: 2 + len(self.groups)])
        return before, before + sizes[2 + len(self.groups)]

    def blocks(self, total: Integers) -> Blocks:
        """Views of the blocks of `total`, (dimension,). Raises UsageError for another length."""
        if total.shape != (self.dimension,):
            raise UsageError(f"an evaluation has shape {total.shape}; this one has {self.dimension} cells")
        scores, *rest = self._views(total)
        groups, rest = rest[: len(self.groups)], rest[len(self.groups) :]
        part_rows, attributions, *profile = rest
        return Blocks(scores, tuple(groups), part_rows, attributions, tuple(profile))

    def joined(self, blocks: Sequence[Integers]) -> Integers:
        """The blocks of a site in their order, in counts but for attributions, which are in 1/256; as (dimension,) in steps."""
        total = np.zeros(self.dimension, dtype=np.int64)
        for view, block in zip(self._views(total), blocks, strict=True):
            view[...] = block
        first, end = self.signed
        total[:first] *= self.steps
        total[first:end] *= self.stress
        total[end:] *= self.profile_steps
        return total

    def _shapes(self) -> Iterator[tuple[int, ...]]:
        yield self.models, _LABELS, self.bins
        yield from ((each, _LABELS, self.group_bins) for each in self.groups)
        yield (self.parts if self.attributed and self.parts > 1 else 0,)
        yield self.parts if self.attributed else 0, 2, self.attributed
        yield from ((each,) for each in self.profile)

    def _views(self, total: Integers) -> Iterator[Integers]:
        first = 0
        for shape in self._shapes():
            size = math.prod(shape)
            yield total[first : first + size].reshape(shape)
            first += size
