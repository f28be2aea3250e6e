"""What each stage sums up under secure aggregation: its integers, their number, and what the opened sum says."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from coordinator.rounds.question import Pooled, Question, RunDocuments
from protos.frames import Stage
from protos.plan import SecureAggregation
from strategies.ids import SiteName
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates
from strategies.secagg.rings import Ring
from strategies.secagg.server import Opened


@dataclass(frozen=True, slots=True)
class StagePayload:
    """The sum of one question over `dimension` coordinates."""

    embedding: Moments | WeightedUpdates | Counts
    dimension: int

    @property
    def ring(self) -> Ring:
        """The ring of the sum."""
        return self.embedding.ring

    def pooled(self, opened: Opened) -> Pooled:
        """The opened sum as moments (3k,), mean of updates (d,), or counts (2, bins)."""
        match self.embedding:
            case Moments() as moments:
                return Pooled(opened.survivors, moments.value(opened.total))
            case WeightedUpdates() as updates:
                return Pooled(opened.survivors, updates.mean(opened.total, opened.survivors))
            case Counts():
                return Pooled(opened.survivors, opened.total.reshape(2, -1).astype(np.int64))


def dimension_of(question: Question, documents: RunDocuments) -> int:
    """Coordinates of the sum, whoever is asked."""
    match question.stage:
        case Stage.PREPARE:
            return 3 * len(documents.features.numeric)
        case Stage.TRAIN:
            return 0 if question.model is None else question.model.size
        case Stage.EVALUATE:
            return 2 * documents.plan.evaluation.score_bins


def payload_of(
    question: Question, documents: RunDocuments, secure: SecureAggregation, roster: Collection[SiteName]
) -> StagePayload:
    """The payload of `question` where `roster` is asked: sites derive the same from plan and statement."""
    dimension, weight = dimension_of(question, documents), documents.plan.weight_of
    match question.stage:
        case Stage.PREPARE:
            return StagePayload(Moments(len(roster)), dimension)
        case Stage.TRAIN:
            updates = WeightedUpdates(secure.update_range, {site: weight(site) for site in roster})
            return StagePayload(updates, dimension)
        case Stage.EVALUATE:
            return StagePayload(Counts(len(roster)), dimension)
