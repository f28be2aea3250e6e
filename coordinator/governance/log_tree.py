"""The tree over the log in its rows: each entry keeps the hashes of the complete subtrees that it ends, so that a head or a proof reads few rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import select
from sqlalchemy.orm import Session

from coordinator.db.log_schema import LoggedEntry
from strategies.errors import CovenantError
from strategies.transparency.merkle import HASH_BYTES, Subtree

T = TypeVar("T")


def proved(session: Session, prove: Callable[[Subtree], T]) -> T:
    """What follows from hashes of subtrees, such as a head or a proof, from one query: which ones it takes does not depend on what they are.

    Raises CovenantError where the rows do not have them.
    """
    asked: list[int] = []

    def note(level: int, index: int) -> bytes:
        asked.append(_place(level, index))
        return bytes(HASH_BYTES)

    prove(note)
    return prove(_subtrees(session, asked))


def _place(level: int, index: int) -> int:
    """The entry that ends a complete subtree, and has its hash."""
    return ((index + 1) << level) - 1


def _subtrees(session: Session, places: Sequence[int]) -> Subtree:
    found: Mapping[int, bytes] = {}
    if places:
        query = select(LoggedEntry.seq, LoggedEntry.nodes).where(LoggedEntry.seq.in_(set(places)))
        found = {row.seq: row.nodes for row in session.execute(query)}

    def subtree(level: int, index: int) -> bytes:
        nodes = found.get(_place(level, index), b"")
        node = bytes(nodes[level * HASH_BYTES : (level + 1) * HASH_BYTES])
        if len(node) != HASH_BYTES:
            raise CovenantError(
                f"entry {_place(level, index)} of the transparency log is missing or incomplete: the database was changed by somebody. Stop, keep"
                " it as it is, and restore it from a backup"
            )
        return node

    return subtree
