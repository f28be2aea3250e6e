"""Stock Flower on the same machine, in the same run: `flower-superlink` and `flower-supernode` as they come."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median

from protos.egress import child_environment
from simulation.bench.report import Figures
from simulation.deployment import free_port
from strategies.errors import CovenantError

_SETTLE_S = 6.0
_ROUNDS = 3
_TIMEOUT_S = 600.0
_MARK = "STOCK "


def measure_stock(*, sites: int, parameters: int) -> Figures:
    """Median seconds of a round of FedAvg, the first not counted, without TLS or authentication, which would only add to it."""
    with tempfile.TemporaryDirectory(prefix="covenant-stock-") as name:
        folder = Path(name)
        port = free_port()
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "stock"\n[superlink.stock]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        with as_file(files("simulation.bench") / "stock") as source:
            shutil.copytree(source, folder / "app", ignore=shutil.ignore_patterns("__pycache__"))
        children: list[subprocess.Popen[bytes]] = []
        try:
            children.append(
                _start(
                    folder,
                    "flower-superlink",
                    "--disable-runtime-dependency-installation",
                    "--port",
                    str(port),
                )
            )
            time.sleep(_SETTLE_S)
            for _ in range(sites):
                own = str(free_port())
                children.append(
                    _start(folder, "flower-supernode", "--superlink", f"127.0.0.1:{port}", "--port", own)
                )
            time.sleep(_SETTLE_S)
            seconds = _rounds(folder, sites, parameters)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()
    counted = seconds[1:]
    # In stock Flower a plain round is one exchange; it exposes no finer figure.
    return {"exchange_s": median(counted), "round_s": median(counted)}


def _start(folder: Path, command: str, *arguments: str) -> subprocess.Popen[bytes]:
    with (folder / f"{command}.log").open("ab") as log:
        return subprocess.Popen(
            [str(Path(sys.executable).parent / command), "--insecure", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=_environment(folder),
            cwd=folder,
        )


def _rounds(folder: Path, sites: int, parameters: int) -> list[float]:
    config = f"sites={sites} parameters={parameters} rounds={_ROUNDS + 1}"
    flwr = str(Path(sys.executable).parent / "flwr")
    done = subprocess.run(
        [flwr, "run", "app", "stock", "--stream", "--run-config", config],
        env=_environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    for line in done.stdout.splitlines():
        if _MARK in line:
            return [float(each) for each in json.loads(line[line.index(_MARK) + len(_MARK) :])]
    raise CovenantError(f"stock Flower did not finish its rounds: {(done.stdout + done.stderr)[-800:]}")


def _environment(folder: Path) -> dict[str, str]:
    environment = child_environment(flower_home=folder)
    # Stock commands start each other by name, so the folder of this Python comes first.
    return environment | {"PATH": f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"}
