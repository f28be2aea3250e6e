"""Merkle trees as RFC 9162 (section 2.1) hashes them: heads, and proofs that an entry is in one or that one extends another.

1. A leaf and an inner node are hashed with different prefixes, so that neither passes for the other.
2. Every complete subtree has its hash for good, however the tree grows. Proofs are made of few of them.
3. A verifier takes nothing from a proof but hashes: what they stand for follows from index and sizes.

Hashes are 32 bytes of SHA-256. Indices and sizes are integers from 0 to 2^53 - 1, which canonical JSON holds exactly.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Self

from strategies.errors import Refused, UsageError

HASH_BYTES: Final = 32
MOST_LEAVES: Final = 2**53 - 1
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()

Subtree = Callable[[int, int], bytes]
"""`(level, index)` to the hash of the complete subtree over leaves [index * 2^level, (index + 1) * 2^level)."""


class ProofRefused(Refused):
    """A proof does not show what it is for."""


def leaf_hash(entry: bytes) -> bytes:
    """The hash of a leaf that holds `entry`."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of an inner node."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """A tree of `size` leaves, as the hashes of the complete subtrees that it is made of: the largest, which is leftmost, first.

    That is all that appending and the head need: one hash for each 1 in the binary form of `size`.
    """

    size: int = 0
    peaks: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        """Raises UsageError for a size out of bounds, or peaks that are not of that size."""
        if not 0 <= self.size <= MOST_LEAVES or len(self.peaks) != self.size.bit_count():
            raise UsageError(
                f"a tree of {self.size} leaves does not have {len(self.peaks)} complete subtrees"
            )

    @property
    def root(self) -> bytes:
        """The tree's head."""
        if not self.peaks:
            return EMPTY_ROOT
        *lefts, root = self.peaks
        for left in reversed(lefts):
            root = node_hash(left, root)
        return root

    def append(self, leaf: bytes) -> tuple[Self, list[tuple[int, int, bytes]]]:
        """The tree with one more leaf, and each complete subtree that it completes as (level, index, hash), the leaf itself first."""
        peaks, index, level = list(self.peaks), self.size, 0
        completed = [(0, index, leaf)]
        node = leaf
        while index & 1:
            node, index, level = node_hash(peaks.pop(), node), index >> 1, level + 1
            completed.append((level, index, node))
        return type(self)(self.size + 1, (*peaks, node)), completed

    @classmethod
    def of(cls, size: int, subtree: Subtree) -> Self:
        """The tree of the first `size` leaves of one whose complete subtrees are known."""
        return cls(size, tuple(subtree(level, index) for level, index in _peaks(0, size)))


def root_at(size: int, subtree: Subtree) -> bytes:
    """The head that a tree had when it had `size` leaves."""
    return Frontier.of(size, subtree).root


def prove_inclusion(index: int, size: int, subtree: Subtree) -> tuple[bytes, ...]:
    """The hashes that lead from leaf `index` to the head of the tree of `size` leaves. Raises UsageError for an index beyond it."""
    if not 0 <= index < size <= MOST_LEAVES:
        raise UsageError(f"a log of {size} entries has no entry {index}; entries are numbered from 0")
    return tuple(_range_hash(start, stop, subtree) for start, stop in _beside(index, 0, size))


def prove_consistency(old: int, new: int, subtree: Subtree) -> tuple[bytes, ...]:
    """The hashes that show that the tree of `new` leaves begins with that of `old`. Raises UsageError where it cannot."""
    if not 1 <= old <= new <= MOST_LEAVES:
        raise UsageError(f"no proof shows that a log of {new} entries extends one of {old}")
    if old == new:
        return ()
    return tuple(_range_hash(start, stop, subtree) for start, stop in _between(old, 0, new))


