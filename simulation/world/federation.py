"""A whole federation on one stage: the coordinator's processes are called in turn, everything else happens while they wait.

1. What is real: ServerApp, driver, prompt grid, supervisor, database, artifacts, registry; ClientApp, participant, checks, training,
   journal. What is simulated: time, the SuperLink, the network between, processes and the moments in which they die.
2. One thing happens at a time, in an order that the seed decides.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from flwr.app import Context, RecordDict
from flwr.common.constant import SUPERLINK_NODE_ID
from flwr.supercore.task_identity import TaskIdentity
from sqlalchemy import Engine

from coordinator.bootstrap import Centre
from coordinator.db.engine import open_database
from coordinator.db.schema import FINAL_STATES, RunState
from coordinator.documents import assemble
from coordinator.flower.manifest import RUN_KEY
from coordinator.flower.server_app import server_app
from coordinator.runs import RunView, carry, record, resume, view, views
from coordinator.settings import Settings, load_settings
from coordinator.supervisor import Supervisor
from simulation.world.chance import run_ids, unsafe_centre_entropy
from simulation.world.layout import Layout
from simulation.world.link import MemoryGrid, MemoryLink
from simulation.world.site import SimulatedSite
from simulation.world.storage import WatchedArtifacts, watched_connection
from simulation.world.world import COORDINATOR, SERVER, Crash, World
from strategies.errors import CovenantError, DiskError
from strategies.ids import RunId, SiteName
from strategies.secagg.shamir import Entropy

_NOTICED_AFTER_S = 0.2
_SAID_AGAIN_AFTER_S = 1.0
_TRIES = 20
_EXIT_KILLED, _EXIT_FAILED = -9, 1


class NobodyDrivesError(CovenantError):
    """A run that is not over has no driver, and nothing will give it one."""


@dataclass
class Federation:
    """The coordinator and the sites of a layout, all of them down at first."""

    layout: Layout
    world: World
    seed: int
    link: MemoryLink = field(init=False)
    sites: dict[SiteName, SimulatedSite] = field(init=False)
    _settings: Settings = field(init=False)
    _new_run_id: Callable[[], RunId] = field(init=False)
    _entropy: Entropy = field(init=False)
    _engines: list[Engine] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._settings = load_settings(self.layout.home)
        self._new_run_id, self._entropy = run_ids(self.seed), unsafe_centre_entropy(self.seed)
        keys = self.layout.node_keys()
        self.link = MemoryLink(self.world, keys)
        self.sites = {
            site: SimulatedSite(
                site, self.layout.site_file(site), self.layout.journal(site), self.world, self.link, self.seed
            )
            for site in sorted(keys)
        }

    def start_sites(self) -> None:
        """Start every site's process."""
        for site in self.sites.values():
            site.start()

    def launch(self) -> RunId:
        """Record the layout's plan as a run and start it, as `covenant plan launch` does; whoever types that tries again."""
        for _ in range(_TRIES):
            self._coordinator(self._launch)
            for run in views(self._engine()):
                return run.run
        raise CovenantError(f"the run could not be launched in {_TRIES} tries: {self.world.lines[-1].what}")

    def _launch(self) -> None:
        centre = self.centre()
        run = centre.new_run_id()
        plan_file, contract_file = self.layout.plan_file, self.layout.contract_file
        record(centre, assemble(self._settings, run, plan_file, contract_file, now=centre.clock()))
        carry(centre, run)

    def drive(self, run: RunId, *, operator: Callable[[RunView], bool] = lambda _: False) -> RunView:
        """Let things happen until the run is over; `operator` looks at a run that ended and says whether to resume it."""
        while True:
            now = self.view(run)
            if now.state == RunState.COMPLETED or (now.state in FINAL_STATES and not operator(now)):
                return now
            if now.state in FINAL_STATES:
                self._coordinator(lambda: resume(self.centre(), run))
            elif self.link.waiting:
                self._server_process(*self.link.waiting.pop(0))
            else:
                raise NobodyDrivesError(f"{run} is {now.state}, and nobody drives it any more")

    def view(self, run: RunId) -> RunView:
        """Where a run stands."""
        return view(self._engine(), run)

    def centre(self) -> Centre:
        """The coordinator's services over this world."""
        faults, clock = self.world.faults, self.world.clock
        return Centre(
            settings=self._settings,
            engine=self._engine(),
            artifacts=WatchedArtifacts(self._settings.artifacts, self.world),
            clock=lambda: clock.wall(faults.skew_s(COORDINATOR)),
            monotonic=clock.monotonic,
            sleep=clock.sleep,
            new_run_id=self._new_run_id,
            entropy=self._entropy,
            transport=self.link,
        )

    def close(self) -> None:
        """Let go of every file."""
        for site in self.sites.values():
            site.close()
        self._forget_connections()

    def _server_process(self, flower_run: int, run: str) -> None:
        """One server process from its start to its end, and what the supervisor makes of that."""
        TaskIdentity.task_id, TaskIdentity.run_id, TaskIdentity.node_id = 1, flower_run, SUPERLINK_NODE_ID
        context = Context(flower_run, SUPERLINK_NODE_ID, {}, RecordDict(), {RUN_KEY: run})
        self.world.acting, code = SERVER, 0
        try:
            self.world.step(SERVER, f"starts for Flower run {flower_run}")
            server_app(self.centre)(MemoryGrid(self.link, flower_run), context)
        except Crash as crash:
            self.world.note(SERVER, "dies")
            if crash.whole:
                self._coordinator_dies(crash.down_s)
                return
            code = _EXIT_KILLED
        except Exception as error:  # whatever ends a process  # noqa: BLE001
            self.world.note(SERVER, f"ends: {type(error).__name__}: {error}")
            code = _EXIT_FAILED
        self._forget_connections()
        self.world.clock.sleep(_NOTICED_AFTER_S)
        while not self._coordinator(lambda: Supervisor(self.centre()).process_ended(flower_run, code)):
            self.world.clock.sleep(_SAID_AGAIN_AFTER_S)

    def _coordinator(self, act: Callable[[], None]) -> bool:
        """Something that the coordinator does; where it dies doing it, it is started again. Says whether it need not be repeated."""
        self.world.acting = COORDINATOR
        try:
            act()
        except Crash as crash:
            self._coordinator_dies(crash.down_s)
        except DiskError as error:
            self.world.note(COORDINATOR, f"stops: {error}")
            self._coordinator_dies(_NOTICED_AFTER_S)
        except CovenantError as error:
            self.world.note(COORDINATOR, f"could not: {error}")
            return False
        return True

    def _coordinator_dies(self, down_s: float) -> None:
        """The coordinator, its SuperLink and all server processes are gone; it comes back and resumes what it finds."""
        self.world.acting = COORDINATOR
        self.world.note(COORDINATOR, "dies, and its SuperLink")
        self._forget_connections()
        self.link.forget_everything()
        self.world.clock.sleep(down_s)
        self.world.note(COORDINATOR, "is up")
        for site in self.sites.values():
            if site.up:
                self.link.activate(site)
        self._coordinator(lambda: Supervisor(self.centre()).resume_leftovers())

    def _engine(self) -> Engine:
        if not self._engines:
            watched = watched_connection(self.world)
            self._engines.append(open_database(self._settings.database_url, sqlite_connection=watched))
        return self._engines[-1]

    def _forget_connections(self) -> None:
        """A process that dies lets go of its connections; what it had not committed is rolled back."""
        while self._engines:
            with suppress(Exception):
                self._engines.pop().dispose()
