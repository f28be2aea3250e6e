"""A journal that the agent and the site's commands share, followed: whatever any of them appends is taken up once, in order.

1. A `turn` begins with what others have appended: nothing is decided on less than all of it.
2. What a turn appends is taken up when it is on disk, and not at all if the turn raised.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from client.journal.entries import Entry, Holder
from client.journal.file import Connect, Journal, connect
from strategies.ids import SiteName

Append = Callable[[str, Mapping[str, Any]], Entry]
"""Append an entry of a kind in the turn that is going on."""


@dataclass
class SharedJournal:
    """A site's shared journal, whose entries of `kinds` are handed to `take_up`. Methods raise `JournalBroken`."""

    journal: Journal
    kinds: tuple[str, ...]
    take_up: Callable[[Entry], None]
    _known: int = 0
    """The last entry that this process has looked at."""

    @classmethod
    def open(
        cls,
        path: Path,
        site: SiteName,
        kinds: tuple[str, ...],
        take_up: Callable[[Entry], None],
        *,
        connect: Connect = connect,
    ) -> Self:
        """Open the journal at `path`, or begin it, and take up what is in it. Raises as `Journal.open` does."""
        journal = Journal.open(path, Holder(site=site), connect=connect, shared=True)
        shared = cls(journal, kinds, take_up)
        shared._follow(journal.entries(*kinds))
        return shared

    def refresh(self) -> None:
        """Take up what others have appended since this process looked last."""
        if self.journal.has_grown:
            with self.turn():
                pass

    @contextmanager
    def turn(self) -> Iterator[Append]:
        """Take up what others have appended, decide, and append, while nobody else can. What the block appends is on disk when it ends, all of it or none."""
        written: list[Entry] = []
        with self.journal.turn() as turn:
            self._follow(turn.fresh)

            def append(kind: str, body: Mapping[str, Any]) -> Entry:
                written.append(turn.append(kind, body))
                return written[-1]

            yield append
        self._follow(written)

    def close(self) -> None:
        """Close the file."""
        self.journal.close()

    def _follow(self, entries: Iterable[Entry]) -> None:
        """Take up `entries`, but for those that came before: after a turn that raised, what was fresh in it is so once more."""
        for entry in entries:
            if entry.seq > self._known:
                if entry.kind in self.kinds:
                    self.take_up(entry)
                self._known = entry.seq
