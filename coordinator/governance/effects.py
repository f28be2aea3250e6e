"""Log entries and their effects on the tables, in one transaction: what happens and what is replayed is written by the same function."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import TypeVar

from sqlalchemy.orm import Session

_Event = TypeVar("_Event")
Effect = Callable[[Session, datetime, _Event], None]
"""Writes the effect that one entry, of that moment, has on the tables."""


def carrying_out(
    effect: Effect[_Event],
) -> Callable[[Session, datetime, Iterable[_Event]], Iterator[_Event]]:
    """The function that gives `coordinator.governance.log.append` each event once `effect` has been written, so that tables and log never differ."""

    def carried_out(session: Session, at: datetime, events: Iterable[_Event]) -> Iterator[_Event]:
        for each in events:
            effect(session, at, each)
            yield each

    return carried_out
