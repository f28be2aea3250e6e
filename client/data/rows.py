"""The rows of a running site: read and judged when a run begins here and they may have changed, and shared by its sessions.

1. A file is read again when it is another one, or was written; a database when ten minutes have passed. A run keeps the rows that it has begun with, unless more than four go on at once or the agent is started again.
2. Whatever was half read is forgotten, and so is a file that was written while it was read. After a failure the next try waits, longer each time; until then the same failure is the answer.
3. Rows that break their contract are told to this site's log. They are judged again when they may have changed.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog

from client.data.reading import Reading, read_source
from client.data.report import DataError, Report, Unreadable
from client.data.table import Table
from client.newest import Newest
from protos.contract import Contract, DateColumn
from protos.documents import load_document
from protos.site_data import DataSource
from strategies.errors import CovenantError

DATABASE_STAYS: Final = timedelta(minutes=10)
_FIRST_WAIT: Final = timedelta(seconds=1)
_LONGEST_WAIT: Final = timedelta(minutes=1)
_MOST_DOUBLINGS: Final = 6
_KEPT_TABLES: Final = 4
_PLAIN_FILES: Final = ("parquet", "csv", "arrow", "fixed-width")
"""Those that give no snapshot."""
_LOGS: Final = {"sqlite": ("-wal",), "duckdb": (".wal",)}
"""Where what was committed last may stand, with the file itself as it was."""
_log = structlog.get_logger(__name__)

Place = tuple[str, tuple[tuple[str, str], ...], str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class _Kept:
    """What came of reading: rows (or what is wrong with them), or why not; `failures` in a row."""

    at: datetime
    mark: tuple[int, ...] | None
    reading: Reading | None
    trouble: DataError | None = None
    failures: int = 0

    def stands(self, now: datetime, mark: tuple[int, ...] | None, *, dated: bool) -> bool:
        """Whether it need not be looked at again."""
        age = now - self.at
        if age < timedelta(0):  # the clock was set back
            return False
        if self.trouble is not None:
            wait: timedelta = _FIRST_WAIT * (1 << min(self.failures - 1, _MOST_DOUBLINGS))
            return age < min(wait, _LONGEST_WAIT)
        if dated and _day(now) != _day(self.at):
            return False
        return mark == self.mark if mark is not None else self.mark is None and age < DATABASE_STAYS


@dataclass
class SiteRows:
    """Tables by source, contract and the protected attributes that are kept, at most four, with large ones in private files in `spool`."""

    spool: Path
    clock: Callable[[], datetime]
    _kept: Newest[Place, _Kept] = field(default_factory=lambda: Newest(_KEPT_TABLES))
    _turn: threading.Lock = field(default_factory=threading.Lock)
    _leaving: threading.Event = field(default_factory=threading.Event)

    def table(self, source: DataSource, contract: Contract, protected: Sequence[str] = ()) -> Table:
        """The rows of `source`, with the `protected` attributes that are asked for. Raises `DataError`, which is for this site alone."""
        return self.reading(source, contract, protected).accepted()

    def reading(self, source: DataSource, contract: Contract, protected: Sequence[str] = ()) -> Reading:
        """The same, with what is wrong with them if something is. Raises `Unreadable`, and `DataError` for a source that is configured wrongly."""
        with self._turn:
            asked = tuple(sorted(protected))
            place = (source.place, tuple(sorted(source.columns.items())), contract.digest, asked)
            kept, now, mark = self._kept.pop(place, None), self.clock(), _mark(source)
            dated = any(isinstance(column, DateColumn) for column in contract.columns.values())
            if kept is None or not kept.stands(now, mark, dated=dated):
                failures = 0 if kept is None else kept.failures
                kept = None  # so that the old rows need no room beside the new ones
                kept = self._read(source, contract, asked, mark, failures)
            self._kept[place] = kept
        if kept.trouble is not None:
            raise type(kept.trouble)(str(kept.trouble))
        assert kept.reading is not None  # noqa: S101 (one of the two)
        return kept.reading

    def _read(
        self,
        source: DataSource,
        contract: Contract,
        protected: tuple[str, ...],
        mark: tuple[int, ...] | None,
        failures: int,
    ) -> _Kept:
        began = self.clock()
        try:
            reading = read_source(
                source,
                contract,
                today=_day(began),
                spool=self.spool,
                leaving=self._leaving.is_set,
                protected=protected,
            )
            if source.kind in _PLAIN_FILES and _mark(source) != mark:
                raise Unreadable(
                    f"{source.named} was written while it was read; put the new file in its place with one rename"
                )
        except DataError as trouble:
            _log.warning(
                "data could not be read", contract=contract.ref, reason=str(trouble), attempt=failures + 1
            )
            return _Kept(began, mark, None, trouble, failures + 1)
        tell(reading.report)
        return _Kept(began, mark, reading)

    def warm(self, sources: list[DataSource]) -> None:
        """Read and judge each source now, so that its people hear of what is wrong before the centre asks."""
        for source in sources:
            if self._leaving.is_set():
                return
            try:
                self.reading(source, load_document(source.contract_file, Contract))
            except CovenantError as trouble:
                _log.error("data cannot be used", contract=source.contract, reason=str(trouble))

    def leave(self) -> None:
        """Have whatever is being read end at its next batch: the process is about to."""
        self._leaving.set()


def tell(report: Report) -> None:
    """Write a report to the site's log: rule, column and count."""
    _log.info(
        "data checked",
        contract=report.contract,
        rows=report.rows,
        seconds=report.seconds,
        accepted=report.accepted,
    )
    for each in report.violations:
        _log.error(
            "data break the contract",
            contract=report.contract,
            rule=each.rule,
            column=each.column,
            rows=each.rows,
        )


def _day(now: datetime) -> date:
    return now.date()


def _mark(source: DataSource) -> tuple[int, ...] | None:
    """Of a file, its database's log and its layout: another one, or a change in it, has another mark. None for a database."""
    if source.file is None:
        return None
    places = [
        source.file,
        source.layout,
        *(source.file.with_name(source.file.name + end) for end in _LOGS.get(source.kind, ())),
    ]
    return tuple(number for place in places if place is not None for number in _mark_of(place))


def _mark_of(place: Path) -> tuple[int, ...]:
    try:
        found = place.stat()
    except OSError:
        return (0,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
