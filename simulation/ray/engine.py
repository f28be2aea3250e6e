"""An experiment on Flower's simulation engine: the real ServerApp and ClientApp over `flwr.simulation.run_simulation` and Ray.

1. Real are, over and above what `simulation.world` leaves real: time, processes, and Flower's engine with its queues. Files of a site are on
   its own machine. Keys, secrets and noise follow from the seed as they do in memory, so the model is the same.
2. It ends in order, also after an error and when it is interrupted: the driver stops, the sites close their folders, Ray is left.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.serverapp import Grid, ServerApp

from coordinator.bootstrap import Centre
from coordinator.db.engine import open_database
from coordinator.db.schema import FINAL_STATES
from coordinator.documents import assemble
from coordinator.flower.manifest import RUN_KEY
from coordinator.flower.server_app import server_app
from coordinator.registry.artifacts import ArtifactStore
from coordinator.runs import RunView, carry, record, view
from coordinator.settings import load_settings
from simulation.experiment import MEASURED, Dropouts, Experiment, Progress, untold
from simulation.ray.cluster import Cluster, ray_for
from simulation.ray.grid import HastyClock, SitesGrid
from simulation.ray.hosts import Hosts
from simulation.ray.sites import sites_app
from simulation.result import SimulationResult
from simulation.world.chance import run_ids, unsafe_centre_entropy
from simulation.world.clock import from_epoch
from simulation.world.folders import memory_folder
from simulation.world.layout import Layout, lay_out
from simulation.world.tally import Tally
from strategies.errors import CovenantError
from strategies.ids import RunId, SiteName

MEASURED_IN_REAL_TIME: Final = (*MEASURED, "sent", "received", "traffic")
"""As `MEASURED`: frames tell moments, which are longer to write or shorter, and a site that is slow is asked again."""
_FLOWER_RUN: Final = 1
_SERVED_WITHIN_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class RayEngine:
    """Runs experiments on a Ray of their own on this machine, or on the cluster at `address` (see `ray_for`)."""

    address: str | None = None

    def simulate(self, experiment: Experiment, progress: Progress = untold) -> SimulationResult:
        """See `simulation.experiment.simulate`. Raises `UsageError` where Ray is not installed, `CovenantError` where it can't be had."""
        began, faults = time.perf_counter(), Dropouts(experiment.dropout, experiment.seed)
        sites = tuple(sorted(experiment.tables))
        with ray_for(self.address, len(sites)) as cluster:
            cluster.require_memory(len(sites))
            import torch  # not before: where Ray is missing, that is said at once

            torch.set_num_threads(1)
            with tempfile.TemporaryDirectory(prefix="covenant-simulation-", dir=memory_folder()) as folder:
                layout = lay_out(
                    Path(folder) / "federation",
                    experiment.plan,
                    experiment.contract,
                    experiment.tables,
                    seed=experiment.seed,
                )
                run = _Run.launch(layout, sites, faults, experiment.seed, progress)
                try:
                    ended = run.until_done(cluster, folder)
                    found = experiment.left(run.centre, run.run, run.tally)
                    return found.result(ended, time.perf_counter() - began)
                finally:
                    run.close()


@dataclass(frozen=True, slots=True)
class _OneRun:
    """A transport that is told of one run; Flower's engine is started for it afterwards."""

    def require(self) -> None:
        """See `Transport.require`: there is nothing to require yet."""

    def start_run(self, run: RunId) -> int:
        """See `Transport.start_run`."""
        del run
        return _FLOWER_RUN

    def stop_run(self, flower_run: int) -> None:
        """See `Transport.stop_run`: it stops by itself."""


