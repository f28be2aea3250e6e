"""How a window leaves: charged, then given noise, then written with its raw counts erased, in this order and once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np

from coordinator.deploy.scoring.windows.account import Charged, Kind, charge, release_of
from coordinator.deploy.scoring.windows.store import Integers, Store, Version
from protos.windows import MOST_BYTES, Monitor, Window, Windows
from strategies.dp.events import Release
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.ids import Digest
from strategies.secagg.secrets import SECRET_BYTES

Entropy = Callable[[int], bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One place under one monitor: windows are numbered from the one of index `first` since 1970."""

    name: str
    monitor: Monitor
    first: int
    store: Store
    entropy: Entropy

    @classmethod
    def of(cls, store: Store, entropy: Entropy) -> Self:
        """The place as its service was started last. Raises Refused where none was."""
        monitor, first = store.monitor()
        return cls(name=store.place(), monitor=monitor, first=first, store=store, entropy=entropy)

    def number_at(self, now: float) -> int:
        """The window that a moment is in, in seconds since 1970; windows before the first are part of that."""
        return max(1, int(now // self.monitor.window) - self.first + 1)

    def ends(self, number: int) -> float:
        """When a window ends, in seconds since 1970."""
        return (self.first + number) * self.monitor.window

    def window(self, number: int, version: Version, sequence: int, spent: float, **told: Any) -> Window:  # noqa: ANN401
        """What is told of one version in a window."""
        return Window(
            place=self.name,
            model=version.model,
            version_digest=version.digest,
            contract=version.contract.digest,
            monitor=self.monitor.digest,
            number=number,
            sequence=sequence,
            begins=_moment(self.ends(number - 1)),
            ends=_moment(self.ends(number)),
            spent=spent,
            **told,
        )

    def tell(
        self,
        number: int,
        kind: Kind,
        raw: Mapping[Digest, Integers],
        cells_of_one: int,
        words: Callable[[Digest, Integers, float], Mapping[str, Any]],
        *,
        now: float,
        used: Sequence[str] = (),
    ) -> Sequence[Window]:
        """Release the `raw` counts of a window by version; `words` makes a Window's fields of a version's noisy counts and their noise.

        Where the period has nothing left, decisions are told without counts, and outcomes not at all. Raises DiskError: then nothing was told.
        """
        dimension = sum(map(len, raw.values()))
        release = release_of(self.monitor, kind, cells_of_one=cells_of_one, dimension=dimension)
        with self.store.turn() as turn:
            charged = charge(turn, self.monitor, number, release, kind, now=now, used=used)
        # Here the charge is on disk. Whoever ends now has lost the window.
        told = {version: words(version, *each) for version, each in self._noisy(charged, raw).items()}
        if kind == "outcomes" and charged.release is None:
            return ()
        return self._written(number, kind, charged, {each: told.get(each, {}) for each in raw})

    def _noisy(
        self, charged: Charged, raw: Mapping[Digest, Integers]
    ) -> Mapping[Digest, tuple[Integers, float]]:
        """Counts with noise by version; nothing where nothing may leave."""
        release = charged.release
        if release is None:
            return {}
        noise = discrete_gaussian(release.variance, release.dimension, NoiseSeed(self.entropy(SECRET_BYTES)))
        ends = np.cumsum([len(each) for each in raw.values()])[:-1]
        parts = np.split(noise, ends)
        std = _deviation(release)
        return {
            version: (counts + part, std) for (version, counts), part in zip(raw.items(), parts, strict=True)
        }

    def _written(
        self, number: int, kind: Kind, charged: Charged, told: Mapping[Digest, Mapping[str, Any]]
    ) -> Sequence[Window]:
        versions = self.store.versions()
        with self.store.turn() as turn:
            first = turn.last() + 1
            windows = [
                self.window(number, versions[version], sequence, charged.spent, **fields)
                for sequence, (version, fields) in enumerate(told.items(), first)
            ]
            for each in windows:
                turn.release(charged.id, each)
            if kind == "decisions":
                turn.erase(self.monitor.digest, number)
        return windows


def windows_after(store: Store, place: str, after: int) -> Windows:
    """What the place has told after a sequence, as much as one answer or file holds."""
    found, last = store.windows(after, MOST_BYTES)
    return Windows(place=place, windows=tuple(found), last=last)


def _deviation(release: Release) -> float:
    return float(np.sqrt(release.variance))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
