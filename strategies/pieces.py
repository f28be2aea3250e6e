"""Bytes that are never joined: a vector of hundreds of megabytes as the pieces that it came in, or is to leave in.

1. `Pieces` copies nothing: its parts are views of what others hold, and change with it.
2. Where a piece ends says nothing. The same bytes cut elsewhere are the same bytes; whoever reads takes them in blocks of its own.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TypeAlias


class Pieces:
    """Bytes that lie in several places, read in one order."""

    __slots__ = ("_ends", "parts")

    def __init__(self, parts: Iterable[bytes | bytearray | memoryview]) -> None:
        views = (memoryview(part) for part in parts)
        # An array without values, whose shape has a zero, has no other view.
        self.parts = tuple(view.cast("B") for view in views if view.nbytes)
        """The pieces, none of them empty."""
        self._ends = tuple(accumulate(map(len, self.parts)))

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    def __getitem__(self, place: int) -> int:
        """The byte at `place`, from 0. Raises IndexError."""
        if not 0 <= place < len(self):
            raise IndexError(place)
        number = bisect_right(self._ends, place)
        return self.parts[number][place - self._ends[number]]  # counted from the end of its piece

    def between(self, begin: int, end: int) -> Pieces:
        """The bytes from `begin` up to `end`, which lie where they lay."""
        found: list[memoryview] = []
        number = bisect_right(self._ends, begin)
        while begin < min(end, len(self)):
            part, last = self.parts[number], self._ends[number]
            found.append(part[begin - last + len(part) : min(end, last) - last + len(part)])
            begin, number = last, number + 1
        return Pieces(found)

    def blocks(self, size: int) -> Iterator[memoryview]:
        """The bytes in blocks of `size`, the last of which may be shorter: views where a block lies in one piece, copies where it does not."""
        for begin in range(0, len(self), size):
            block = self.between(begin, begin + size)
            yield block.parts[0] if len(block.parts) == 1 else memoryview(block.joined())

    def joined(self) -> bytes:
        """All of it in one place."""
        return b"".join(self.parts)

    def sha256(self) -> str:
        """SHA-256 of all of it, in lower-case hexadecimal."""
        digest = hashlib.sha256()
        for part in self.parts:
            digest.update(part)
        return digest.hexdigest()


Bytes: TypeAlias = bytes | Pieces
"""What is one `bytes` as long as it is small."""


def pieces_of(data: Bytes) -> Pieces:
    """`data` as pieces."""
    return data if isinstance(data, Pieces) else Pieces((data,))


def joined(data: Bytes) -> bytes:
    """`data` in one place; a copy where it was not."""
    return data.joined() if isinstance(data, Pieces) else data
