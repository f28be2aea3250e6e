"""How an operator hears of a long computation: a bar where somebody looks at a terminal, now and then a line in the log otherwise. Steps only, and never what is in a row."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

import structlog
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

_EVERY_S: Final = 10.0
_log = structlog.get_logger(__name__)


@dataclass
class LoggedProgress:
    """A line every `_EVERY_S` seconds, of what takes longer than that."""

    monotonic: Callable[[], float] = time.monotonic
    _what: str = ""
    _last: float = 0.0

    def __call__(self, what: str, done: int, of: int) -> None:
        """See `client.training.pace.Progress`."""
        now = self.monotonic()
        if what != self._what or done == 0:
            self._what, self._last = what, now
        elif now - self._last >= _EVERY_S:
            self._last = now
            _log.info("computing", what=what, step=done, of=of)


@dataclass
class ShownProgress:
    """A bar on `console`, which is gone when the computation is done."""

    console: Console
    _bar: Progress | None = field(default=None)
    _task: TaskID | None = None
    _what: str = ""

    def __call__(self, what: str, done: int, of: int) -> None:
        """See `client.training.pace.Progress`."""
        if self._bar is None or what != self._what:
            self._end()
            columns = (
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            self._bar, self._what = Progress(*columns, console=self.console, transient=True), what
            self._bar.start()
            self._task = self._bar.add_task(what, total=of)
        if self._task is not None:
            self._bar.update(self._task, completed=done)
        if done >= of:
            self._end()

    def _end(self) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._bar = None


def progress_for(console: Console) -> LoggedProgress | ShownProgress:
    """What suits whoever reads `console`."""
    return ShownProgress(console) if console.is_terminal and sys.stderr.isatty() else LoggedProgress()
