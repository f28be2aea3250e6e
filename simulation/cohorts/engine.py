"""What trains a cohort: an engine, which is asked for sums over clients and tells nothing about one of them.

1. A cohort is a rising row of client numbers. It is cut into slices by its length and by what plan and population are (`slices`), never by who computes
   them or where.
2. The sum of a slice is taken in the order of its clients, the sum of a cohort in the order of its slices. So every engine that computes slices
   alike returns the same bits, with however many workers.
3. Work is handed out in whole slices: adding up sums of some slices and then these sums would be another order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from simulation.in_order import in_order
from strategies.aggregation import Contribution, RunningSum, WeightedSum, added_in_order
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName

SLICE_CLIENTS: Final = 50
"""Most clients of a slice: enough that a step is arithmetic and not overhead, few enough that it stays near a core's cache."""

Clients = npt.NDArray[np.int64]
"""(n,) numbers of clients, rising, each once."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainRequest:
    """What clients are asked in round `number`: to train from `model`, (d,) float64, on rows scaled by `scaling`."""

    number: int
    model: Vector
    scaling: Scaling


class Engine(Protocol):
    """Trains clients of one plan and one population, which it was made for."""

    @property
    def max_slice_clients(self) -> int:
        """Most clients of a slice, which plan and population decide: 1 to `SLICE_CLIENTS`."""
        ...

    @property
    def description(self) -> str:
        """How it computes clients, for people."""
        ...

    def summed(self, asked: TrainRequest, clients: Clients) -> WeightedSum:
        """The sum of the updates of `clients`, a cohort or one of its slices, with the sum of what they count.

        Equal to `added_in_order` of the sums of `slices(clients, max_slice_clients)`, bit for bit. Raises Refused where a value is not finite.
        """
        ...


SliceSum = Callable[[TrainRequest, Clients], WeightedSum]


@dataclass(frozen=True, slots=True)
class Threads:
    """An engine that computes slices by `slice_sum` in `workers` threads."""

    slice_sum: SliceSum
    workers: int
    description: str
    max_slice_clients: int = SLICE_CLIENTS

    def summed(self, asked: TrainRequest, clients: Clients) -> WeightedSum:
        """See `Engine`."""
        work = partial(self.slice_sum, asked)
        return added_in_order(in_order(work, slices(clients, self.max_slice_clients), self.workers))


def slices(clients: Clients, most: int) -> list[Clients]:
    """`clients` in their order, in as few slices of at most `most` as there can be, of equal length but for one client."""
    count = -(-len(clients) // most)
    return np.array_split(clients, count) if count else []


def added(clients: Clients, updates: Iterable[Vector], bound: float | None) -> WeightedSum:
    """The sum over a slice of what `clients` send, in their order, each counting 1. Raises Refused for a value that is not finite.

    Where secure aggregation has a `bound`, a coordinate beyond it counts as the bound and one that is no number as 0, as a site embeds it.
    """
    running = RunningSum()
    for number, update in zip(clients.tolist(), updates, strict=True):
        sent = update
        if bound is not None:
            sent = np.clip(np.nan_to_num(update, nan=0.0, posinf=bound, neginf=-bound), -bound, bound)
        running.add(Contribution(client_name(number), sent))
    return running.so_far


def client_name(number: int) -> SiteName:
    """What client `number` is called: names sort as numbers do."""
    return SiteName(f"client-{number:07d}")
