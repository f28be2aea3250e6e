"""A tree in memory that grows leaf by leaf, and still knows every head that it has had: two hashes a leaf."""

from __future__ import annotations

from dataclasses import dataclass, field

from strategies.transparency.merkle import (
    EMPTY_ROOT,
    HASH_BYTES,
    Frontier,
    leaf_hash,
    prove_consistency,
    prove_inclusion,
    root_at,
)


@dataclass
class GrowingTree:
    """The tree of all entries so far. Its proofs and heads are those of RFC 9162."""

    _frontier: Frontier = field(default_factory=Frontier)
    _levels: list[bytearray] = field(default_factory=list)
    """By level, the hashes of its complete subtrees, one after the other."""

    @property
    def size(self) -> int:
        """The number of leaves."""
        return self._frontier.size

    @property
    def root(self) -> bytes:
        """The head now."""
        return self._frontier.root

    def append(self, entry: bytes) -> None:
        """Add the leaf that holds `entry`."""
        self._frontier, completed = self._frontier.append(leaf_hash(entry))
        for level, _, node in completed:
            if level == len(self._levels):
                self._levels.append(bytearray())
            self._levels[level] += node

    def root_at(self, size: int) -> bytes | None:
        """The head at `size` leaves; None if there were never so many."""
        if not 0 <= size <= self.size:
            return None
        return root_at(size, self._subtree) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> tuple[bytes, ...]:
        """See `prove_inclusion`."""
        return prove_inclusion(index, size, self._subtree)

    def consistency(self, old: int, new: int) -> tuple[bytes, ...]:
        """See `prove_consistency`."""
        return prove_consistency(old, new, self._subtree)

    def _subtree(self, level: int, index: int) -> bytes:
        return bytes(self._levels[level][index * HASH_BYTES : (index + 1) * HASH_BYTES])
