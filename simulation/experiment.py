"""A plan tried before it is launched: a whole run of it in this process, on rows dealt to simulated sites.

1. The run is the real one (`simulation.world`); only time, processes and the network are simulated.
2. The plan is the one that production launches. Another number of sites changes the invitation and nothing else.
3. A site that drops out takes a request and never answers. Which sites do follows from the seed.
"""

from __future__ import annotations

import json
import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Final

import pyarrow as pa

from coordinator.bootstrap import Centre
from coordinator.runs import RunView
from protos.contract import Contract
from protos.frames import Stage
from protos.plan import Plan
from simulation.found import Found
from simulation.repeat import require_equal
from simulation.result import SimulationResult
from simulation.world.federation import Federation
from simulation.world.folders import memory_folder
from simulation.world.frames import asked_in
from simulation.world.layout import lay_out
from simulation.world.tally import Tally
from simulation.world.world import LATENCY_S, Faults, World
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """What is to be tried. `dropout` is the least share of the roster that is lost in each exchange, from 0 to below 1."""

    plan: Plan
    contract: Contract
    tables: Mapping[SiteName, pa.Table]
    partition: str
    seed: int = 0
    dropout: float = 0.0

    def left(self, centre: Centre, run: RunId, tally: Tally) -> Found:
        """What `run` of it has left behind at `centre`, and in `tally`."""
        return Found(
            plan=self.plan,
            contract=self.contract,
            tables=self.tables,
            partition=self.partition,
            seed=self.seed,
            centre=centre,
            run=run,
            tally=tally,
        )


MEASURED: Final[tuple[str, ...]] = ("_s",)
"""Ends of the names of facts that a clock decides, and not the seed."""
Progress = Callable[[RunView], None]
Simulate = Callable[[Experiment, Progress], SimulationResult]
"""Runs an experiment on some engine."""


def untold(_: RunView) -> None:
    """A progress that nobody follows."""


def simulate(experiment: Experiment, progress: Progress = untold) -> SimulationResult:
    """Run the experiment in this process; `progress` hears of each committed round. Raises `CovenantError` for what can't even begin."""
    import torch  # before the clock runs: the first round is not slower than the others

    torch.set_num_threads(1)
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="covenant-simulation-", dir=memory_folder()) as folder:
        layout = lay_out(
            Path(folder) / "federation",
            experiment.plan,
            experiment.contract,
            experiment.tables,
            seed=experiment.seed,
        )
        tally = Tally()
        world = World(faults=Dropouts(experiment.dropout, experiment.seed))
        federation = Federation(layout, world, experiment.seed)
        federation.link.on_frame.append(tally.frame)
        for site in federation.sites.values():
            site.measured = tally.measured
        try:
            federation.start_sites()
            run = federation.launch()
            tally.committed = lambda: progress(federation.view(run))
            ended = federation.drive(run)
            found = experiment.left(federation.centre(), run, tally)
            return found.result(ended, time.perf_counter() - began)
        finally:
            federation.close()


def run_once_or_twice(
    experiment: Experiment,
    *,
    twice: bool,
    progress: Progress = untold,
    engine: Simulate = simulate,
    measured: Sequence[str] = MEASURED,
) -> SimulationResult:
    """Run it on `engine`; twice, and raises `RepeatsDifferentlyError` where the two results differ in more than what is `measured` there."""
    result = engine(experiment, progress)
    if twice:
        again = engine(experiment, progress)
        seed = f"seed {experiment.seed}"
        require_equal(seed, _repeatable(result, measured), _repeatable(again, measured))
    return result


def _repeatable(result: SimulationResult, measured: Sequence[str]) -> list[str]:
    """The facts that one seed decides, a line each."""
    # The model first: whether it differs is the first question about a difference.
    text = json.dumps({"model_digest": result.model_digest} | result.facts(), indent=1)
    return [line for line in text.splitlines() if not any(f'{name}":' in line for name in measured)]


class Dropouts(Faults):
    """In each exchange a share of the roster, rounded up, takes its request and is not heard of again before the deadline."""

    def __init__(self, share: float, seed: int) -> None:
        if not 0 <= share < 1:  # phrased so that NaN is refused
            raise UsageError(f"dropout is {share}; use a share from 0 to below 1, such as 0.1")
        self._share = share
        self._seed = seed

    def request(self, site: SiteName, frame: bytes) -> Sequence[tuple[float, bytes]]:
        """See `Faults.request`."""
        if not self._share:
            return [(LATENCY_S, frame)]
        said = asked_in(frame)
        if said.stage is not Stage.TRAIN or said.roster is None:
            return [(LATENCY_S, frame)]
        lost = math.ceil(self._share * len(said.roster))
        chosen = Random(f"dropouts {self._seed} {said.statement}").sample(sorted(said.roster), lost)  # noqa: S311
        return [] if site in chosen else [(LATENCY_S, frame)]
