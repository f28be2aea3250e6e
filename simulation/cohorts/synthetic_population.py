"""Clients whose rows are made up within a contract's ranges: for questions of scale, without any data.

1. A number is even in its unit value (what a model sees before scaling), a word is any of its vocabulary, a twentieth of what may be missing is.
2. Labels follow a logistic rule over the features, which the population's seed draws; each client's base rate is shifted by its own amount, so that clients differ.
3. Nothing is learnt from such rows about people.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from client.data.storage import kept_columns
from client.data.table import Part, Table
from protos.contract import BooleanColumn, CategoryColumn, Contract, NumberColumn
from protos.plan import Plan
from simulation.cohorts.engine import Clients
from simulation.cohorts.population import Gathered, check_size, client_rng
from strategies.encoding import Vector
from strategies.features import Coded
from strategies.models import sigmoid

_MISSING: Final = 0.05
_LOGIT_STD: Final = 1.5
_BASE_LOGIT: Final = -1.0
_CLIENT_STD: Final = 0.5
_RULE: Final = 2**63
"""What takes the place of a client's number where the rule of the labels is drawn: no client has it."""
_EVEN_STD: Final = 1 / math.sqrt(12)

Kept = NumberColumn | BooleanColumn | CategoryColumn


@dataclass(frozen=True)
class SyntheticPopulation:
    """`size` clients with half to one and a half times `rows` rows each. Raises `UsageError`."""

    contract: Contract
    plan: Plan
    size: int
    rows: int
    seed: int
    table: None = None
    _columns: dict[str, Kept] = field(init=False, repr=False)
    _effects: dict[str, Vector] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        check_size(self.size, self.rows)
        protected = self.plan.protected_columns
        read = {*self.plan.columns, *protected}
        kept = kept_columns(self.contract, protected)
        columns = {name: column for name, column in kept.items() if name in read}
        object.__setattr__(self, "_columns", columns)
        object.__setattr__(self, "_effects", self._drawn_effects())

    @property
    def description(self) -> str:
        """See `Population`."""
        return f"made up within the ranges of {self.contract.ref}"

    def gathered(self, clients: Clients) -> Gathered:
        """See `Population`."""
        sources = [client_rng(self.seed, client) for client in clients.tolist()]
        low, high = (self.rows + 1) // 2, self.rows + self.rows // 2
        counts = np.array([source.integers(low, high, endpoint=True) for source in sources], dtype=np.int64)
        shifts = np.repeat([source.normal(_BASE_LOGIT, _CLIENT_STD) for source in sources], counts)
        chance = np.empty((int(counts.sum()), len(self._columns) + 1))
        first = 0
        for source, count in zip(sources, counts.tolist(), strict=True):
            source.random(out=chance[first : first + count])
            first += count
        return Gathered(Part(self._table(clients, counts, chance, shifts), np.arange(first)), counts)

    def _table(self, clients: Clients, counts: Clients, chance: Vector, shifts: Vector) -> Table:
        """Rows from even numbers, (n, columns + 1): one a column, and one for the label."""
        logits, columns = shifts, dict[str, Any]()
        for place, (name, column) in enumerate(self._columns.items()):
            columns[name], effect = _values(column, chance[:, place], self._effects[name])
            logits = logits + effect
        keys = [
            f"{client}-{row}"
            for client, count in zip(clients.tolist(), counts.tolist(), strict=True)
            for row in range(count)
        ]
        protected = set(self.plan.protected_columns)
        return Table(
            columns={name: values for name, values in columns.items() if name not in protected},
            target=(chance[:, -1] < sigmoid(logits)).astype(np.float64),
            keys=keys,
            customers=None if self.contract.customer is None else keys,
            protected={name: values for name, values in columns.items() if name in protected},
        )

    def _drawn_effects(self) -> dict[str, Vector]:
        """What each column adds to the logit: of a number its slope, (1,), of a word its own amount, (words,). Together of one spread, whatever the number of columns."""
        source = client_rng(self.seed, _RULE)
        features = [name for name in self._columns if name not in self.plan.protected_columns]
        spread = _LOGIT_STD / math.sqrt(max(1, len(features)))
        effects: dict[str, Vector] = {}
        for name, column in self._columns.items():
            size = len(column.vocabulary) if isinstance(column, CategoryColumn) else 1
            drawn = source.normal(0.0, spread, size)
            effects[name] = drawn if name in features else np.zeros(size)
        return effects


def _values(column: Kept, even: Vector, effect: Vector) -> tuple[Any, Vector]:
    """A column from even numbers in [0, 1), (n,), and what it adds to the logit, (n,)."""
    match column:
        case CategoryColumn(vocabulary=words):
            codes = np.minimum((even * len(words)).astype(np.uint16), len(words) - 1).astype(np.uint16)
            return Coded(codes, words), effect[codes]
        case BooleanColumn():
            return _with_missing(column, even, lambda unit: np.floor(2.0 * unit), effect)
        case NumberColumn():
            return _with_missing(column, even, lambda unit: _number(column, unit), effect)


def _with_missing(
    column: NumberColumn | BooleanColumn, even: Vector, value: Callable[[Vector], Vector], effect: Vector
) -> tuple[Vector, Vector]:
    slope = effect[0] / _EVEN_STD
    if column.missing == "refuse":
        return value(even), slope * (even - 0.5)
    unit = np.maximum(even - _MISSING, 0.0) / (1.0 - _MISSING)
    absent = even < _MISSING
    return np.where(absent, np.nan, value(unit)), np.where(absent, 0.0, slope * (unit - 0.5))


def _number(column: NumberColumn, unit: Vector) -> Vector:
    """The number that has this unit value; an integer has the nearest one."""
    low, high = column.range
    above = np.expm1(unit * math.log1p(high - low)) if column.transform == "log1p" else unit * (high - low)
    values = np.clip(low + above, low, high)
    return np.asarray(
        np.clip(np.rint(values), math.ceil(low), math.floor(high)) if column.type == "integer" else values
    )
