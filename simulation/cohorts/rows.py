"""What a plan makes of clients' rows: which train, which are held out, and how a model sees them, as `TrainingSession` does at one site.

Of a population that draws from one table all of that is computed once, of one that makes its rows for the clients that are asked for.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import Final

import numpy as np
import numpy.typing as npt
import torch

from client.data.table import Part, blocks
from client.training import held_out_rows
from client.training.encoded import Encoded
from client.training.network import tensor
from client.training.panels import importance
from protos.contract import Contract
from protos.plan import Plan
from simulation.cohorts.engine import Clients
from simulation.cohorts.population import Gathered, Integers, Population
from simulation.cohorts.stacked import Rows
from strategies.analytics.histograms import Counts, score_counts
from strategies.analytics.moments import moments_by_feature
from strategies.encoding import Vector
from strategies.features import FeatureSpec, Scaling

_NO_SCORE: Final = 0.5
"""What a row counts as whose score is no number, as at a site."""


@dataclass(frozen=True, slots=True)
class _Whole:
    """The one table of a population, judged once: by row."""

    evaluating: npt.NDArray[np.bool_]
    target: torch.Tensor
    importance: torch.Tensor | None


@dataclass
class ClientRows:
    """Rows of clients of `population` under `plan`; for several threads."""

    plan: Plan
    contract: Contract
    population: Population
    spec: FeatureSpec = field(init=False)
    _whole: _Whole | None = None
    _encoded: tuple[Scaling, Encoded] | None = None
    _turn: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def __post_init__(self) -> None:
        self.spec = self.contract.feature_spec(self.plan.features)
        table = self.population.table
        if table is not None:
            whole = Part(table, np.arange(len(table.keys)))
            self._whole = _Whole(
                held_out_rows(self.plan, self.contract, whole), tensor(table.target), self._counted(whole)
            )

    def training(self, clients: Clients, scaling: Scaling) -> Rows:
        """The training rows of `clients`, as a model sees them."""
        part, counts = self._some(clients, evaluating=False)
        x = torch.from_numpy(self._seen(part, scaling))
        if self._whole is None:
            return Rows(x, tensor(part.target), self._counted(part), counts.tolist())
        places = torch.from_numpy(part.places)
        counted = self._whole.importance
        return Rows(
            x, self._whole.target[places], None if counted is None else counted[places], counts.tolist()
        )

    def moments(self, clients: Clients) -> Vector:
        """Counts, sums and sums of squares over the training rows of `clients` together, (3k,) float64."""
        part, _ = self._some(clients, evaluating=False)
        return moments_by_feature(
            np.concatenate([each.unit_values(part.at(rows, [each.name])) for rows in blocks(len(part))])
            for each in self.spec.numeric
        )

    def score_counts(self, clients: Clients, model: Vector, scaling: Scaling, bins: int) -> Counts:
        """Counts of the scores of the held-out rows of `clients` together, (2, bins)."""
        part, _ = self._some(clients, evaluating=True)
        scores = self.plan.dense_model(self.spec.width).probabilities(model, self._seen(part, scaling))
        return score_counts(np.nan_to_num(scores, nan=_NO_SCORE), part.target, bins)

    def _some(self, clients: Clients, *, evaluating: bool) -> tuple[Part, Integers]:
        """The rows of one kind, client after client, and how many of each."""
        gathered = self.population.gathered(clients)
        chosen = self._are_held_out(gathered) == evaluating
        owner = np.repeat(np.arange(len(gathered.counts)), gathered.counts)
        counts = np.bincount(owner[chosen], minlength=len(gathered.counts)).astype(np.int64)
        return gathered.part.some(np.flatnonzero(chosen)), counts

    def _are_held_out(self, gathered: Gathered) -> npt.NDArray[np.bool_]:
        part = gathered.part
        if self._whole is None:
            return held_out_rows(self.plan, self.contract, part)
        return self._whole.evaluating[part.places]

    def _counted(self, part: Part) -> torch.Tensor | None:
        found = importance(self.plan, self.contract, part)
        return None if found is None else tensor(found)

    def _seen(self, part: Part, scaling: Scaling) -> npt.NDArray[np.float32]:
        """(m, width): of one table's rows a copy of those, if they are kept."""
        if self._whole is None or self.population.table is None:
            return np.asarray(Encoded(self.spec, part, scaling, most_kept=0))
        with self._turn:
            if self._encoded is None or self._encoded[0] != scaling:
                self._encoded = None  # first, so that two runs' rows are never there at once
                whole = Part(self.population.table, np.arange(len(self.population.table.keys)))
                self._encoded = (scaling, Encoded(self.spec, whole, scaling))
            encoded = self._encoded[1]
        return encoded[part.places]
