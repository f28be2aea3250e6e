"""The effects of retraining's log entries on the table: written by the same function when they happen and when they are replayed."""

from __future__ import annotations

from datetime import datetime
from typing import assert_never

from sqlalchemy.orm import Session

from coordinator.db.loop_schema import DraftRow
from coordinator.governance.effects import carrying_out
from protos.log_loop import LoopEvent, RetrainingDecided, RetrainingDrafted, RetrainingLaunched


def take(session: Session, at: datetime, what: LoopEvent) -> None:
    """Write the effect of one entry."""
    match what:
        case RetrainingDrafted():
            session.add(
                DraftRow(
                    id=what.draft,
                    name=what.model,
                    version=what.version,
                    alarm=what.alarm,
                    author=what.author,
                    text=what.text,
                    plan=what.plan,
                    contract=what.contract,
                    says=list(what.says),
                    gain=dict(what.gain),
                    drafted_by=what.by,
                    drafted_at=at,
                    state="open",
                )
            )
        case RetrainingDecided():
            row = session.get_one(DraftRow, what.draft)
            row.state, row.decided_by, row.decided_at, row.why = what.decision, what.by, at, what.why
        case RetrainingLaunched():
            row = session.get_one(DraftRow, what.draft)
            row.state, row.run = "launched", what.run
        case _:
            assert_never(what)
    session.flush()


carried_out = carrying_out(take)
"""Each event, once its effect is in the tables: for `append`."""
