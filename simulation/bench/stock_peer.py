"""Stock Flower on the same machine, in the same run: `flower-superlink` and `flower-supernode` as they come."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from importlib.resources import as_file, files
from pathlib import Path
from statistics import median

from protos.egress import child_environment
from simulation.bench.children import told_by
from simulation.bench.report import Figures
from simulation.deployment import free_port

_SETTLE_S = 6.0
_ROUNDS = 3
_SECURE_ROUNDS = 2
_TIMEOUT_S = 600.0
_SECAGG_TIMEOUT_S = 1800.0


def measure_stock(*, sites: int, parameters: int) -> Figures:
    """Median seconds of a round, plain and with SecAgg+, without TLS or authentication, which would only add to it."""
    plain = median(_measured("stock", sites, parameters, _ROUNDS + 1)[1:])
    secure = median(_measured("stock_secure", sites, parameters, _SECURE_ROUNDS))
    # In stock Flower a plain round is one exchange; it exposes no finer figure.
    return {"exchange_s": plain, "round_s": plain, "secure_round_s": secure}


def _measured(app: str, sites: int, parameters: int, rounds: int) -> list[float]:
    """The seconds of each round of an app beside this module, on a SuperLink and SuperNodes of its own."""
    with tempfile.TemporaryDirectory(prefix="covenant-stock-") as name:
        folder = Path(name)
        port = free_port()
        (folder / "config.toml").write_text(
            f'[superlink]\ndefault = "stock"\n[superlink.stock]\naddress = "127.0.0.1:{port}"\ninsecure = true\n'
        )
        with as_file(files("simulation.bench") / app) as source:
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
            return _rounds(folder, sites, parameters, rounds)
        finally:
            for child in children:
                child.terminate()
            for child in children:
                child.wait()


def measure_stock_secagg(*, clients: int, parameters: int) -> Figures:
    """Flower's SecAgg+ without a transport: seconds of a client and of the server, bytes a client, memory."""
    figures: Figures = told_by(
        [sys.executable, "-m", "simulation.bench.stock_secagg", str(clients), str(parameters)],
        "stock SecAgg+",
        environment=child_environment(),
        timeout_s=_SECAGG_TIMEOUT_S,
    )
    return figures


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


def _rounds(folder: Path, sites: int, parameters: int, rounds: int) -> list[float]:
    config = f"sites={sites} parameters={parameters} rounds={rounds}"
    flwr = str(Path(sys.executable).parent / "flwr")
    seconds = told_by(
        [flwr, "run", "app", "stock", "--stream", "--run-config", config],
        f"stock Flower ({rounds} rounds of {sites} sites)",
        environment=_environment(folder),
        timeout_s=_TIMEOUT_S,
        folder=folder,
    )
    return [float(each) for each in seconds]


def _environment(folder: Path) -> dict[str, str]:
    environment = child_environment(flower_home=folder)
    # Stock commands start each other by name, so the folder of this Python comes first.
    return environment | {"PATH": f"{Path(sys.executable).parent}:{environment.get('PATH', '')}"}
