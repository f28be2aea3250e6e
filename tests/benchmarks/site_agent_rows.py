"""The agent of a site with millions of rows in PostgreSQL, in a federation of real processes: its peak of resident memory, and its times.

    python -m tests.benchmarks.site_agent_rows [--rows 5000000] [--mode none --mode distributed] [--rounds 3]

Makes the rows in a database of its own, which is dropped at the end. One of four sites has them all; each of the others has a file of a few
thousand. SuperLink, coordinator and agents are processes, sums are secure, and an agent's peak is what the kernel has counted of it (VmHWM, mapped
files included) when its run is over. The server is COVENANT_TEST_POSTGRES (postgresql+pg8000://postgres@127.0.0.1:5432/test if that is not set).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import pyarrow as pa
from sqlalchemy import create_engine, select, text
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from coordinator.db.schema import Round, RunState
from coordinator.runs import launch
from protos.documents import load_document
from protos.plan import Plan
from protos.shell import emit, people
from simulation.demo.accounts import account_option, open_accounts
from simulation.deployment import Deployment
from strategies.ids import SiteName
from tests.benchmarks.site_rows import CONTRACT, FEATURES, MAKE
from tests.contracts import sources_for_tests as places
from tests.e2e.conftest import Federation, start

BIG: Final = SiteName("west")
SMALL: Final = tuple(map(SiteName, ("midwest", "northeast", "south")))
SMALL_ROWS: Final = 4000
_WITHIN_S: Final = 1200.0
_HEAD: Final = f"""\
covenant: plan/v1
name: many-rows
purpose: credit-risk
contract: loans@1
features: {FEATURES}
sites: {{members: demo@1, invite: [midwest, northeast, south, west], minimum: 4, join_within: 10m}}
model: {{kind: logistic}}
aggregation: {{mode: secure}}
"""
PLANS: Final = {
    "none": """\
training:
  component: tabular/1
  algorithm: fedavg
  rounds: ROUNDS
  local_epochs: 1
  batch_size: 4096
  learning_rate: 0.1
  round_deadline: 5m
  seed: 1
privacy: {mode: none}
evaluation: {every: ROUNDS, score_bins: 100, holdout: {by: loan_id, share: 0.3, salt: "1"}}
""",
    "distributed": """\
training:
  component: tabular/2
  algorithm: dp-fedsgd
  rounds: ROUNDS
  expected_batch: 640
  nominal_rows: 1280
  round_deadline: 5m
  seed: 1
privacy:
  mode: distributed
  unit: {kind: record}
  limit: {epsilon: 30.0, delta: 1.0e-5}
  noise: {preparation: 4.0, training: 2.0, evaluation: 4.0}
  retries: 2
evaluation: {every: ROUNDS, score_bins: 8, holdout: {by: loan_id, share: 0.3, salt: "1"}}
""",
}


def measure(url: URL, mode: str, rounds: int, folder: Path) -> dict[str, Any]:
    """A run of `rounds` rounds in `mode`: seconds, and MiB at the peak of the agents' processes."""
    plan_file, contract_file = folder / "plan.yaml", folder / "loans.yaml"
    plan_file.write_text(_HEAD + PLANS[mode].replace("ROUNDS", str(rounds)))
    contract_file.write_bytes(CONTRACT.canonical)
    plan = load_document(plan_file, Plan)
    with Deployment(folder / "federation") as deployment:
        deployment.lay_out(
            _few_rows(url),
            contract_file,
            purpose=plan.purpose,
            privacy=[mode],
            account=account_option(plan, CONTRACT),
        )
        _many_rows(deployment, places.named(url, "postgresql"))
        open_accounts(deployment, plan, CONTRACT)
        federation = Federation(deployment, plan_file)
        start(deployment, [*SMALL, BIG])
        federation.wait(lambda: federation.connections(BIG) > 0, f"the connection of {BIG}")
        before = peak_mib(deployment.pid(BIG))
        deployment.approve(plan_file, contract_file)
        began = time.monotonic()
        run = launch(deployment.centre(), plan_file)
        ends = {RunState.COMPLETED, RunState.FAILED, RunState.STOPPED}
        federation.wait(lambda: federation.view(run).state in ends, "the end of the run", _WITHIN_S)
        seconds = time.monotonic() - began
        seen = federation.view(run)
        with Session(deployment.centre().engine) as session:
            query = select(Round.survivors, Round.exchange_s).where(Round.run_id == run)
            sums = session.execute(query.order_by(Round.number)).all()
        return {
            "state": str(seen.state), "reason": seen.reason, "committed": seen.committed,
            "rounds_with_the_site": sum(BIG in (survivors or []) for survivors, _ in sums),
            "exchanges_s": [None if each is None else round(each, 1) for _, each in sums], "run_s": round(seconds, 1),
            "peak_mib_before": before, "peak_mib": peak_mib(deployment.pid(BIG)),
            "peak_mib_of_a_small_site": peak_mib(deployment.pid(SMALL[0])),
        }  # fmt: skip


def peak_mib(pid: int) -> float:
    """The most resident memory that a process has had, in MiB, by the kernel's own count."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return round(int(line.split()[1]) / 1024, 1)
    raise ValueError(f"process {pid} has no memory of its own any more")


def _few_rows(url: URL) -> Mapping[SiteName, pa.Table]:
    """A file's worth of rows for each site; they are rows of the same table, each site's its own."""
    engine = create_engine(url)
    query = text("SELECT * FROM loans WHERE loan_id > :first AND loan_id <= :last ORDER BY loan_id")
    tables = {}
    with engine.connect() as connection:
        for place, site in enumerate((*SMALL, BIG)):
            bounds = {"first": place * SMALL_ROWS, "last": (place + 1) * SMALL_ROWS}
            rows = connection.execute(query, bounds).mappings()
            tables[site] = pa.Table.from_pylist([dict(each) for each in rows])
    engine.dispose()
    return tables


def _many_rows(deployment: Deployment, url: str) -> None:
    """Give one site the whole table in place of its file."""
    config = deployment.site_folder(BIG) / "site.yaml"
    file = f"file: {deployment.site_folder(BIG) / 'data' / 'rows.parquet'}"
    written = config.read_text()
    if written.count(file) != 1:
        raise ValueError(f"{config} does not have the line {file!r} once")
    config.write_text(written.replace(file, f"url: {json.dumps(url)}\n    table: loans"))


def main() -> None:
    """Make the rows, play a run in each mode, drop the rows."""
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--mode", action="append", choices=sorted(PLANS))
    given = options.parse_args()
    with places.postgres() as url:
        began = time.monotonic()
        made = MAKE.replace(":rows", str(given.rows)).replace("date '2026-07-01'", "current_date")
        places.execute(url, made)
        found: dict[str, Any] = {"rows": given.rows, "made_s": round(time.monotonic() - began, 1)}
        for mode in given.mode or sorted(PLANS):
            with TemporaryDirectory() as folder, people.capture():
                found[mode] = measure(url, mode, given.rounds, Path(folder))
        emit(found)


if __name__ == "__main__":
    main()
