"""How large a frame may be before it is parsed: its vectors as large as a model, everything else small.

A parsed message takes many times the bytes of what it was parsed from where those are empty submessages, so a bound on the whole frame,
which must leave room for a model of millions of values, would not bound memory. This walks the few fields of a frame that hold vectors and
those that lead to them, and counts all other bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_FRAME_BYTES: Final = 1 << 30
MAX_STRUCTURE_BYTES: Final = 4 << 20
_MOST_FIELDS: Final = 256
_LENGTH_DELIMITED: Final = 2
_FIXED: Final[Mapping[int, int]] = {1: 8, 5: 4}
_LONGEST_VARINT: Final = 10
_VARINT_MASK: Final = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Layout:
    """The numbers of a message's fields that hold vectors, and of those that lead to such."""

    vectors: frozenset[int] = frozenset()
    inner: Mapping[int, Layout] = field(default_factory=dict)


_MASKED_INPUT: Final = Layout(vectors=frozenset({3}))
_SECAGG_FRAME: Final = Layout(inner={8: _MASKED_INPUT})
_CHECKPOINT: Final = Layout(vectors=frozenset({1, 2}))
_CHAMPION: Final = Layout(vectors=frozenset({1}))
REQUEST: Final = Layout(
    vectors=frozenset({4}),
    inner={5: Layout(vectors=frozenset({2}), inner={1: _SECAGG_FRAME, 3: _CHECKPOINT}), 7: _CHAMPION},
)
REPLY: Final = Layout(vectors=frozenset({3, 4, 5}), inner={7: Layout(inner={1: _SECAGG_FRAME})})
SECAGG: Final = _SECAGG_FRAME


def oversize(data: bytes, layout: Layout) -> str | None:
    """Why a frame is too large to be parsed, as a whole or but for its vectors; None if it is not."""
    if len(data) > MAX_FRAME_BYTES:
        return f"a frame of {len(data)} bytes; at most {MAX_FRAME_BYTES} are accepted"
    if len(data) <= MAX_STRUCTURE_BYTES:
        return None
    structure = len(data) - _vector_bytes(data, 0, len(data), layout, iter(range(_MOST_FIELDS)))
    if structure > MAX_STRUCTURE_BYTES:
        return (
            f"a frame with {structure} bytes beside its vectors; at most {MAX_STRUCTURE_BYTES} are accepted"
        )
    return None


def _vector_bytes(data: bytes, begin: int, end: int, layout: Layout, budget: Iterator[int]) -> int:
    """Bytes in vectors between two places of a frame; `budget` is how many fields of it are looked at, at all depths."""
    found = 0
    for number, first, last in _fields(data, begin, end, budget):
        if number in layout.vectors:
            found += last - first
        elif (inner := layout.inner.get(number)) is not None:
            found += _vector_bytes(data, first, last, inner, budget)
    return found


def _fields(data: bytes, begin: int, end: int, budget: Iterator[int]) -> Iterator[tuple[int, int, int]]:
    """Number, begin and end of the length-delimited fields between two places, as long as the budget lasts."""
    for _ in budget:
        if begin >= end:
            return
        key, begin = _varint(data, begin, end)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            length, begin = _varint(data, begin, end)
            yield key >> 3, begin, min(begin + length, end)
            begin += length
        elif kind == 0:
            _, begin = _varint(data, begin, end)
        elif kind in _FIXED:
            begin += _FIXED[kind]
        else:
            return  # a group, or nonsense: parsing will say so, and what follows counts as structure


def _varint(data: bytes, begin: int, end: int) -> tuple[int, int]:
    """A number, and where it ends; the rest of the frame if it does not."""
    value = 0
    for place in range(begin, min(begin + _LONGEST_VARINT, end)):
        value |= (data[place] & 0x7F) << (7 * (place - begin))
        if data[place] < 0x80:  # noqa: PLR2004 (the bit that says that more follows)
            return value & _VARINT_MASK, place + 1  # as parsers of protobuf do
    return 0, end
