"""The database itself keeps every row of the ledger as it was written, and refuses rows that contradict themselves."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, delete, insert, text, update
from sqlalchemy.exc import DBAPIError

from coordinator.db import writing
from coordinator.db.ledger_schema import LedgerAccount, LedgerAlert, LedgerCeiling, LedgerEntry, LedgerRelease
from coordinator.ledger import Ledger
from strategies.errors import CovenantError
from strategies.ids import RunId
from tests.ceilings_for_tests import set_ceiling
from tests.coordinator.conftest import Clock
from tests.coordinator.ledger_for_tests import (
    GRADIENT,
    LOANS,
    NORTH,
    TABLES,
    decision,
    everything,
    need,
    settle,
    with_ceiling,
)

KEPT = "keeps every row as it was written"


@pytest.fixture
def ledger(engine: Engine, clock: Clock, run: RunId) -> Ledger:
    """A ledger with at least one row in every table."""
    made = Ledger(engine, clock)
    with_ceiling(made, alert_at=(0.1,))
    made.reserve_now(run, [need()])
    settle(made, engine, run, 1)
    assert all(everything(engine).values())
    return made


def refused(engine: Engine, statement: Any, sentence: str = KEPT) -> None:
    before = everything(engine)
    with pytest.raises(DBAPIError, match=sentence), writing(engine, "tampering") as session:
        session.execute(statement)
    assert everything(engine) == before


def test_no_row_is_deleted(ledger: Ledger, engine: Engine) -> None:
    for table in TABLES:
        refused(engine, delete(table))


CHANGES: tuple[tuple[Any, dict[str, Any]], ...] = (
    (LedgerCeiling, {"epsilon": 100.0}),
    (LedgerCeiling, {"reason": "another"}),
    (LedgerRelease, {"facts": "{}"}),
    (LedgerEntry, {"outcome": "voided", "reason": "x", "round": None, "attempt": None}),
    (LedgerEntry, {"times": 1}),
    (LedgerAlert, {"fraction": 0.9}),
    (LedgerAccount, {"site": "south"}),
    (LedgerAccount, {"renyi_order": 2}),
    (LedgerAccount, {"version": 0}),
    (LedgerAccount, {"version": LedgerAccount.version + 2}),
    (LedgerAccount, {"version": LedgerAccount.version + 1, "population": "others"}),
)


def test_no_row_is_changed_but_for_the_version_of_an_account(ledger: Ledger, engine: Engine) -> None:
    for table, change in CHANGES:
        refused(engine, update(table).values(**change))
    with writing(engine, "counting") as session:
        session.execute(update(LedgerAccount).values(version=LedgerAccount.version + 1))


def test_no_row_is_replaced_on_sqlite_or_truncated_on_postgresql(ledger: Ledger, engine: Engine) -> None:
    for table in TABLES:
        name = table.__tablename__
        replace = f"INSERT OR REPLACE INTO {name} SELECT * FROM {name}"
        truncate = f"TRUNCATE {name} CASCADE"
        refused(engine, text(replace if engine.dialect.name == "sqlite" else truncate))


GOOD = {"account_id": 1, "stage": "train", "outcome": "reserved", "times": 1, "at": datetime.now(UTC)}
WRONG: tuple[dict[str, Any], ...] = (
    {"times": 0},
    {"times": -5},
    {"stage": "deploy"},
    {"outcome": "refunded"},
    {"outcome": "settled"},
    {"outcome": "settled", "round": 1, "attempt": 2, "times": 2},
    {"outcome": "settled", "round": 1},
    {"outcome": "reserved", "round": 1, "attempt": 1},
    {"outcome": "voided"},
    {"outcome": "reserved", "reason": "a reserve needs none"},
    {"account_id": 99},
    {"run_id": "run-ffffffffffffffff"},
    {"release_digest": "0" * 64},
    {"outcome": "settled", "round": 1, "attempt": 1},  # settled already
)


def test_an_entry_that_contradicts_itself_or_the_ledger_is_rejected(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    good = {**GOOD, "run_id": run, "release_digest": GRADIENT.digest}
    for wrong in WRONG:
        refused(engine, insert(LedgerEntry).values(**{**good, **wrong}), r"constraint failed|violates|unique")
    with writing(engine, "adding") as session:
        session.execute(insert(LedgerEntry).values(**good))


def test_a_release_that_lost_its_digest_stops_whoever_needs_it(
    ledger: Ledger, engine: Engine, run: RunId
) -> None:
    forged = {"digest": "ab" * 32, "facts": "{}"}
    with writing(engine, "forging") as session:
        session.execute(insert(LedgerRelease).values(**forged))
        session.execute(insert(LedgerEntry).values(**GOOD, run_id=run, release_digest=forged["digest"]))
    for step in (lambda: ledger.show(NORTH, LOANS), lambda: set_ceiling(ledger, NORTH, LOANS, decision())):
        with pytest.raises(CovenantError, match=r"abab.* does not have its digest any more"):
            step()
