"""`covenant bench agents`: many real agents on one SuperLink, and what each process of the federation takes.

A real coordinator with its SuperLink (TLS, keys of nodes), and one process a site, forked from one that has imported everything
(`simulation.agents_process`). What sites have in truth for themselves is taken from the centre as little as one machine can: agents give way to it, and
their journals lie in memory, for a hundred sites do not flush one disk. The sites hold a few made-up rows and take one step a round. Requests and bytes are the SuperLink's own count,
processor time and memory the kernel's.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from coordinator.bootstrap import Centre
from coordinator.flower.control import Control
from coordinator.runs import launch
from coordinator.settings import load_settings
from protos.shell import people, tell
from simulation.bench.exchange import laid_out, model_size, plan_text
from simulation.bench.observed import Watch
from simulation.bench.processes import own_mib, share_mib
from simulation.bench.report import BenchResult
from simulation.deployment import Deployment
from simulation.world.folders import memory_folder
from strategies.errors import CovenantError
from strategies.ids import SiteName, site_name
from strategies.secagg.graph import MOST_ACTIVE_SITES
from strategies.secagg.parameters import FEWEST_SURVIVORS

PLAIN: Final = "{mode: plain}"
SECURE: Final = "{mode: secure}"
_ONLINE_WITHIN_S: Final = 600.0
_QUIET_S: Final = 25.0
"""After the last message agents poll less and less often; in so long they are at rest."""
_REST_S: Final = 20.0
_MAY_MISS_ONE_IN: Final = 10
_DEADLINE: Final = "5m"


def measure(*, sites: int, rounds: int, parameters: int) -> BenchResult:
    """A run with plain aggregation and one with secure (active) aggregation, of `rounds` each, over `sites` agents, and a rest before them.

    Secure aggregation against an active coordinator ends at 128 sites, and begins at three; otherwise there is only the plain run.
    """
    secure = FEWEST_SURVIVORS <= sites <= MOST_ACTIVE_SITES
    modes = {"plain": PLAIN} | ({"secure": SECURE} if secure else {})
    with (
        tempfile.TemporaryDirectory(prefix="covenant-bench-") as folder,
        running(Path(folder), sites) as fleet,
    ):
        figures = {"sites": float(sites), "parameters": float(model_size(parameters))} | fleet.started
        figures |= fleet.idle()
        for name, aggregation in modes.items():
            with people.status(f"{sites} agents, {rounds} rounds, {name}"):
                seen = fleet.run(parameters, rounds, aggregation)
            figures |= {f"{name} {figure}": value for figure, value in seen.items()}
            tell(_words(name, seen))
        figures |= fleet.agents_memory()
    return BenchResult(bench="agents", ours=figures)


def _words(mode: str, figures: Mapping[str, float]) -> str:
    """The main figures of a run, for whoever waits for the next one."""
    return (
        f"{mode}: a round takes {figures['round_s']:.2f} s (worst {figures['worst_round_s']:.2f} s), {figures['requests']:.0f} requests, of them"
        f" {figures['polls']:.0f} polls, and {figures['superlink_cpu_s']:.2f} s of the SuperLink's processor and {figures['server_cpu_s']:.2f} s of the server process's;"
        f" at most {figures['superlink_peak_mib']:.0f} and {figures['server_peak_mib']:.0f} MiB"
    )


@dataclass(frozen=True)
class Fleet:
    """A running federation of many agents. `started` says how long it took to come about."""

    folder: Path
    deployment: Deployment
    names: Sequence[SiteName]
    started: dict[str, float]

    @property
    def centre(self) -> Centre:
        """The coordinator's services, from this process."""
        return self.deployment.centre()

    def run(self, parameters: int, rounds: int, aggregation: str) -> dict[str, float]:
        """Launch a plan, follow it to its end, and tell what it took."""
        plan_file = self.folder / "plan.yaml"
        minimum = len(self.names) - len(self.names) // _MAY_MISS_ONE_IN
        text = plan_text(
            self.names, parameters, rounds, minimum=minimum, aggregation=aggregation, deadline=_DEADLINE
        )
        plan_file.write_text(text)
        self.deployment.approve(plan_file)
        watch = Watch(self.deployment, self.names)
        return watch.follow(self.centre, launch(self.centre, plan_file))

    def idle(self) -> dict[str, float]:
        """Requests and processor time of a second in which nothing happens."""
        time.sleep(_QUIET_S)
        watch = Watch(self.deployment, self.names)
        before = watch.sample()
        time.sleep(_REST_S)
        self.deployment.check()
        return {f"idle {name}": value for name, value in watch.sample().a_second(before).items()}

    def agents_memory(self) -> dict[str, float]:
        """Of an agent, the median: its part of what agents share, and what is its own."""
        pids = self.deployment.agent_pids().values()
        shares = [each for pid in pids if (each := share_mib(pid)) is not None]
        own = [each for pid in pids if (each := own_mib(pid)) is not None]
        return {"agent_share_mib": median(shares), "agent_own_mib": median(own), "agents_mib": sum(shares)}


@contextmanager
def running(folder: Path, sites: int) -> Iterator[Fleet]:
    """A federation of `sites` agents that are all online."""
    names = [site_name(f"site-{index:04d}") for index in range(sites)]
    began = time.perf_counter()
    with (
        people.status(f"laying out {sites} sites"),
        tempfile.TemporaryDirectory(prefix="covenant-bench-sites-", dir=memory_folder()) as sites_in,
        laid_out(folder, names, Path(sites_in)) as deployment,
    ):
        laid_out_s = time.perf_counter() - began
        deployment.start_coordinator()
        deployment.wait_until_ready()
        _wait(deployment, sites, lambda control: len(control.registered()), "registered")
        registered_s = time.perf_counter() - began - laid_out_s
        deployment.start_agents(names)
        _wait(deployment, sites, lambda control: len(control.online()), "online")
        online_s = time.perf_counter() - began - laid_out_s - registered_s
        started = {"laid_out_s": laid_out_s, "registered_s": registered_s, "online_s": online_s}
        yield Fleet(folder, deployment, names, started)


def _wait(deployment: Deployment, sites: int, count: Callable[[Control], int], what: str) -> None:
    deadline, found = time.monotonic() + _ONLINE_WITHIN_S, 0
    with Control(load_settings(deployment.home).superlink) as control:
        while time.monotonic() < deadline:
            deployment.check()
            if (found := count(control)) >= sites:
                return
            time.sleep(0.1)
    raise CovenantError(
        f"{found} of {sites} sites are {what} after {_ONLINE_WITHIN_S:.0f} s; see {deployment.logs}"
    )
