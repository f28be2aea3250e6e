"""Populations of virtual clients: who there is, whom a round takes, and whose rows are whose.

1. A population is a function of its seed. A client is a number below its size, and its rows follow from seed and number whenever they are asked for: nothing
   is kept of a client, so a million of them take no memory.
2. A cohort is drawn without replacement, in time and memory of the cohort.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from client.data.table import Part, Table
from simulation.cohorts.engine import Clients
from strategies.errors import UsageError

MOST_CLIENTS: Final = 1_000_000
MOST_ROWS: Final = 100_000
"""Of one client, on average."""

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Gathered:
    """The rows of some clients, client after client, `counts`, (clients,), of each; a client's rows are in the order of their keys or as they were made."""

    part: Part
    counts: Integers

    def of(self, place: int) -> Part:
        """The rows of one of the clients."""
        ends = np.cumsum(self.counts)
        return self.part.some(np.arange(ends[place] - self.counts[place], ends[place]))


class Population(Protocol):
    """`size` clients with about `rows` rows each, as `description` says."""

    @property
    def size(self) -> int:
        """How many clients there are, 1 to `MOST_CLIENTS`."""
        ...

    @property
    def rows(self) -> int:
        """How many rows a client has on average."""
        ...

    @property
    def description(self) -> str:
        """Where the rows come from."""
        ...

    @property
    def table(self) -> Table | None:
        """The one table that all rows are drawn from; None where rows are made when they are asked for."""
        ...

    def gathered(self, clients: Clients) -> Gathered:
        """The rows of `clients`, in their order; equal whenever and with whomever they are asked for."""
        ...


def check_size(size: int, rows: int) -> None:
    """Raise `UsageError` for a population that is too large, or of nobody."""
    if not 1 <= size <= MOST_CLIENTS:
        raise UsageError(f"a population of {size} clients cannot be simulated; use 1 to {MOST_CLIENTS}")
    if not 1 <= rows <= MOST_ROWS:
        raise UsageError(f"{rows} rows a client cannot be simulated; use 1 to {MOST_ROWS}")


def check_cohort(cohort: int, size: int) -> None:
    """Raise `UsageError` for a cohort that cannot be drawn from `size` clients."""
    if cohort < 1:
        raise UsageError(f"a cohort of {cohort} clients trains nothing; use at least 1")
    if cohort > size:
        raise UsageError(
            f"a cohort of {cohort} clients cannot be drawn from a population of {size}; use a cohort of at most {size}, or a larger population"
        )


def sample_cohort(purpose: str, seed: int, size: int, cohort: int) -> Clients:
    """`cohort` of `size` clients, each as likely as any other, rising. Raises `UsageError`.

    What the draw is for keeps draws apart: `round 1` and `evaluation` are different cohorts.
    """
    check_cohort(cohort, size)
    chosen = Random(f"cohort {purpose} {seed}").sample(range(size), cohort)  # noqa: S311 (a simulation's)
    return np.sort(np.array(chosen, dtype=np.int64))


def client_rng(seed: int, client: int) -> np.random.Generator:
    """All that chance decides about one client."""
    return np.random.Generator(np.random.SFC64([seed, client]))
