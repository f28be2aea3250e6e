"""Rows of the console that let somebody in, or speak for somebody, and were not written by it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final

from sqlalchemy import select

from coordinator.console.attention.matter import FEW, Looking, Matter, Urgency
from coordinator.console.seals import SealedRow, broken
from coordinator.db.console_schema import (
    ConsoleAccount,
    ConsoleDraft,
    ConsoleIdentity,
    ConsoleLink,
    ConsoleSession,
)
from coordinator.db.engine import reading

_LOOKED_AT: Final = 500
"""Rows of a table that are looked at."""
_WORDS: Final[dict[type[SealedRow], str]] = {
    ConsoleSession: "sessions",
    ConsoleLink: "links",
    ConsoleAccount: "passwords",
    ConsoleIdentity: "subjects of the provider",
    ConsoleDraft: "drafts",
}


def find(looking: Looking) -> Iterator[Matter]:
    """What does not bear the console's seal: shown to everybody, because it may be in anybody's name."""
    found: Counter[str] = Counter()
    named: set[str] = set()
    vault = looking.visit.console.vault
    with reading(looking.visit.centre.engine, "looking at what lets people in") as session:
        for table, words in _WORDS.items():
            for row in broken(vault, session.scalars(select(table).limit(_LOOKED_AT))):
                found[words] += 1
                named.add(row.officer)
    if found:
        told = ", ".join(f"{count} {words}" for words, count in found.items())
        names = ", ".join(sorted(named)[:FEW]) + (" and others" if len(named) > FEW else "")
        yield Matter(
            urgency=Urgency.NOW,
            what=f"The database has {told} in the name of {names} that this console did not write as they are. They let nobody in",
            todo="Find out who can write the coordinator's database, and whether its console.key was changed. Then `covenant console reset` takes them away.",
            path="/account",
            label="See your sessions",
        )
