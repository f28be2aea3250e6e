"""A run that is cut off for a while: what became of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from coordinator.runs import RunView
from protos.egress import child_environment
from protos.shell import people
from tests.e2e.conftest import Federation, lay_out, start
from tests.network_for_tests import CutNetwork

_TOO_LONG_S = 120.0


@dataclass(frozen=True)
class CutOff:
    """`back_after_s` is how long after the network was mended the next round was committed."""

    finished: RunView
    committed_before: int
    committed_while: int
    back_after_s: float
    seconds: float
    logs: dict[str, str]
    status_while: dict[str, Any]


def play(folder: Path, *, mode: str, cut_s: float, rounds: int) -> CutOff:
    """A run of `rounds` rounds, with all agents cut off for `cut_s` after a few of them."""
    deployment, plan = lay_out(
        folder, rounds=str(rounds), every="1000", round_deadline="10s", join_within="15m"
    )
    if mode == "plain":
        plan.write_text(re.sub(r"(?m)^aggregation: .*$", "aggregation: {mode: plain}", plan.read_text()))
    federation = Federation(deployment, plan)
    with CutNetwork(deployment.port) as network, deployment:
        for site in federation.sites:
            config = deployment.site_folder(site) / "site.yaml"
            config.write_text(config.read_text().replace(f":{deployment.port}", f":{network.port}"))
        start(deployment, federation.sites)
        began = time.monotonic()
        run = federation.launch(plan)
        federation.wait(lambda: federation.view(run).committed >= 3, "the third round", _TOO_LONG_S)
        network.cut()
        time.sleep(2.0)  # what had arrived is committed
        before = federation.view(run).committed
        time.sleep(max(0.0, cut_s - 2.0))
        status = {site: _status(deployment.site_folder(site)) for site in federation.sites}
        committed_while = federation.view(run).committed
        network.mend()
        mended = time.monotonic()
        federation.wait(lambda: federation.view(run).committed > before, "the next round", _TOO_LONG_S)
        back = time.monotonic() - mended
        with people.capture():
            finished = federation.finish(run)
        seconds = time.monotonic() - began
        logs = {site: federation.log(site) for site in federation.sites}
    return CutOff(finished, before, committed_while, back, seconds, logs, status)


def _status(folder: Path) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "client.cli", "status", "--json", "--config", str(folder / "site.yaml")],
        env=child_environment(), capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)
