"""What there is to diagnose a run from: its rows in the database, and the lines that its server processes have logged."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.db.witness_schema import ForkRow
from protos.log_entries import LogEntry
from protos.log_run_events import SiteRefused
from protos.plan import Plan
from strategies.errors import UsageError
from strategies.ids import RunId

_MOST_BYTES: Final = 32 << 20
_SPARE: Final = timedelta(minutes=10)
"""How long after a run has ended something may still be told of it."""
Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Symptom:
    """Something that was said of the run, and `where` it stands; `site` is whom it is about."""

    where: str
    text: str
    site: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEvidence:
    """A run and all that was said of it. `idle_starts` counts the drivers that were started since anything was committed."""

    run: RunId
    state: RunState
    reason: str | None
    committed: int
    rounds: int
    idle_starts: int
    symptoms: tuple[Symptom, ...]


def gather(engine: Engine, run: RunId, events: Iterable[Event]) -> RunEvidence:
    """The evidence on `run`; `events` are of its own log. Raises UsageError where there is no such run."""
    with reading(engine, f"reading {run}") as session:
        row = session.get(Run, run)
        if row is None:
            raise UsageError(f"there is no run {run}; `covenant run list` shows those there are")
        rounds = session.scalars(select(Round).where(Round.run_id == run).order_by(Round.opened_at)).all()
        return RunEvidence(
            run=run,
            state=RunState(row.state),
            reason=row.reason,
            committed=sum(each.state == RoundState.COMMITTED for each in rounds),
            rounds=Plan.from_canonical(row.plan.encode()).training.rounds,
            idle_starts=row.idle_starts,
            symptoms=(
                *_of_run(row),
                *(_voided(each) for each in rounds if each.reason is not None),
                *_of_log(session, run, row),
                *_of_events(events),
            ),
        )


def _of_run(row: Run) -> Iterator[Symptom]:
    if row.reason is not None:
        yield Symptom(f"the run is {row.state}", row.reason)
    if row.idle_starts:
        yield Symptom(
            "the run's row", f"{row.idle_starts} drivers were started since something was committed"
        )


def _voided(row: Round) -> Symptom:
    return Symptom(f"round {row.number}, attempt {row.attempt}, {row.state}", row.reason or "")


def _of_log(session: Session, run: RunId, row: Run) -> Iterator[Symptom]:
    """Signed refusals in the transparency log, earlier ends of the run, and evidence that sites have shown."""
    kinds, name = ("refused", "ended"), run.encode()
    # By time, and not by the index of kinds: most of a kind's entries are of other runs.
    query = select(LoggedEntry.body).where(
        (LoggedEntry.kind + "").in_(kinds), LoggedEntry.at >= row.submitted_at
    )
    if row.finished_at is not None:
        query = query.where(LoggedEntry.at <= row.finished_at + _SPARE)
    for body in session.scalars(query.order_by(LoggedEntry.seq)):
        if name not in bytes(body):  # reading what other runs were told takes longer than looking for a name
            continue
        entry = LogEntry.from_canonical(bytes(body))
        what = entry.what
        if getattr(what, "run", None) != run:
            continue
        if isinstance(what, SiteRefused):
            yield Symptom(
                f"the log at {entry.at:%Y-%m-%d %H:%M:%S}",
                f"refused ({what.code}) {what.reason}".strip(),
                what.site,
            )
        elif reason := getattr(what, "reason", None):
            yield Symptom(f"the log at {entry.at:%Y-%m-%d %H:%M:%S}", str(reason))
    for fork in session.scalars(select(ForkRow).where(ForkRow.run_id == run).order_by(ForkRow.id)):
        yield Symptom(f"evidence {fork.id}", f"evidence of the log: {fork.shows}", fork.site)


def _of_events(events: Iterable[Event]) -> Iterator[Symptom]:
    starts = 0
    for event in events:
        at = str(event.get("timestamp", "the server process's log"))[:19]
        match event.get("event"):
            case "sites missing":
                place = f"{at}, {str(event.get('stage', '')).lower()} stage of round {event.get('round')}"
                missing = event.get("sites")
                for site, reason in (missing if isinstance(missing, Mapping) else {}).items():
                    yield Symptom(place, str(reason), str(site))
            case "driving":
                starts += 1
            case str(name) if event.get("level", event.get("log_level")) in {"warning", "error", "critical"}:
                said = event.get("reason") or event.get("said") or ""
                yield Symptom(at, f"{name}: {said}".rstrip(": "), event.get("site"))
    if starts > 1:
        yield Symptom(
            "the server process's log", f"{starts} server processes have driven the run, one after another"
        )


def read_events(file: Path, run: RunId) -> list[Event]:
    """The events of `run` in a log of server processes, the newest 32 MiB of it; none where there is no such file."""
    try:
        with file.open("rb") as log:
            log.seek(0, 2)
            log.seek(max(0, log.tell() - _MOST_BYTES))
            said = log.read(_MOST_BYTES)
    except FileNotFoundError:
        return []
    found: list[Event] = []
    for line in _lines_with(said, run.encode()):
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict) and event.get("run") == run:
            found.append(event)
    return found


def _lines_with(said: bytes, name: bytes) -> Iterator[bytes]:
    """The lines that have `name`, without looking at the others one by one: a log of many runs is long."""
    at = said.find(name)
    while at >= 0:
        start, end = said.rfind(b"\n", 0, at) + 1, said.find(b"\n", at)
        end = len(said) if end < 0 else end
        yield said[start:end]
        at = said.find(name, end)
