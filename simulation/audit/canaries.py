"""Canaries: rows that are made to be noticed in clipped gradient sums, and a crowd that hides them as little as it can.

1. A canary is one unit with one row: a record, or a customer with one record, at each site that a person may be known to.
2. Rows are made from the contract alone: extreme numbers, values in the middle of the range, missing ones, and words of the vocabularies.
3. Of many such rows those are taken whose clipped gradients say what no other's does, and whose gradients are long before they are clipped: the
   first, because canaries that look alike hide each other; the second, because only clipping keeps them from showing.
4. The crowd's rows are all alike, in the middle of every range, so that what they add to a sum has one direction. They make the spread of each
   feature small, and with it extreme values large.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from client.data import Table
from protos.contract import Contract
from protos.plan import Plan
from simulation.audit.adversary import Matrix, gradients
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Feature, FeatureSpec, NumericFeature, Scaling
from strategies.sampling import held_out

_MIDDLE: Final = 0.5
_EXPECTED_SPREAD: Final = 0.15
"""What the standard deviation of a feature in unit values is taken to be before the run says."""
_EXTREMES: Final = (0.05, 0.2, 0.5, 1.0)
"""Shares of a row's numbers that are extreme."""
_MISSING: Final = 0.1
_LONG: Final = 4.0
"""A gradient of this many clipping norms is long enough."""
_TELLING: Final = 1e-3
"""What a gradient must say that no other does, as a share of the most that one says."""
_CANDIDATES_EACH: Final = 6
_FEWEST_CANDIDATES: Final = 500

Columns = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Rows:
    """n rows: `columns` by name, and labels `target`, (n,) of 0 and 1."""

    columns: Columns
    target: Vector

    def take(self, places: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Rows:
        """The rows at `places`, or for which `places` is true."""
        return Rows({name: each[places] for name, each in self.columns.items()}, self.target[places])

    def and_then(self, other: Rows) -> Rows:
        """These rows, and then those of `other`."""
        joined = {name: np.concatenate((each, other.columns[name])) for name, each in self.columns.items()}
        return Rows(joined, np.concatenate((self.target, other.target)))

    def table(self, keys: Sequence[str], contract: Contract) -> Table:
        """As a site loads them, each a unit of its own that goes by its key."""
        customers = None if contract.customer is None else list(keys)
        return Table(self.columns, self.target, list(keys), customers)


@dataclass(frozen=True, slots=True)
class Canaries:
    """m canaries, and how long their gradients are at the first model, (m,) in clipping norms before clipping, as far as can be foreseen."""

    rows: Rows
    lengths: Vector


def canaries(
    plan: Plan, contract: Contract, clip: float, number: int, source: np.random.Generator
) -> Canaries:
    """At most `number` canaries for gradients that are clipped to `clip`: as many as can be told apart at all.

    Raises UsageError where no row has a gradient.
    """
    spec = contract.feature_spec(plan.features)
    tried = _candidates(spec, max(_FEWEST_CANDIDATES, _CANDIDATES_EACH * number), source)
    model, numbers = plan.dense_model(spec.width), len(spec.numeric)
    expected = Scaling(mean=(_MIDDLE,) * numbers, std=(_EXPECTED_SPREAD,) * numbers)
    vector, encoded = model.initial(plan.training.seed), spec.encode(tried.columns, expected)
    raw = gradients(model, vector, encoded, tried.target, plan.training.class_weights) / clip
    lengths = np.linalg.norm(raw, axis=1)
    places = _most_telling(raw / np.maximum(1.0, lengths)[:, None], np.minimum(lengths, _LONG), number)
    if not len(places):
        raise UsageError(
            f"plan {plan.name} trains a model that no row moves, so there is nothing to audit it with"
        )
    return Canaries(tried.take(places), lengths[places])


def crowd(plan: Plan, contract: Contract, size: int) -> Rows:
    """`size` rows that are all alike, of both classes by turns."""
    spec = contract.feature_spec(plan.features)
    return Rows(
        {each.name: _ordinary(each, size) for each in spec.features}, np.arange(size, dtype=np.float64) % 2.0
    )


def training_keys(plan: Plan, word: str, number: int) -> list[str]:
    """`number` keys that begin with `word`, of units that are not held out."""
    holdout = plan.evaluation.holdout
    names = (f"{word}-{place}" for place in count())
    return list(
        islice((name for name in names if not held_out([name], holdout.salt, holdout.share)[0]), number)
    )


def _candidates(spec: FeatureSpec, number: int, source: np.random.Generator) -> Rows:
    extreme = source.choice(_EXTREMES, size=number)
    return Rows(
        {each.name: _tried(each, extreme, source) for each in spec.features},
        source.integers(0, 2, number).astype(np.float64),
    )


def _tried(feature: Feature, extreme: Vector, source: np.random.Generator) -> npt.NDArray[Any]:
    """One value a row: at an end of the range with probability `extreme`, (n,), else in its middle; or any word."""
    size = len(extreme)
    match feature:
        case NumericFeature():
            ends = source.integers(0, 2, size).astype(np.float64)
            values = _raw(feature, np.where(source.random(size) < extreme, ends, _MIDDLE))
            if feature.missing == "indicator":
                values[source.random(size) < _MISSING] = np.nan
            return values
        case CategoricalFeature():
            words = np.array([*feature.vocabulary, None], dtype=object)
            return words[source.integers(0, len(words), size)]


def _ordinary(feature: Feature, size: int) -> npt.NDArray[Any]:
    match feature:
        case NumericFeature():
            return _raw(feature, np.full(size, _MIDDLE))
        case CategoricalFeature():
            return np.array([feature.vocabulary[0]] * size, dtype=object)


def _raw(feature: NumericFeature, units: Vector) -> Vector:
    """What the feature maps to `units`, (n,) in [0, 1]."""
    reach = feature.high - feature.low
    return feature.low + (
        np.expm1(units * math.log1p(reach)) if feature.transform == "log1p" else units * reach
    )


def _most_telling(clipped: Matrix, length: Vector, number: int) -> npt.NDArray[np.int64]:
    """Places of rows by how much of their gradient the rows before leave unsaid, and by its length before clipping.

    A Cholesky factorisation with pivots of the rows' inner products, of which `parts` are the columns.
    """
    unsaid = np.einsum("ij,ij->i", clipped, clipped)
    least = _TELLING * float(unsaid.max())
    parts = np.zeros((min(number, len(clipped)), len(clipped)))
    chosen: list[int] = []
    for place in range(len(parts)):
        best = int(np.argmax(unsaid * length))
        if not unsaid[best] > least:
            break
        rest = clipped @ clipped[best] - parts[:place].T @ parts[:place, best]
        parts[place] = rest / math.sqrt(unsaid[best])
        unsaid -= parts[place] ** 2
        unsaid[best] = 0.0
        chosen.append(best)
    return np.array(chosen, dtype=np.int64)
