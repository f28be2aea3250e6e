"""One round of a model of many millions of parameters in a federation of real processes: the peak of memory of each, and the times.

    python -m tests.benchmarks.large_model [--parameters 10000000] [--rounds 1]

SuperLink, coordinator, the run's server process and four agents are processes of this machine, with TLS, masks, journals and database as they are in
operation; the model is a perceptron of layers of 4,096 and the demo's loans are its rows, of which each site trains on a few hundred. A peak is what the
kernel has counted of a process (VmHWM, mapped files included), looked at twice a second. Between the processes of one machine memory is the bound: an
agent takes about 50 bytes a parameter, the SuperLink about as many, the run's server 23, so 100,000,000 parameters take some 30 GB together.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RunState
from coordinator.runs import RunView, launch, view
from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from protos.shell import emit, people
from simulation.demo import data
from simulation.deployment import Deployment
from strategies.errors import CovenantError
from strategies.ids import RunId

SITES: Final = ("midwest", "northeast", "south", "west")
ROWS: Final = 400
_WIDEST: Final = 4096
_MOST_LAYERS: Final = 8
_WITHIN_S: Final = 3000.0
_LOOK_S: Final = 0.5
_PATIENCE: Final = 6
_ENDS: Final = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.STOPPED})


def hidden_for(parameters: int) -> tuple[int, ...]:
    """Widths of hidden layers with about so many weights between them: as many of 4,096 as fit, and one that is narrower."""
    if parameters < _WIDEST * 2:
        raise CovenantError(f"{parameters} parameters; this is about models of at least {_WIDEST * 2}")
    whole, rest = divmod(parameters, _WIDEST * _WIDEST)
    widths = (*[_WIDEST] * (whole + 1), *([rest // _WIDEST] if rest >= _WIDEST else []))
    if len(widths) > _MOST_LAYERS:
        raise CovenantError(
            f"{parameters} parameters take {len(widths)} layers; a plan has at most {_MOST_LAYERS}"
        )
    return widths


def measure(parameters: int, rounds: int, folder: Path) -> dict[str, Any]:
    """A run of `rounds` rounds: seconds, and MiB at the peak of each process."""
    contract_file = data.copy_document(data.CONTRACT, folder)
    plan_file = _plan(folder, parameters, rounds)
    plan, contract = load_document(plan_file, Plan), load_document(contract_file, Contract)
    size = plan.dense_model(contract.feature_spec(plan.features).width).size
    tables = {site: table.slice(0, ROWS) for site, table in data.regional_loans().items()}
    with Deployment(folder / "federation") as deployment:
        deployment.lay_out(tables, contract_file, purpose=plan.purpose)
        deployment.start_coordinator()
        for site in SITES:
            deployment.start_agent(site)
        _ready(deployment)
        deployment.approve(plan_file)
        began = time.monotonic()
        run = launch(deployment.centre(), plan_file)
        peaks: dict[str, float] = {}
        at_commit: dict[str, float] = {}
        seen = _watched(deployment, run, rounds, peaks, at_commit)
        seconds = time.monotonic() - began
        with Session(deployment.centre().engine) as session:
            query = select(Round.survivors, Round.exchange_s, Round.seconds).where(Round.run_id == run)
            found = session.execute(query.order_by(Round.number, Round.attempt)).all()
        return {
            "parameters": size, "state": str(seen.state), "reason": seen.reason, "committed": seen.committed,
            "rounds": [{"survivors": survivors, "exchange_s": exchange, "seconds": taken} for survivors, exchange, taken in found],
            "run_s": round(seconds, 1), "peak_mib": peaks, "peak_mib_when_the_last_round_was_committed": at_commit, "load": os.getloadavg(),
        }  # fmt: skip


def _ready(deployment: Deployment) -> None:
    """Wait for longer than a deployment does: the machine may be doing other work. Raises `CovenantError`."""
    for left in reversed(range(_PATIENCE)):
        try:
            return deployment.wait_until_ready()
        except CovenantError:
            if not left:
                raise
    return None


def _plan(folder: Path, parameters: int, rounds: int) -> Path:
    """The demo's plan without privacy, of a large model and few rounds."""
    path = data.copy_document(data.WITHOUT_PRIVACY, folder, data.PLAN)
    text, hidden = path.read_text(), ", ".join(map(str, hidden_for(parameters)))
    for key, value in {
        "rounds": str(rounds),
        "every": str(rounds),
        "round_deadline": "30m",
        "local_epochs": "1",
    }.items():
        text = re.sub(rf"(?m)\b{key}: [^,}}\n]+", f"{key}: {value}", text)
    text = re.sub(r"(?m)^model:.*\n(?:[ ]+.*\n)*", f"model: {{kind: mlp, hidden: [{hidden}]}}\n", text)
    path.write_text(text)
    return path


def _watched(
    deployment: Deployment, run: RunId, rounds: int, peaks: dict[str, float], at_commit: dict[str, float]
) -> RunView:
    """The run when it is over; `peaks` holds the highest that was seen of each process, `at_commit` without evaluating and publishing the model."""
    until = time.monotonic() + _WITHIN_S
    while True:
        for name, pid in _processes(deployment):
            with suppress(OSError, ValueError):
                peaks[name] = max(peaks.get(name, 0.0), _peak_mib(pid))
        seen = view(deployment.centre().engine, run)
        if not at_commit and (seen.committed or 0) >= rounds:
            at_commit |= peaks
        if seen.state in _ENDS or time.monotonic() > until:
            return seen
        time.sleep(_LOOK_S)


def _processes(deployment: Deployment) -> Iterator[tuple[str, int]]:
    for name in ("coordinator", *SITES):
        yield name, deployment.pid(name)
    for name, module in {"superlink": "superlink_process", "server of the run": "server_process"}.items():
        if (pid := deployment.coordinators_child(module)) is not None:
            yield name, pid


def _peak_mib(pid: int) -> float:
    """The most resident memory that a process has had, in MiB. Raises ValueError where it has none any more."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ValueError(f"process {pid} has no memory of its own any more")


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parameters", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=1)
    asked = parser.parse_args()
    with TemporaryDirectory() as folder, people.status(f"{asked.parameters} parameters"):
        emit(measure(asked.parameters, asked.rounds, Path(folder)))


if __name__ == "__main__":
    main()