@dataclass
class _Run:
    """One run of a layout's plan, which has been launched, to its end."""

    layout: Layout
    sites: tuple[SiteName, ...]
    faults: Dropouts
    seed: int
    progress: Progress
    clock: HastyClock
    centre: Centre
    run: RunId
    began: float
    tally: Tally = field(default_factory=Tally)
    _stopped: threading.Event = field(default_factory=threading.Event)
    _served: threading.Event = field(default_factory=threading.Event)
    _hosts: Hosts | None = None

    @classmethod
    def launch(
        cls, layout: Layout, sites: tuple[SiteName, ...], faults: Dropouts, seed: int, progress: Progress
    ) -> _Run:
        """Open the centre's database, and record and carry a new run of the layout's plan. Raises `CovenantError` for a plan that is not launched."""
        settings, clock, began = load_settings(layout.home), HastyClock(), time.time()
        engine = open_database(settings.database_url)
        centre = Centre(
            settings=settings,
            engine=engine,
            artifacts=ArtifactStore(settings.artifacts),
            clock=lambda: from_epoch(time.time() - began),
            monotonic=clock.monotonic,
            sleep=clock.sleep,
            new_run_id=run_ids(seed),
            entropy=unsafe_centre_entropy(seed),
            transport=_OneRun(),
        )
        try:
            run = centre.new_run_id()
            now = centre.clock()
            record(centre, assemble(settings, run, layout.plan_file, layout.contract_file, now=now))
            carry(centre, run)
        except BaseException:
            engine.dispose()
            raise
        return cls(layout, sites, faults, seed, progress, clock, centre, run, began)

    def close(self) -> None:
        """Let go of every file."""
        self.centre.engine.dispose()

    def until_done(self, cluster: Cluster, folder: str) -> RunView:
        """Carry the run to its end. Raises `CovenantError` where Flower's engine ends before it does."""
        engine = self.centre.engine
        self.tally.committed = lambda: self.progress(view(engine, self.run))
        self._hosts = Hosts.start(
            self.layout,
            self.sites,
            folder=folder if cluster.on_this_machine else None,
            seed=self.seed,
            began=self.began,
        )
        failure = self._in_order(lambda: self._simulated(cluster.cpus_a_worker))
        now = view(engine, self.run)
        if now.state not in FINAL_STATES:
            raise CovenantError(f"Flower's simulation engine ended before the run did: {_cause(failure)}")
        return now

    def _in_order(self, work: Callable[[], None]) -> BaseException | None:
        """Do `work` in a thread of its own; whoever interrupts this one has it end in order. Returns what it raised."""
        with ThreadPoolExecutor(1) as pool:
            doing = pool.submit(work)
            try:
                return doing.exception()
            finally:
                self._stopped.set()
                self._served.wait(_SERVED_WITHIN_S)

    def _simulated(self, cpus: int) -> None:
        from flwr.simulation import run_simulation

        with _quiet_flower():
            run_simulation(
                server_app=self._server_app(),
                client_app=sites_app(self.sites),
                num_supernodes=len(self.sites),
                backend_config={"client_resources": {"num_cpus": cpus, "num_gpus": 0}},
            )

    def _server_app(self) -> ServerApp:
        """The real ServerApp, over a grid that knows the sites. Flower runs it in a thread, and does not wait for it."""
        app, real = ServerApp(), server_app(lambda: self.centre)

        @app.main()
        def main(grid: Grid, context: Context) -> None:
            named = SitesGrid(
                grid, self.layout.node_keys(), self.faults, self.clock, self.tally.frame, self._stopped
            )
            own = Context(
                _FLOWER_RUN, SUPERLINK_NODE_ID, context.node_config, RecordDict(), {RUN_KEY: self.run}
            )
            try:
                named.name_nodes()
                real(named, own)
            finally:
                self._end_sites()
                self._served.set()

        return app

    def _end_sites(self) -> None:
        if self._hosts is None:
            return
        for site, seconds in self._hosts.close().items():
            for number, spent in seconds.items():
                self.tally.seconds[site, number] += spent


def _cause(error: BaseException | None) -> str:
    """The first of the errors that led to `error`, in one line."""
    if error is None:
        return "nobody said why"
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


@contextmanager
def _quiet_flower() -> Iterator[None]:
    """Flower's log has nothing that the result does not say, and what people see here is the command's own."""
    log = logging.getLogger("flwr")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)
