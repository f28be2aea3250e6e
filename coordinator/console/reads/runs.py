"""Runs as lists show them: a page of rows in one query, however many there are.

The number of planned rounds is read from the plan's canonical JSON; the plan was checked when the run was recorded. `coordinator.runs.view` has more of
one run.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, Select, Tuple, func, literal, literal_column, select, tuple_
from sqlalchemy.engine import Row

from coordinator.db.engine import reading
from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.db.types import UtcDateTime
from strategies.errors import UsageError
from strategies.ids import RunId, run_id

MOST: Final = 50
_BETWEEN: Final = "~"
_COMMITTED: Final = (
    select(func.count())
    .select_from(Round)
    # Written out, because SQLite uses a partial index for its very words only.
    .where(Round.run_id == Run.id, Round.state == literal_column(f"'{RoundState.COMMITTED}'"))
    .correlate(Run)
    .scalar_subquery()
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRow:
    """A run in a list. `rounds` is how many are planned, `committed` how many of them are."""

    run: RunId
    plan: str
    plan_digest: str
    state: RunState
    reason: str | None
    rounds: int
    committed: int
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None

    @property
    def key(self) -> str:
        """Its place in the list, for `page`."""
        return f"{self.submitted_at.isoformat()}{_BETWEEN}{self.run}"


@dataclass(frozen=True, slots=True)
class RunPage:
    """Runs, the latest first. `newer` and `older` are keys for `page`: the runs before these, and those after them; None where there are none."""

    rows: Sequence[RunRow]
    newer: str | None
    older: str | None


def page(
    engine: Engine,
    *,
    after: str | None = None,
    before: str | None = None,
    states: Sequence[RunState] = (),
    plan: str | None = None,
    limit: int = MOST,
) -> RunPage:
    """At most `limit` runs: the latest, those `after` a key (older), or those just `before` one (newer); of some `states` or of one `plan`, by name.

    Raises UsageError for a key that no page has given.
    """
    query = _rows()
    if states:
        query = query.where(Run.state.in_(states))
    if plan is not None:
        query = query.where(Run.plan_name == plan)
    if before is not None:
        query = query.where(_here() > _place(before)).order_by(Run.submitted_at, Run.id)
    else:
        query = query.order_by(Run.submitted_at.desc(), Run.id.desc())
        if after is not None:
            query = query.where(_here() < _place(after))
    with reading(engine, "listing runs") as session:
        found = [_row(each) for each in session.execute(query.limit(limit + 1))]
    more, rows = len(found) > limit, found[:limit]
    if before is not None:
        rows.reverse()
        return RunPage(rows, rows[0].key if more else None, rows[-1].key if rows else None)
    return RunPage(rows, rows[0].key if rows and after is not None else None, rows[-1].key if more else None)


def of_runs(engine: Engine, runs: Sequence[RunId]) -> Sequence[RunRow]:
    """Some runs that were named, at most `MOST`, the latest first; those that there are not are left out."""
    query = _rows().where(Run.id.in_(list(runs)[:MOST])).order_by(Run.submitted_at.desc(), Run.id.desc())
    with reading(engine, "reading runs") as session:
        return [_row(each) for each in session.execute(query)]


def _rows() -> Select[Any]:
    return select(
        Run.id,
        Run.plan_name,
        Run.plan_digest,
        Run.plan,
        Run.state,
        Run.reason,
        Run.submitted_at,
        Run.started_at,
        Run.finished_at,
        _COMMITTED.label("committed"),
    )


def _row(row: Row[Any]) -> RunRow:
    return RunRow(
        run=RunId(row.id),
        plan=row.plan_name,
        plan_digest=row.plan_digest,
        state=RunState(row.state),
        reason=row.reason,
        rounds=int(json.loads(row.plan)["training"]["rounds"]),
        committed=row.committed,
        submitted_at=row.submitted_at,
        started_at=row.started_at,
        finished_at=row.finished_at,
    )


def _here() -> Tuple:
    return tuple_(Run.submitted_at, Run.id)


def _place(key: str) -> Tuple:
    at, _, run = key.partition(_BETWEEN)
    try:
        moment = datetime.fromisoformat(at)
        if moment.tzinfo is None:
            raise ValueError("no zone")  # noqa: TRY301  (said below)
        return tuple_(literal(moment, UtcDateTime), literal(run_id(run)))
    except (ValueError, UsageError) as error:
        raise UsageError("this page's address is cut or changed; begin at the first page again") from error
