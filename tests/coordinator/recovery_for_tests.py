"""What the tests of backup and restore share: replaying a whole log, and the tables compared by what the log says of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db import migrate, reading
from coordinator.db.ledger_schema import LedgerAccount, LedgerAlert, LedgerCeiling, LedgerEntry, LedgerRelease
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.recovery_schema import AdoptedCharge, AdoptedSite
from coordinator.db.schema import Attempt, Model, Round, Run
from coordinator.governance.log import append_again
from coordinator.governance.replay import Replay
from strategies.encoding import canonical_json

UNTOLD: dict[Any, set[str]] = {
    # Times are of another look at the clock, and transport, durations and secrets are in no log.
    Run: {"flower_run_id", "idle_starts", "scaling", "submitted_at", "started_at", "finished_at"},
    Round: {"testimony", "opening", "exchange_s", "seconds", "opened_at", "closed_at", "roster"},
    Attempt: {"roster", "opening", "asked_at"},
    Model: {"created_at"},
    LedgerAccount: {"id", "opened_at"},
    LedgerCeiling: {"set_at"},
    LedgerRelease: set(),
    LedgerEntry: {"id", "at"},
    LedgerAlert: {"crossed_at"},
    AdoptedCharge: {"id", "at"},
    AdoptedSite: {"at"},
    LoggedEntry: set(),
}


def told(engine: Engine) -> dict[str, list[Any]]:
    """All that a log tells of the tables, in an order that does not depend on ids."""
    with reading(engine, "looking") as session:
        accounts = {row.id: f"{row.site}/{row.population}" for row in session.scalars(select(LedgerAccount))}
        return {
            model.__tablename__: sorted(
                (_facts(row, untold, accounts) for row in session.scalars(select(model)) if _is_told(row)),
                key=repr,
            )
            for model, untold in UNTOLD.items()
        }


def _is_told(row: Any) -> bool:
    """Attempts that nobody's answer was ever opened of are in no log, nor are rounds before anything became of them."""
    if isinstance(row, Attempt):
        return row.survivors is not None
    if isinstance(row, Round):
        return row.survivors is not None or row.reason is not None
    return True


def _facts(row: Any, untold: set[str], accounts: dict[int, str]) -> dict[str, Any]:
    facts = {
        column.name: getattr(row, column.name)
        for column in row.__table__.columns
        if column.name not in untold
    }
    if "account_id" in facts:
        facts["account_id"] = accounts[facts["account_id"]]
    if facts.get("metrics") is not None:
        facts["metrics"] = canonical_json(facts["metrics"])
    return facts


def replayed(engine: Engine, bodies: Iterable[bytes]) -> None:
    """Replay a whole log into the empty database of `engine`."""
    migrate(engine)
    with engine.begin() as connection, Session(bind=connection, expire_on_commit=False) as session:
        replay = Replay(session, engine)
        for seq, body in enumerate(bodies):
            append_again(session, [body])
            replay.take(seq, body)
        session.commit()
