"""Cohorts on Ray: a process on each processor computes slices of a cohort, and answers with their sums.

1. Each process makes the population and what trains a slice once, from the documents and a few words (`simulation.cohorts.sources`); a file is read on its own machine. A message then
   holds what is asked (the model, the scaling, the round) and the numbers of the clients; its answer is one sum. What is asked is put into Ray's store once a round, from where each
   machine takes one copy.
2. Cohorts are cut and sums are added here, as `Threads` does. So the bits are those of threads, however many processes there are and whichever is first.

Flower's queues have no part in it: they look for messages ten times a second, and a slice takes less.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from protos.contract import Contract
from protos.plan import Plan
from protos.plan_training import LocalTraining
from simulation.cohorts.engine import Clients, SliceSum, TrainRequest, slices
from simulation.cohorts.engines import engine_of
from simulation.cohorts.rows import ClientRows
from simulation.cohorts.run import CohortRun
from simulation.cohorts.sources import Source
from simulation.ray.cluster import ray_for
from simulation.ray.worker import Worker, require_ready
from strategies.aggregation import WeightedSum, added_in_order
from strategies.errors import CovenantError, UsageError

_MOST_PROCESSES: Final = 256


def slice_sum_of(plan: bytes, contract: bytes, source: Source) -> SliceSum:
    """What computes slices of the population of `source`, from canonical bytes. Raises as `Source.population` does."""
    planned, agreed = Plan.from_canonical(plan), Contract.from_canonical(contract)
    rows = ClientRows(planned, agreed, source.population(planned, agreed))
    return engine_of(rows, workers=1, warn=lambda _: None).slice_sum


class SliceHost(Worker):
    """A process that computes slices."""

    _slice_sum: SliceSum

    def make(self, maker: Callable[[], SliceSum]) -> None:
        """Make what computes slices. Raises `CovenantError` that names this machine."""
        try:
            self._slice_sum = maker()
        except CovenantError as error:
            raise CovenantError(f"on {socket.gethostname()}, {error}") from error

    def summed(self, asked: TrainRequest, clients: Clients) -> WeightedSum:
        """The sum of one slice."""
        return self._slice_sum(asked, clients)


@dataclass(frozen=True, slots=True)
class RaySlices:
    """An `Engine` whose slices are computed by `processes`, which are actors of `SliceHost`."""

    max_slice_clients: int
    description: str
    processes: Sequence[Any]

    def summed(self, asked: TrainRequest, clients: Clients) -> WeightedSum:
        """See `Engine`. Raises what a slice raised too, and `CovenantError` where a process has gone."""
        import ray
        from ray.util import ActorPool

        with _failures_said_plainly():
            known, pool = ray.put(asked), ActorPool(list(self.processes))
            parts = slices(clients, self.max_slice_clients)
            return added_in_order(pool.map(lambda process, part: process.summed.remote(known, part), parts))


@contextmanager
def ray_slices(
    address: str | None, run: CohortRun, source: Source, warn: Callable[[str], None]
) -> Iterator[RaySlices]:
    """An engine for `run`, whose population is of `source`, over a Ray of its own or the cluster at `address`, with a process on each processor.

    Raises `UsageError` for a private plan and as `CohortRun.check` and `ray_for` do, and `CovenantError` for a process that does not start or has no such rows.
    """
    run.check()
    if not isinstance(run.plan.training, LocalTraining):
        raise UsageError(
            f"the engine ray computes plans without privacy, and {run.plan.training.algorithm} draws each client's sample and noise in this process; use the engine threads"
        )
    # Says how slices are computed, and whether that deserves a warning, before anything is started.
    here = engine_of(ClientRows(run.plan, run.contract, run.population), workers=1, warn=warn)
    maker = partial(slice_sum_of, run.plan.canonical, run.contract.canonical, source)
    with ray_for(address, _MOST_PROCESSES) as cluster:
        import ray

        count = min(_MOST_PROCESSES, cluster.cpus)
        host = ray.remote(SliceHost)
        processes: dict[str, Any] = {
            f"process {number}": host.options(num_cpus=1).remote() for number in range(1, count + 1)
        }
        require_ready(processes)
        with _failures_said_plainly():
            ray.get([each.make.remote(maker) for each in processes.values()])
        yield RaySlices(
            here.max_slice_clients,
            f"{here.description} in {count} processes on Ray",
            list(processes.values()),
        )


@contextmanager
def _failures_said_plainly() -> Iterator[None]:
    """Raises what a process raised where that is for people, and `CovenantError` for all else."""
    import ray

    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, CovenantError):
            raise error.cause from None
        raise CovenantError(
            f"a process on Ray could not compute slices: {type(error.cause).__name__}: {error.cause}"
        ) from error
    except ray.exceptions.RayError as error:
        raise CovenantError(
            f"a process that computes slices has gone: {str(error).splitlines()[0]}"
        ) from error
