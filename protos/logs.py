"""Logs of every process: one JSON object a line on stderr, or readable lines where a person watches; stdout belongs to results.

1. An exception shows its type and the places that it passed. Its words are shown where this project wrote them, and elsewhere only by processes
   that have no rows: libraries quote the value that they could not use. Local variables are never shown.
2. Where rows are, a value of an event is text, a number, or a list or table of such; anything else, an array for instance, shows its type.
3. What another library logs shows its template. Its arguments are left out where rows are.
4. Where rows are, a process that dies of an exception leaves one line of the same kind, and nothing else.
"""

from __future__ import annotations

import logging
import sys
import threading
import traceback
import warnings
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, TextIO

import structlog

from protos.documents import Part
from protos.shell import as_written
from strategies.errors import CovenantError

Level = Literal["debug", "info", "warning", "error"]
Form = Literal["auto", "json", "text"]
_LONGEST: Final = 4000
_MOST_FRAMES: Final = 40
_DEEPEST: Final = 4
_PLAIN: Final = (str, int, float, bool, type(None))
Event = MutableMapping[str, Any]


class Logging(Part):
    """The section `logging` of a configuration: from which `level` on, and in which `form`; `auto` is text at a terminal and JSON elsewhere."""

    level: Level = "info"
    form: Form = "auto"


@dataclass(frozen=True, slots=True)
class Teller:
    """How exceptions are told; `words` of strangers only where there are no rows."""

    words: bool

    def facts(self, error: BaseException) -> list[dict[str, Any]]:
        """An exception and those that it came from, the last first: type, places, and words if they may be told."""
        told: list[dict[str, Any]] = []
        current: BaseException | None = error
        while current is not None and len(told) < _DEEPEST:
            facts: dict[str, Any] = {"type": _name(type(current)), "at": _places(current.__traceback__)}
            if self.words or isinstance(current, CovenantError):
                facts["words"] = str(current)[:_LONGEST]
            told.append(facts)
            current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
        return told

    def processor(self, _logger: object, _method: str, event: Event) -> Event:
        """Put the exception of an event in words."""
        given = event.pop("exc_info", None)
        if given is True:
            given = sys.exc_info()[1]
        elif isinstance(given, tuple):
            given = given[1]
        if isinstance(given, BaseException):
            event["error"] = self.facts(given)
        event.pop("stack_info", None)
        return event


def configure(section: Logging | None = None, *, words: bool = False) -> None:
    """Send structlog, other libraries' logs, warnings and crashes of this process to stderr, as the rules above say.

    `words` is for processes that have no rows: they tell the words of any exception, and what libraries log in full.
    """
    chosen, teller = section or Logging(), Teller(words)
    text = chosen.form == "text" or (chosen.form == "auto" and sys.stderr.isatty())
    render: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if text
        else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            teller.processor,
            *(() if words else (_plain_values,)),
            *((_printable,) if text else ()),
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, chosen.level.upper())),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    _take_in_strangers(teller)
    if not words:
        _take_in_crashes(teller)


def _plain_values(_logger: object, _method: str, event: Event) -> Event:
    return {str(key): _plain(value, _DEEPEST) for key, value in event.items()}


def _printable(_logger: object, _method: str, event: Event) -> Event:
    """What others may have written moves no terminal's cursor."""
    return {key: as_written(each).plain if isinstance(each, str) else each for key, each in event.items()}


def _plain(value: object, depth: int) -> object:
    """`value` if it is what a log may hold; else the name of its type."""
    if type(value) in _PLAIN or isinstance(value, str):
        return value[:_LONGEST] if isinstance(value, str) else value
    if depth and isinstance(value, Mapping):
        return {str(key): _plain(each, depth - 1) for key, each in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(each, depth - 1) for each in value]
    return f"<{_name(type(value))}>"


class _Strangers(logging.Handler):
    """What other libraries log, as events of ours."""

    def __init__(self, teller: Teller) -> None:
        super().__init__(logging.WARNING)
        self._teller = teller

    def emit(self, record: logging.LogRecord) -> None:
        """Tell the template, and the arguments where there are no rows."""
        said = record.getMessage() if self._teller.words else str(record.msg if record.args else "a message")
        raised = record.exc_info[1] if record.exc_info else None
        log = structlog.get_logger(record.name)
        tell = log.error if record.levelno >= logging.ERROR else log.warning
        tell("library", logger=record.name, said=said, exc_info=raised)


def _take_in_strangers(teller: Teller) -> None:
    root = logging.getLogger()
    for handler in [each for each in root.handlers if isinstance(each, _Strangers)]:
        root.removeHandler(handler)
    root.addHandler(_Strangers(teller))
    if not teller.words:
        warnings.showwarning = _told_warning


def _told_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    del message, file, line
    structlog.get_logger("warnings").warning("warning", type=_name(category), at=_place(filename, lineno, ""))


def _take_in_crashes(teller: Teller) -> None:
    def crashed(_kind: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        if isinstance(error, KeyboardInterrupt):
            return
        structlog.get_logger("crash").critical("crashed", error=teller.facts(error))

    def thread_crashed(given: threading.ExceptHookArgs) -> None:
        if given.exc_value is not None and not isinstance(given.exc_value, SystemExit):
            name = None if given.thread is None else given.thread.name
            structlog.get_logger("crash").critical(
                "crashed", thread=name, error=teller.facts(given.exc_value)
            )

    def unraisable(given: sys.UnraisableHookArgs) -> None:
        if given.exc_value is not None:
            structlog.get_logger("crash").error("ignored", error=teller.facts(given.exc_value))

    sys.excepthook = crashed
    threading.excepthook = thread_crashed
    sys.unraisablehook = unraisable


def _places(trace: TracebackType | None) -> list[str]:
    """Where an exception passed, the innermost last: file, line and function, and no line of code."""
    frames = traceback.extract_tb(trace)[-_MOST_FRAMES:] if trace is not None else []
    return [_place(each.filename, each.lineno or 0, each.name) for each in frames]


def _place(filename: str, line: int, function: str) -> str:
    parts = Path(filename).parts
    short = "/".join(parts[-3:])
    return f"{short}:{line} {function}".rstrip()


def _name(kind: type) -> str:
    return kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
