"""Clients whose rows are drawn from one file: each client draws its own, so a row may be at several clients, and never twice at one.

A file has fewer rows than a large population has clients, so it cannot be dealt out as `simulation.partition.deal` does for sites. The ways in which clients
differ are the same: labels (Hsu, Qi, Brown 2019, section 3: shares of classes from a Dirichlet distribution about the file's own), sizes, or a column.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from client.data import Table, table_from
from client.data.table import Part
from protos.contract import Contract
from protos.plan import Plan
from simulation.cohorts.engine import Clients
from simulation.cohorts.population import Gathered, Integers, check_size, client_rng
from simulation.partition import ByColumn, Dirichlet, Even, Partition, Quantity, describe, values_of
from strategies.errors import UsageError


@dataclass(frozen=True)
class FilePopulation:
    """`size` clients that draw about `rows` rows each from `table`, as `partition` says. `pools` are the rows that a client can draw from: of each class
    where labels are skewed, of each value where a column divides them, or all."""

    table: Table
    partition: Partition
    size: int
    rows: int
    seed: int
    pools: tuple[Integers, ...] = field(repr=False)
    ends: Integers = field(init=False, repr=False)
    """Rows of the pools up to each, added up."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "ends", np.cumsum([len(each) for each in self.pools]))

    @classmethod
    def of(
        cls,
        rows: pa.Table,
        plan: Plan,
        contract: Contract,
        partition: Partition,
        *,
        size: int,
        rows_per_client: int,
        seed: int,
    ) -> FilePopulation:
        """From the rows of a file, judged by the contract once. Raises `CovenantError` where they cannot be used, `UsageError` for more `rows_per_client` than there are."""
        check_size(size, rows_per_client)
        if rows_per_client > rows.num_rows:
            raise UsageError(
                f"a client cannot draw {rows_per_client} of the file's {rows.num_rows} rows; use at most as many"
            )
        table = table_from(
            rows, contract, renamed={}, named="the data file", protected=plan.protected_columns
        )
        return cls(table, partition, size, rows_per_client, seed, _pools(rows, table, contract, partition))

    @property
    def description(self) -> str:
        """See `Population`."""
        return f"drawn from {len(self.table.keys)} rows, {describe(self.partition)}"

    def gathered(self, clients: Clients) -> Gathered:
        """See `Population`."""
        found = [self._places(client_rng(self.seed, client)) for client in clients.tolist()]
        counts = np.array([len(each) for each in found], dtype=np.int64)
        places = np.concatenate([np.zeros(0, dtype=np.int64), *found])
        return Gathered(Part(self.table, places), counts)

    def _places(self, source: np.random.Generator) -> Integers:
        """The rows of one client, rising."""
        match self.partition:
            case Even():
                taken = _some(self.pools[0], self.rows, source)
            case Quantity(alpha):
                # What one share of a Dirichlet distribution over many clients is, but for the sum.
                count = source.gamma(alpha, self.rows / alpha) if alpha <= _EQUAL else self.rows
                taken = _some(self.pools[0], round(count), source)
            case Dirichlet(alpha):
                taken = self._by_label(min(alpha, _EQUAL), source)
            case ByColumn():
                chosen = int(np.searchsorted(self.ends, source.integers(self.ends[-1]), side="right"))
                taken = _some(self.pools[chosen], self.rows, source)
            case unreachable:
                assert_never(unreachable)
        return np.sort(taken)

    def _by_label(self, alpha: float, source: np.random.Generator) -> Integers:
        negatives, positives = self.pools
        prior = len(positives) / len(self.table.keys)
        share = source.beta(max(alpha * prior, _LEAST), max(alpha * (1.0 - prior), _LEAST))
        count = int(source.binomial(self.rows, share))
        return np.concatenate((_some(negatives, self.rows - count, source), _some(positives, count, source)))


_EQUAL = 1e9  # of larger alphas clients are equal, and samplers lose their digits
_LEAST = 1e-6  # of smaller ones every client is of one class, and samplers return no number


def _some(pool: Integers, count: int, source: np.random.Generator) -> Integers:
    """`count` of `pool`, or all where there are fewer."""
    return pool[source.choice(len(pool), min(count, len(pool)), replace=False, shuffle=False)]


def _pools(rows: pa.Table, table: Table, contract: Contract, partition: Partition) -> tuple[Integers, ...]:
    match partition:
        case Dirichlet():
            return np.flatnonzero(table.target == 0), np.flatnonzero(table.target == 1)
        case ByColumn(column):
            return _by_value(rows, table, contract, column)
        case Even() | Quantity():
            return (np.arange(len(table.keys)),)
        case unreachable:
            assert_never(unreachable)


def _by_value(rows: pa.Table, table: Table, contract: Contract, column: str) -> tuple[Integers, ...]:
    """The places of each value's rows, in the order of values. The table is in the order of keys, so values are found by key."""
    keys = pc.cast(rows.column(contract.key), pa.large_string()).to_pylist()
    value_of = dict(zip(keys, values_of(rows, column), strict=True))
    try:
        values = np.array([value_of[key] for key in table.keys])
    except KeyError as error:
        raise UsageError(
            f"keys in column {contract.key!r} are not text or whole numbers, so rows cannot be divided by {column!r}; write them so"
        ) from error
    _, number, sizes = np.unique(values, return_inverse=True, return_counts=True)
    return tuple(np.split(np.argsort(number, kind="stable"), np.cumsum(sizes)[:-1]))
