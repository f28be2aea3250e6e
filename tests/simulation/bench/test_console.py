"""The benchmark of the console asks pages that answer, with what it says in the database, and proofs that hold."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import func, select

from coordinator.console.reads import runs
from coordinator.console.routes import all_routes
from coordinator.db import reading
from coordinator.db.ledger_schema import LedgerAccount
from coordinator.db.log_schema import LoggedSubject
from coordinator.db.schema import Checkpoint, Model, Round, Site
from coordinator.deploy import inventory as deployments
from coordinator.governance import halts
from coordinator.governance.log import open_log
from coordinator.governance.policies import packs
from coordinator.ledger import Ledger
from coordinator.runs import load_documents
from protos.log_entries import LogEntry
from protos.log_subjects import subjects_of
from simulation.bench.console import NO_PAGES, measure
from simulation.bench.console_data import fill
from simulation.bench.console_events import TARGETS
from simulation.bench.console_year import LongYear, Scale
from strategies.errors import UsageError
from strategies.transparency.merkle import leaf_hash, verify_inclusion

SMALL = Scale(runs=60, entries=1200, sites=30, models=7, wide_rounds=12)


@pytest.mark.slow
def test_a_long_year_is_as_the_coordinator_writes_it(tmp_path: Path) -> None:
    year = LongYear.begun(tmp_path / "home", SMALL, None, datetime.now(UTC))
    fill(year)
    engine = year.centre.engine
    log = open_log(engine, year.centre.settings, year.centre.clock)
    entries, head = list(log.entries()), log.head(log.size())
    with reading(engine, "counting") as session:
        counts = {
            each: session.scalar(select(func.count()).select_from(each))
            for each in (Round, Checkpoint, Site, LedgerAccount, Model)
        }
        indexed = {(row.subject, row.seq) for row in session.scalars(select(LoggedSubject))}

    wide = year.wide.rounds
    told = Counter(LogEntry.from_canonical(each.body).what.kind for each in entries)
    assert told["launch"] == 61
    assert told["round"] == 60 * SMALL.rounds + wide
    assert counts == {
        Round: 60 * SMALL.rounds + wide,
        Checkpoint: 60 * SMALL.rounds + wide,
        Site: 30,
        LedgerAccount: 30,
        Model: 8,
    }
    assert len(year.wide.sites) == 30
    assert sum(each.kind == "edge" for each in deployments.targets(engine)) == TARGETS - 1
    assert {each.state for each in deployments.rollouts(engine)} == {"full", "superseded", "canary"}
    assert {each.state for each in halts.views(engine)} == {"lifted", "stands"}
    assert [each.state for each in packs.kept_packs(year.centre)] == ["in effect"]
    for each in (entries[0], entries[-1], entries[len(entries) // 2]):
        verify_inclusion(
            leaf_hash(each.body),
            index=each.seq,
            size=head.size,
            proof=log.inclusion(each.seq, head.size),
            root=head.root,
        )
    assert indexed == {
        (of.key, each.seq) for each in entries for of in subjects_of(LogEntry.from_canonical(each.body).what)
    }
    assert load_documents(engine, year.run(0)).plan == year.plans[0]
    assert [each.committed for each in runs.page(engine).rows] == [wide, *[SMALL.rounds] * 49]
    assert len(Ledger(engine, year.centre.clock).accounts()) == 30
    with pytest.raises(UsageError, match="has runs already"):
        LongYear.begun(tmp_path / "again", SMALL, f"sqlite:///{tmp_path}/home/covenant.db", datetime.now(UTC))


@pytest.mark.slow
def test_every_page_is_timed(tmp_path: Path) -> None:
    result = measure(scale=SMALL, times=1, database=None, folder=tmp_path)

    there_are = {each.path for each in all_routes() if each.method == "GET"}
    assert {name for name in there_are if f"{name} median_ms" not in result.ours} == set(NO_PAGES)
    assert result.ours["left_out"] == 0
    assert "/runs/{run}, many sites median_ms" in result.ours
    assert result.ours["slowest_page_ms"] <= result.ours["worst_ms"]
    assert 10 < result.ours["first_load_kb"] <= result.ours["heaviest_load_kb"] < 500
    assert {"/ median_ms", "/log median_ms", "/log/{seq} median_ms", "/log, a run median_ms"} <= set(
        result.ours
    )
