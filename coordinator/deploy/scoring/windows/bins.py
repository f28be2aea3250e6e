"""The cells that decisions of one model version are counted in: score bins, and then the profile's bins of every input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.words import Words
from protos.contract import Contract
from protos.windows import Monitor
from strategies.analytics.noisy import score_bounds
from strategies.analytics.profiles import Profile
from strategies.encoding import Vector
from strategies.features import CategoricalFeature

Integers = npt.NDArray[np.int64]
Places = npt.NDArray[np.intp]


def score_edges(monitor: Monitor) -> Vector:
    """The scores that part the score bins, (bins - 1,) ascending."""
    return score_bounds(monitor.score_bins, monitor.score_scale)[1:-1]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bins:
    """The cells of one version under one monitor: its counts are one vector, (dimension,). A decision is in one cell of the scores and of each feature."""

    edges: Vector = field(repr=False)
    profile: Profile
    codes: Mapping[str, Mapping[str, int]] = field(repr=False)

    @classmethod
    def of(cls, monitor: Monitor, contract: Contract, features: Sequence[str]) -> Self:
        """The cells of a version with those inputs. Raises UsageError for inputs that the contract has not."""
        profile = contract.profile(features, monitor.profile_bins)
        codes = {
            each.name: {word: code for code, word in enumerate(each.vocabulary)}
            for each in profile.categories
        }
        return cls(edges=score_edges(monitor), profile=profile, codes=codes)

    @property
    def scores(self) -> int:
        """How many score bins there are."""
        return len(self.edges) + 1

    @property
    def dimension(self) -> int:
        """Cells in all."""
        return self.scores + self.profile.dimension

    @property
    def cells_of_one(self) -> int:
        """In how many cells one decision counts 1: the square of the counts' L2 sensitivity to it."""
        return 1 + len(self.profile.features)

    def of_scores(self, scores: npt.NDArray[np.float32]) -> Places:
        """The bin of each score, (N, 1), as (N,)."""
        return np.searchsorted(self.edges, scores[:, 0], side="right")

    @staticmethod
    def written(scores: Places) -> str:
        """Bins of scores as a line of the decision log has them, four hexadecimal digits each: as numbers they would cost the line much of its time."""
        return scores.astype(">u2").tobytes().hex()

    @staticmethod
    def read(text: str) -> list[int]:
        """The bins that a line of the decision log has."""
        found: list[int] = np.frombuffer(bytes.fromhex(text), dtype=">u2").tolist()
        return found

    def counts(self, batch: Batch, scores: Places) -> Integers:
        """Counts of a batch, (dimension,), of whose `scores` the bins are known."""
        counted = np.bincount(scores, minlength=self.scores)
        words = [
            self._words(each, found) for each, found in zip(self.profile.categories, batch.words, strict=True)
        ]
        return np.concatenate((counted, self.profile.counts_of(batch.numbers, words)))

    def _words(self, feature: CategoricalFeature, words: Words) -> Integers:
        """Rows by code. A word is looked up once, however many rows have it."""
        known = self.codes[feature.name]
        rows = np.bincount(words.places, minlength=len(words.table)).tolist()
        found = [0] * (len(known) + 1)
        for word, count in zip(words.table, rows, strict=True):
            found[known.get(word, len(known))] += count
        return np.array(found, dtype=np.int64)

    def told(self, counts: npt.NDArray[Any]) -> tuple[tuple[int, ...], Mapping[str, tuple[int, ...]]]:
        """Counts, (dimension,), by score bin and by each feature's bins."""
        scores = tuple(counts[: self.scores].tolist())
        return scores, self.profile.by_feature(counts[self.scores :])