def verify_inclusion(leaf: bytes, *, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf`, a leaf's hash, is entry `index` of the tree of `size` leaves with head `root`. Raises ProofRefused.

    RFC 9162, section 2.1.3.2.
    """
    if not 0 <= index < size <= MOST_LEAVES:
        raise ProofRefused(f"a log of {size} entries has no entry {index}")
    _require_hashes((leaf, root, *proof))
    node = leaf
    for beside, is_left in zip(proof, _sides(index, size - 1, len(proof)), strict=True):
        node = node_hash(beside, node) if is_left else node_hash(node, beside)
    if node != root:
        raise ProofRefused(f"the proof does not lead from entry {index} to the head of the {size} entries")


def verify_consistency(
    *, old: int, old_root: bytes, new: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the tree of `new` leaves with head `new_root` begins with the `old` leaves under `old_root`. Raises ProofRefused.

    RFC 9162, section 2.1.4.2. Of an empty tree there is nothing to show: everything extends it.
    """
    if not 1 <= old <= new <= MOST_LEAVES:
        raise ProofRefused(f"no proof shows that a log of {new} entries extends one of {old}")
    if old == new:
        if proof or old_root != new_root:
            raise ProofRefused(
                f"two logs of {old} entries have different heads, or come with a proof where none is needed"
            )
        return
    _require_hashes((old_root, new_root, *proof))
    if not proof:
        raise ProofRefused(f"nothing shows that the {new} entries begin with the {old}")
    first, *path = proof if old & (old - 1) else (old_root, *proof)
    # The way up begins at the largest complete subtree that ends where the old tree does.
    below = (old & -old).bit_length() - 1
    second = first
    for beside, is_left in zip(path, _sides(old - 1 >> below, new - 1 >> below, len(path)), strict=True):
        if is_left:
            first = node_hash(beside, first)
        second = node_hash(beside, second) if is_left else node_hash(second, beside)
    if first != old_root or second != new_root:
        raise ProofRefused(f"the {new} entries do not begin with the {old} that were there before")


def _sides(place: int, last: int, length: int) -> list[bool]:
    """Of each of `length` hashes on the way up from node `place` of a level whose last node is `last`: whether it stands to the left.

    Raises ProofRefused unless exactly that many lead to the head.
    """
    found: list[bool] = []
    while last:
        is_left = bool(place & 1) or place == last
        found.append(is_left)
        if is_left:
            # A last node without a sibling is its own parent.
            while place and not place & 1:
                place, last = place >> 1, last >> 1
        place, last = place >> 1, last >> 1
    if len(found) != length:
        raise ProofRefused(f"a proof of {length} hashes; {len(found)} lead to the head")
    return found


def _require_hashes(hashes: Sequence[bytes]) -> None:
    for each in hashes:
        if len(each) != HASH_BYTES:
            raise ProofRefused(f"a hash of {len(each)} bytes; SHA-256 has {HASH_BYTES}")


def _peaks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """The largest complete subtrees that [start, stop) is made of, as (level, index); `start` is a multiple of the largest power of 2 below
    the length, as it is in every proof."""
    while start < stop:
        level = (stop - start).bit_length() - 1
        yield level, start >> level
        start += 1 << level


def _range_hash(start: int, stop: int, subtree: Subtree) -> bytes:
    """The head of the tree of leaves [start, stop) alone."""
    *lefts, node = (subtree(level, index) for level, index in _peaks(start, stop))
    for left in reversed(lefts):
        node = node_hash(left, node)
    return node


def _split(start: int, stop: int) -> int:
    """Where a tree of leaves [start, stop) has its left subtree's end: after the largest power of 2 below its length."""
    return start + (1 << ((stop - start - 1).bit_length() - 1))


def _beside(index: int, start: int, stop: int) -> list[tuple[int, int]]:
    """The ranges beside the way from leaf `index` to the head of [start, stop), lowest first."""
    found: list[tuple[int, int]] = []
    while stop - start > 1:
        middle = _split(start, stop)
        if index < middle:
            found.append((middle, stop))
            stop = middle
        else:
            found.append((start, middle))
            start = middle
    return found[::-1]


def _between(old: int, start: int, stop: int) -> list[tuple[int, int]]:
    """The ranges that show that [start, stop) begins with [start, old), lowest first."""
    found: list[tuple[int, int]] = []
    beginning = True
    while old != stop:
        middle = _split(start, stop)
        if old <= middle:
            found.append((middle, stop))
            stop = middle
        else:
            found.append((start, middle))
            start, beginning = middle, False
    return ([] if beginning else [(start, stop)]) + found[::-1]
