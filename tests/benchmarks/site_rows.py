"""A site with millions of rows in PostgreSQL: how long reading and judging them takes, a round's work, and how much memory.

    python -m tests.benchmarks.site_rows [--rows 5000000] [--driver postgresql]

Makes the rows in a database of its own, which is dropped at the end, and measures in a fresh process that has loaded what an agent loads. The
server is COVENANT_TEST_POSTGRES (postgresql+pg8000://postgres@127.0.0.1:5432/test if that is not set).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import TypeVar

from client.data import Table, read_source
from client.training import TrainingSession, session_for
from protos.contract import Contract
from protos.documents import read_document
from protos.plan import Plan
from protos.shell import emit
from protos.site_data import DataSource
from strategies.features import Scaling
from strategies.ids import site_name
from strategies.secagg.secrets import MaskSeed
from tests.client import loans_for_tests, private_for_tests
from tests.contracts import sources_for_tests as places

T = TypeVar("T")
TODAY = date(2026, 7, 1)
CONTRACT = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: loan_id
customer: client
target: {column: status, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000], outside: refuse}
  income: {type: number, unit: USD, range: [0, 1.0e+5], transform: log1p, missing: indicator}
  rate: {type: number, unit: percent, range: [0, 30]}
  months: {type: integer, unit: month, range: [0, 600]}
  late: {type: integer, unit: payment, range: [0, 50]}
  limit: {type: number, unit: USD, range: [0, 1.0e+5]}
  owner: {type: boolean}
  term: {type: category, vocabulary: [short, long], unknown: refuse}
  region: {type: category, vocabulary: [r0, r1, r2, r3, r4, r5, r6, r7, r8, r9, r10, r11, r12, r13, r14, r15, r16, r17, r18]}
  opened: {type: date}
freshness: {column: opened, newest_within: 30d}
minimum_rows: 1000
""",
    Contract,
    "loans.yaml",
)
FEATURES = "[amount, income, rate, months, late, limit, owner, term, region]"
MAKE = """
CREATE TABLE loans AS SELECT
  n AS loan_id, 'c' || n % (:rows / 3) AS client, ((n * 7919) % 100000 / 100.0)::numeric(12,2) AS amount,
  CASE WHEN n % 7 = 0 THEN NULL ELSE ((n * 104729) % 9000000 / 100.0)::float8 END AS income, (n % 2500 / 100.0)::float8 AS rate,
  (n % 480)::int AS months, (n % 13)::int AS late, ((n * 31) % 90000)::float8 AS "limit", n % 3 = 0 AS owner,
  CASE WHEN n % 2 = 0 THEN 'short' ELSE 'long' END AS term, 'r' || n % 20 AS region, date '2026-07-01' - (n % 3000)::int AS opened,
  CASE WHEN (n * 7919) % 100000 > 80000 OR n % 17 = 0 THEN 'bad' ELSE 'good' END AS status
FROM generate_series(1::bigint, :rows) n
"""


def _plans() -> dict[str, Plan]:
    plain = loans_for_tests.PLAN.replace("MODEL", "{kind: logistic}").replace(
        "batch_size: 16", "batch_size: 4096"
    )
    texts = {"none": plain, "distributed": private_for_tests.TEXT}
    return {
        name: read_document(text.replace("[amount, income, term]", FEATURES), Plan, name)
        for name, text in texts.items()
    }


def _peak_mib() -> float:
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)


def _timed(work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    found = work()
    return found, round(time.perf_counter() - began, 1)


def _rounds(name: str, plan: Plan, table: Table) -> dict[str, object]:
    """A site's part in a run: its preparation, one round, one evaluation."""
    session, made = _timed(lambda: session_for(plan, CONTRACT, table, site=site_name("west")))
    scaling = Scaling(mean=(0.5,) * 7, std=(0.3,) * 7)
    model = session.model.initial(1)
    _, prepared = _timed(session.moments)
    if isinstance(session, TrainingSession):
        plain = session
        _, trained = _timed(lambda: plain.train(model, scaling, 1))
    else:
        private = session
        _, trained = _timed(lambda: private.gradient_sum(model, scaling, MaskSeed(bytes(32))))
    _, evaluated = _timed(lambda: session.evaluate(model, scaling))
    seconds = {"session_s": made, "moments_s": prepared, "train_s": trained, "evaluate_s": evaluated}
    return {f"{name}_{what}": each for what, each in {**seconds, "peak_mib": _peak_mib()}.items()}


def measure(url: str, folder: Path) -> dict[str, object]:
    """What a fresh process needs that has loaded what an agent loads."""
    import client.process  # noqa: F401

    found: dict[str, object] = {"peak_mib_before": _peak_mib()}
    source = DataSource(contract="loans@1", contract_file=Path("loans.yaml"), url=url, table="loans")
    reading, seconds = _timed(lambda: read_source(source, CONTRACT, today=TODAY, spool=folder))
    found |= {"validation_s": seconds, "process_cpu_s": round(time.process_time(), 1)}
    found |= {"rows": reading.report.rows, "peak_mib_after_validation": _peak_mib()}
    for name, plan in _plans().items():
        found |= _rounds(name, plan, reading.accepted())
    return found


def main() -> None:
    """Make the rows, measure, drop them."""
    options = argparse.ArgumentParser()
    options.add_argument("--rows", type=int, default=5_000_000)
    options.add_argument("--driver", default="postgresql")
    options.add_argument("--measure", nargs=2)
    given = options.parse_args()
    if given.measure:
        json.dump(measure(given.measure[0], Path(given.measure[1])), sys.stdout)
        return
    with places.postgres() as url, tempfile.TemporaryDirectory() as folder:
        _, made = _timed(lambda: places.execute(url, MAKE.replace(":rows", str(given.rows))))
        command = [sys.executable, __file__, "--measure", places.named(url, given.driver), folder]
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={"PYTHONPATH": str(Path.cwd())}
        )
        emit({"driver": given.driver, "made_s": made, **json.loads(done.stdout)})


if __name__ == "__main__":
    main()
