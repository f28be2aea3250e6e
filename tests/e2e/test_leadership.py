"""Two coordinators over one database: the second waits, leads when the first is killed, and carries runs; a clean stop hands over at once."""

from __future__ import annotations

import shutil
import time
from pathlib import Path

import pytest

from coordinator.bootstrap import Centre, open_centre
from coordinator.runs import launch, view
from coordinator.settings import load_settings
from simulation.deployment import Deployment, free_port
from strategies.errors import Refused
from tests.e2e.conftest import Federation, lay_out

pytestmark = [pytest.mark.engine, pytest.mark.slow]
_LEADS = '"event": "leading"'
_SERVES = '"event": "serving"'
_WAITS = "another coordinator leads"


class Pair:
    """The coordinator of a deployment, and another one with its own home and port over the same database."""

    def __init__(self, deployment: Deployment, plan: Path) -> None:
        self.federation = Federation(deployment, plan)
        self.deployment, self.plan = deployment, plan
        self.second = deployment.folder / "second"
        shutil.copytree(deployment.home, self.second)
        config = self.second / "covenant.yaml"
        text = config.read_text().replace(f"port: {deployment.port}", f"port: {free_port()}")
        config.write_text(f"{text}database: sqlite:///{deployment.home / 'covenant.db'}\n")

    def start_second(self) -> None:
        self.deployment._spawn("second", "coordinator.main", "serve", "--home", str(self.second))

    def log(self, name: str) -> str:
        path = self.deployment.log_of(name)
        return path.read_text() if path.exists() else ""

    def wait_for(self, name: str, words: str, within_s: float, *, times: int = 1) -> float:
        began = time.monotonic()
        self.federation.wait(
            lambda: self.log(name).count(words) >= times, f"{words!r} of {name}", within_s=within_s
        )
        return time.monotonic() - began

    def centre(self, home: Path) -> Centre:
        return open_centre(load_settings(home))


def test_another_coordinator_takes_over(tmp_path: Path) -> None:
    deployment, plan = lay_out(tmp_path)
    with deployment:
        pair = Pair(deployment, plan)
        deployment.start_coordinator()
        pair.wait_for("coordinator", _SERVES, 60.0)
        pair.start_second()
        pair.wait_for("second", "another coordinator leads: ", 60.0)
        assert _LEADS not in pair.log("second")
        deployment.approve(plan)
        with pytest.raises(Refused, match="another coordinator leads"):
            launch(pair.centre(pair.second), plan)

        deployment.kill("coordinator")
        assert pair.wait_for("second", _LEADS, 60.0) > 1.0
        pair.wait_for("second", _SERVES, 120.0)
        run = launch(pair.centre(pair.second), plan)
        pair.federation.wait(
            lambda: view(pair.centre(pair.second).engine, run).state == "running", "the driver's start"
        )

        deployment.start_coordinator()
        pair.wait_for("coordinator", "another coordinator leads: ", 60.0)
        deployment.end("second")
        pair.wait_for("coordinator", _LEADS, 60.0, times=2)
        pair.wait_for("coordinator", _SERVES, 120.0, times=2)
        pair.wait_for("coordinator", '"resuming"', 120.0)  # after it says that it serves


def test_a_coordinator_that_was_killed_leads_again_at_once_in_its_home(tmp_path: Path) -> None:
    deployment, _ = lay_out(tmp_path)
    with deployment:
        deployment.start_coordinator()
        deployment.wait_until_ready()
        deployment.kill("coordinator")
        deployment.start_coordinator()
        Federation(deployment, tmp_path).wait(
            lambda: deployment.log_of("coordinator").read_text().count(_LEADS) >= 2, "the second term", 30.0
        )
        assert _WAITS not in deployment.log_of("coordinator").read_text()
