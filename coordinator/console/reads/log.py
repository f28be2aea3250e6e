"""The log as pages search it: by number, by kind, by what entries are about, and by time; a page is a few seeks in an index, however long the log.

1. Moments are found by the order of entries: an entry is no more than `CLOCKS_DIFFER` older than the newest before it, so an entry beyond a bound by more
   than that has all others on one side.
2. What is found here is what the database says. That an entry is in the log is said by its proof.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Engine, Select, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry, LoggedSubject
from protos.log_clock import CLOCKS_DIFFER
from protos.log_subjects import KINDS, Subject
from strategies.errors import UsageError

MOST: Final = 50
_FULL_BYTES: Final = 512 * 1024
"""Of entries on a page: some, such as member lists, are long."""
_RUN: Final = re.compile(r"run-[0-9a-f]{16}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What entries are looked for: of a kind, about any of some subjects, written `since` a moment and before `until`."""

    kind: str | None = None
    about: Sequence[Subject] | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry as the database has it."""

    seq: int
    kind: str
    at: datetime
    body: bytes


@dataclass(frozen=True, slots=True)
class LogPage:
    """Entries, the newest first. `newer` is the number that those before them are above, `older` the one that those after them are below; or None."""

    rows: Sequence[EntryRow]
    newer: int | None
    older: int | None


def subjects_named(words: str) -> Sequence[Subject]:
    """The subjects that somebody may mean: `site/north`, or a name alone, which may be of several."""
    words = words.strip().lower()
    if _RUN.fullmatch(words):
        return [Subject("run", words)]
    if _DIGEST.fullmatch(words):
        return [Subject("plan", words)]
    found = []
    for key in [words] if "/" in words else [f"{of}/{words}" for of in KINDS if of != "run"]:
        try:
            found.append(Subject.parse(key))
        except UsageError:
            continue
    return found


def page(
    engine: Engine, search: Search, *, below: int | None = None, above: int | None = None, limit: int = MOST
) -> LogPage:
    """At most `limit` entries, and fewer where they are long: the newest, those `below` a number, or those next `above` one."""
    ascending = above is not None
    with reading(engine, "searching the log") as session:
        numbers = _numbers(session, search, below, above, limit + 1)
        rows, left = _rows(session, numbers[:limit]), len(numbers) > limit
    if len(rows) < len(numbers[:limit]):
        left = True
    if ascending:
        rows.reverse()
        return LogPage(rows, rows[0].seq if left else None, rows[-1].seq if rows else None)
    return LogPage(rows, rows[0].seq if rows and below is not None else None, rows[-1].seq if left else None)


def entry(engine: Engine, seq: int) -> EntryRow:
    """One entry. Raises UsageError where there is none of that number."""
    with reading(engine, f"reading entry {seq}") as session:
        found = _rows(session, [seq])
    if not found:
        raise UsageError(f"the log has no entry {seq} yet; its entries are numbered from 0")
    return found[0]


def size(engine: Engine) -> int:
    """How many entries there are."""
    with reading(engine, "reading the log's head") as session:
        last = session.scalar(select(LoggedEntry.seq).order_by(LoggedEntry.seq.desc()).limit(1))
    return 0 if last is None else last + 1


def _numbers(
    session: Session, search: Search, below: int | None, above: int | None, limit: int
) -> Sequence[int]:
    """The numbers of entries in the order in which they are looked for."""
    low, high = _bounds(session, search)
    low = low if above is None else max(above, low if low is not None else above)
    high = high if below is None else min(below, high if high is not None else below)
    keys: Sequence[str | None] = [None] if search.about is None else [each.key for each in search.about]
    found: set[int] = set()
    for key in keys:
        query = _query(search, key)
        seq: ColumnElement[int] = query.selected_columns[0]
        if low is not None:
            query = query.where(seq > low)
        if high is not None:
            query = query.where(seq < high)
        query = query.order_by(seq if above is not None else seq.desc()).limit(limit)
        found.update(session.scalars(query))
    return sorted(found, reverse=above is None)[:limit]


def _query(search: Search, key: str | None) -> Select[Any]:
    if key is None:
        query = select(LoggedEntry.seq)
    else:
        query = select(LoggedSubject.seq).where(LoggedSubject.subject == key)
        if search.kind is not None or search.since is not None or search.until is not None:
            query = query.join(LoggedEntry, LoggedEntry.seq == LoggedSubject.seq)
    if search.kind is not None:
        query = query.where(LoggedEntry.kind == search.kind)
    if search.since is not None:
        query = query.where(LoggedEntry.at >= search.since)
    if search.until is not None:
        query = query.where(LoggedEntry.at < search.until)
    return query


def _bounds(session: Session, search: Search) -> tuple[int | None, int | None]:
    """Numbers that all entries between the moments lie strictly between."""
    low = high = None
    if search.since is not None:
        before = select(LoggedEntry.seq).where(LoggedEntry.at < search.since - CLOCKS_DIFFER)
        low = session.scalar(before.order_by(LoggedEntry.at.desc()).limit(1))
    if search.until is not None:
        after = select(LoggedEntry.seq).where(LoggedEntry.at > search.until + CLOCKS_DIFFER)
        high = session.scalar(after.order_by(LoggedEntry.at).limit(1))
    return low, high


def _rows(session: Session, numbers: Sequence[int]) -> list[EntryRow]:
    """The entries of some numbers in their order, up to those that fill a page."""
    query = select(LoggedEntry.seq, LoggedEntry.kind, LoggedEntry.at, LoggedEntry.body)
    found = {row.seq: row for row in session.execute(query.where(LoggedEntry.seq.in_(numbers)))}
    rows: list[EntryRow] = []
    given = 0
    for seq in numbers:
        row = found.get(seq)
        if row is None:
            continue
        if rows and given + len(row.body) > _FULL_BYTES:
            break
        given += len(row.body)
        rows.append(EntryRow(row.seq, row.kind, row.at, bytes(row.body)))
    return rows
