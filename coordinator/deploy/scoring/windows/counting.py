"""Counts decisions by window and version.

1. A batch is counted by whoever answered it, while its numbers are near. Small ones wait to be counted together, once a second or when they are many.
2. Once a second counts are on disk. A killed process loses what came since: at most a second of decisions, and the next one says how many the log has.
3. A decision belongs to the window of the moment that its line in the log has. One for a window that was told already counts in the next that was not.
4. Only versions that are expected in a window are told of, by who was in force: a decision that came late to a version that was replaced would make its
   window by itself, which says that there was one. It counts in none.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from coordinator.deploy.scoring.arms import Loaded
from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.windows.bins import Bins, Places
from coordinator.deploy.scoring.windows.store import Integers
from strategies.ids import Digest

SMALL_ROWS: Final = 64
MOST_WAITING_ROWS: Final = 1 << 12


@dataclass(frozen=True, slots=True)
class _Noted:
    number: int
    loaded: Loaded
    batch: Batch
    scores: Places


@dataclass(slots=True)
class Counting:
    """Counts by number of the window and digest of the version. Any thread may note."""

    bins: dict[Digest, Bins] = field(default_factory=dict)
    counts: dict[tuple[int, Digest], Integers] = field(default_factory=dict)
    least: int = 1
    """The first window that was not told."""
    expected: set[tuple[int, Digest]] = field(default_factory=set)
    """Windows and versions that are told, whatever was decided."""
    _waiting: list[_Noted] = field(default_factory=list)
    _rows: int = 0
    _noting: threading.Lock = field(default_factory=threading.Lock)
    _counting: threading.Lock = field(default_factory=threading.Lock)

    def note(self, number: int, loaded: Loaded, batch: Batch, scores: Places) -> None:
        """Decisions of one request, in bins of `scores`, (N,)."""
        if batch.rows > SMALL_ROWS:
            self._add(number, loaded.digest, self.bins[loaded.digest].counts(batch, scores))
            return
        with self._noting:
            self._waiting.append(_Noted(number, loaded, batch, scores))
            self._rows += batch.rows
            full = self._rows >= MOST_WAITING_ROWS
        if full:
            self.count()

    def count(self) -> Mapping[tuple[int, Digest], Integers]:
        """Count what was noted; all counts of windows that were not told."""
        with self._noting:
            noted, self._waiting, self._rows = self._waiting, [], 0
        together: dict[tuple[int, Digest], list[_Noted]] = defaultdict(list)
        for each in noted:
            together[each.number, each.loaded.digest].append(each)
        for (number, version), several in together.items():
            self._add(number, version, self._counted(version, several))
        with self._counting:
            return {key: counts for key, counts in self.counts.items() if key in self.expected}

    def expect(self, number: int, version: Digest) -> None:
        """Have counts of a version in a window, though it may decide nothing."""
        with self._counting:
            number = max(self.least, number)
            self.expected.add((number, version))
            if (number, version) not in self.counts:
                self.counts[number, version] = np.zeros(self.bins[version].dimension, dtype=np.int64)

    def taken(self, number: int) -> Mapping[Digest, Integers]:
        """The counts of a window, which are here no more."""
        with self._counting:
            self.least = max(self.least, number + 1)
            versions = sorted(version for each, version in self.expected if each == number)
            found = {version: self.counts[number, version] for version in versions}
            self.counts = {key: counts for key, counts in self.counts.items() if key[0] > number}
            self.expected = {key for key in self.expected if key[0] > number}
            return found

    def _add(self, number: int, version: Digest, counts: Integers) -> None:
        with self._counting:
            key = max(self.least, number), version
            before = self.counts.get(key)
            # A new array: the one before may be on its way to the disk.
            self.counts[key] = counts if before is None else before + counts

    def _counted(self, version: Digest, several: Sequence[_Noted]) -> Integers:
        batch = Batch.joined([each.batch for each in several])
        return self.bins[version].counts(batch, np.concatenate([each.scores for each in several]))
