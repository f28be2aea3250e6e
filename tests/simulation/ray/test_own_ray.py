"""A Ray that is started here runs nothing for who has not its token, which stands in no argument and no file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from flwr.serverapp import ServerApp

from simulation.bench import stock_simulation
from tests.simulation.ray.ray_for_tests import environment

_TIMEOUT_S = 240.0
_OWN = """
import os, pathlib, subprocess, sys
from simulation.ray.cluster import ray_for

CALLER = '''
import sys
import ray

@ray.remote
def ran():
    return 6 * 7

ray.init(address=sys.argv[1], log_to_driver=False)
print("RAN", ray.get(ran.remote()))
'''


def call(address, **given):
    others = {k: v for k, v in os.environ.items() if not k.startswith("RAY_AUTH")}
    command = [sys.executable, "-c", CALLER, address]
    try:
        done = subprocess.run(command, env=others | given, capture_output=True, text=True, timeout=60)
    except subprocess.TimeoutExpired as late:
        return "RAN" if b"RAN" in (late.stdout or b"") else "nothing"
    return "RAN" if "RAN 42" in done.stdout else done.stderr.strip().splitlines()[-1]


with ray_for(None, 2):
    import ray

    context, token = ray.get_runtime_context(), os.environ["RAY_AUTH_TOKEN"]
    print("WITH", call(context.gcs_address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN=token))
    print("WITHOUT", call(context.gcs_address))
    print("OTHER", call(context.gcs_address, RAY_AUTH_MODE="token", RAY_AUTH_TOKEN="0" * 64))
    folder = pathlib.Path(ray._private.worker._global_node.get_session_dir_path())
    files = [each for each in folder.rglob("*") if each.is_file()]
    lines = []
    for each in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(each.read_bytes())
        except OSError:
            pass
    print("FILES", len(files) > 5, [each.name for each in files if token.encode() in each.read_bytes()])
    print("LINES", any(b"gcs_server" in each for each in lines), [each for each in lines if token.encode() in each])
"""


@pytest.mark.slow
def test_who_has_not_the_token_has_nothing_run() -> None:
    pytest.importorskip("ray")
    done = subprocess.run(
        [sys.executable, "-c", _OWN],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = dict(line.split(" ", 1) for line in done.stdout.splitlines() if " " in line)
    assert told["WITH"] == "RAN"  # the control
    assert not told["WITHOUT"].startswith("RAN")
    assert not told["OTHER"].startswith("RAN")
    assert told["FILES"] == "True []"
    assert told["LINES"] == "True []"


def test_the_peer_of_the_benchmark_runs_on_a_ray_of_its_own_which_is_warm_before_it_is_timed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Flower starts or joins another only where there is none yet."""
    told: list[object] = []

    @contextmanager
    def ray_for(address: str | None, sites: int) -> Iterator[None]:
        told.append((address, sites))
        yield
        told.append("ended")

    class Played:
        def __init__(self, **_: object) -> None: ...

        def start(self, *, num_rounds: int, **_: object) -> None:
            told.append(num_rounds)

    def run(server_app: ServerApp, *_: object, backend_config: dict[str, object]) -> None:
        told.append(sorted(backend_config))
        server_app(cast("Any", None), cast("Any", None))

    monkeypatch.setattr(stock_simulation, "ray_for", ray_for)
    monkeypatch.setattr(stock_simulation, "run_simulation", run)
    monkeypatch.setattr(stock_simulation, "FedAvg", Played)
    monkeypatch.setattr(
        stock_simulation.time, "perf_counter", lambda: float(told.append("clock") or len(told))
    )
    stock_simulation._main(3, 5)
    # One round before the clock is looked at: Flower's workers are up and have read what they train with.
    assert told == [(None, 3), ["client_resources"], 1, "clock", 5, "clock", "ended"]
