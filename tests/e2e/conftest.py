"""Federations of real processes, small enough to start often."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from coordinator.cli.runs import watch
from coordinator.runs import RunView, launch, view
from simulation.demo import data
from simulation.deployment import Deployment
from strategies.errors import CovenantError
from strategies.ids import RunId

ROUNDS = 3


class Federation:
    """A running deployment of the demo's four subsidiaries, with a short plan."""

    def __init__(self, deployment: Deployment, plan: Path) -> None:
        self.deployment, self.plan = deployment, plan
        self.sites = ["west", "midwest", "northeast", "south"]

    def variant(self, name: str, **changes: str) -> Path:
        """A copy of the plan with the values of some keys replaced."""
        text = self.plan.read_text()
        for key, value in changes.items():
            text, count = re.subn(rf"(?m)\b{key}: [^,}}\n]+", f"{key}: {value}", text)
            assert count == 1, f"{key} stands {count} times in the plan"
        path = self.plan.with_name(f"{name}.yaml")
        path.write_text(text)
        return path

    def launch(self, plan: Path | None = None) -> RunId:
        """Launch a plan once its officers have approved it, which every site asks for."""
        self.deployment.approve(plan or self.plan)
        return launch(self.deployment.centre(), plan or self.plan)

    def finish(self, run: RunId) -> RunView:
        return watch(self.deployment.centre(), run)

    def view(self, run: RunId) -> RunView:
        return view(self.deployment.centre().engine, run)

    def log(self, name: str) -> str:
        return self.deployment.log_of(name).read_text()

    def connections(self, site: str) -> int:
        """How often the agent of `site` has connected."""
        return self.log(site).count('"connected"')

    def restart(self, site: str) -> None:
        """Start an agent again, and wait until it is connected."""
        before = self.connections(site)
        self.deployment.start_agent(site)
        self.wait(lambda: self.connections(site) > before, f"the reconnection of {site}")

    def wait(self, condition: Callable[[], bool], what: str, within_s: float = 120.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, f"{what} did not happen within {within_s:g} s"
            time.sleep(0.05)


def lay_out(folder: Path, **changes: str) -> tuple[Deployment, Path]:
    contract = data.copy_document(data.CONTRACT, folder)
    plan = data.copy_document(data.WITHOUT_PRIVACY, folder, data.PLAN)
    deployment = Deployment(folder / "federation")
    federation = Federation(deployment, plan)
    short = {"rounds": str(ROUNDS), "every": "2", "round_deadline": "60s", **changes}
    plan = federation.variant("short", **short)
    deployment.lay_out(data.regional_loans(), contract, purpose="credit-risk", allow_plain=True)
    return deployment, plan


def start(deployment: Deployment, sites: list[str]) -> None:
    deployment.start_coordinator()
    for site in sites:
        deployment.start_agent(site)
    deployment.wait_until_ready()


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    """One running federation for the tests of a module; a test that breaks something mends it."""
    deployment, plan = lay_out(tmp_path_factory.mktemp("federation"))
    running = Federation(deployment, plan)
    with deployment:
        start(deployment, running.sites)
        yield running


@pytest.fixture
def failing() -> Callable[[Federation, RunId], str]:
    """The reason for which a run fails."""

    def reason(federation: Federation, run: RunId) -> str:
        with pytest.raises(CovenantError) as failure:
            federation.finish(run)
        return str(failure.value)

    return reason
