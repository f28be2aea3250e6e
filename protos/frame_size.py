"""How large a frame may be before it is parsed, and how one is parsed whose vectors are large: its vectors stay where they lie.

1. A parsed message takes many times the bytes of what it was parsed from where those are empty submessages, so a bound on the whole frame,
   which must leave room for a model of many millions of values, would not bound memory. A frame may be as large as a model in its vectors, and is
   small beside them: this walks the few fields of a frame that hold vectors and those that lead to them, and counts all other bytes.
2. A frame of up to `APART_BYTES` is parsed as it is. Of a larger one each vector is `cut` out, with a token in its place, before protobuf sees
   it, and when one is made the vectors are put in at the end (`Vectors.put`): protobuf would copy each of them several times.
3. The bytes of a frame are the same either way, and the same as if protobuf had made them. In how many pieces they travel says nothing.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from strategies.errors import CovenantError
from strategies.pieces import Bytes, Pieces, joined, pieces_of

MAX_FRAME_BYTES: Final = 1 << 31
"""An aggregate and a checkpoint of a model of 128 million values, or an aggregate of twice as many."""
MAX_STRUCTURE_BYTES: Final = 4 << 20
APART_BYTES: Final = MAX_STRUCTURE_BYTES
_MOST_FIELDS: Final = 256
_TOKEN: Final = struct.Struct("<I")
_SMALL: Final = 1 << 16  # bytes that are copied rather than kept apart
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
REPLY: Final = Layout(vectors=frozenset({3, 4, 5, 9}), inner={7: Layout(inner={1: _SECAGG_FRAME})})
SECAGG: Final = _SECAGG_FRAME
OPENING: Final = Layout(vectors=frozenset({4}))


def oversize(data: Bytes, layout: Layout) -> str | None:
    """Why a frame is too large to be parsed, as a whole or but for its vectors; None if it is not."""
    if len(data) > MAX_FRAME_BYTES:
        return f"a frame of {len(data)} bytes; at most {MAX_FRAME_BYTES} are accepted"
    if len(data) <= MAX_STRUCTURE_BYTES:
        return None
    structure = len(data) - _vector_bytes(pieces_of(data), 0, len(data), layout, iter(range(_MOST_FIELDS)))
    if structure > MAX_STRUCTURE_BYTES:
        return (
            f"a frame with {structure} bytes beside its vectors; at most {MAX_STRUCTURE_BYTES} are accepted"
        )
    return None


class Vectors:
    """The vectors of a frame: what a field holds, or, in a frame that is `apart`, what the token in it stands for."""

    def __init__(self, *, apart: bool = False) -> None:
        self._apart: list[Pieces] | None = [] if apart else None

    @classmethod
    def beside(cls, *vectors: Sized | None) -> Self:
        """For a frame that is to hold `vectors`: apart if they are large."""
        return cls(apart=sum(len(each) for each in vectors if each is not None) > APART_BYTES)

    def token(self, vector: Bytes) -> bytes:
        """What is put into a field in place of `vector`."""
        if self._apart is None or not len(vector):
            return joined(vector)
        self._apart.append(pieces_of(vector))
        return _TOKEN.pack(len(self._apart) - 1)

    def of(self, field: bytes) -> Bytes:
        """The vector of a field. Raises LookupError for a token that stands for none."""
        if self._apart is None or not field:
            return field
        if len(field) != _TOKEN.size:
            raise LookupError(f"a field of {len(field)} bytes among vectors that were cut out")
        number: int = _TOKEN.unpack(field)[0]
        return self._apart[number]

    def put(self, skeleton: bytes, layout: Layout) -> Bytes:
        """The frame whose tokens are in `skeleton`."""
        if self._apart is None:
            return skeleton
        return _filled(Pieces((skeleton,)), layout, self)


def cut(data: Bytes, layout: Layout) -> tuple[bytes, Vectors]:
    """A frame that is not `oversize` as what protobuf is to parse, and its vectors. Raises `CutShort`."""
    if len(data) <= APART_BYTES:
        return joined(data), Vectors()
    vectors = Vectors(apart=True)
    skeleton = _cut(pieces_of(data), 0, len(data), layout, iter(range(_MOST_FIELDS)), vectors)
    return skeleton.joined(), vectors


class CutShort(CovenantError):  # noqa: N818 (what the frame is)
    """A frame that ends in the middle of a vector."""


def _cut(
    data: Pieces, begin: int, end: int, layout: Layout, budget: Iterator[int], vectors: Vectors
) -> Pieces:
    """What is left of a message between two places."""
    left: list[Pieces] = []
    for each in _fields(data, begin, end, budget):
        inner = layout.inner.get(each.number)
        if each.end > end:
            if inner is not None or each.number in layout.vectors:
                raise CutShort(f"{each.end - end} bytes are missing at the end of a frame of {len(data)}")
            break
        if each.number in layout.vectors:
            held = Pieces((vectors.token(data.between(each.begin, each.end)),))
        elif inner is not None:
            held = _cut(data, each.begin, each.end, inner, budget, vectors)
        else:
            continue
        left += [data.between(begin, each.length_at), length_prefix(len(held)), held]
        begin = each.end
    return _together([*left, data.between(begin, end)])


def _filled(skeleton: Pieces, layout: Layout, vectors: Vectors) -> Pieces:
    """The reverse of `_cut`, of a skeleton that this side has made."""
    made: list[Pieces] = []
    begin = 0
    for each in _fields(skeleton, 0, len(skeleton), iter(range(_MOST_FIELDS))):
        held = skeleton.between(each.begin, each.end)
        if each.number in layout.vectors:
            held = pieces_of(vectors.of(held.joined()))
        elif (inner := layout.inner.get(each.number)) is not None:
            held = _filled(held, inner, vectors)
        else:
            continue
        made += [skeleton.between(begin, each.length_at), length_prefix(len(held)), held]
        begin = each.end
    return _together([*made, skeleton.between(begin, len(skeleton))])


def _together(parts: Iterable[Pieces]) -> Pieces:
    """Parts one after the other; the small ones between vectors in one place."""
    kept: list[memoryview | bytearray] = []
    for part in (each for pieces in parts for each in pieces.parts):
        if len(part) > _SMALL:
            kept.append(part)
        elif kept and isinstance(kept[-1], bytearray):
            kept[-1] += part
        else:
            kept.append(bytearray(part))
    return Pieces(kept)


def length_prefix(length: int) -> Pieces:
    """A length as protobuf writes it."""
    written = bytearray()
    while length >= 0x80:  # noqa: PLR2004 (the bit that says that more follows)
        written.append(length & 0x7F | 0x80)
        length >>= 7
    return Pieces((bytes([*written, length]),))


def _vector_bytes(data: Pieces, begin: int, end: int, layout: Layout, budget: Iterator[int]) -> int:
    """Bytes in vectors between two places of a frame; `budget` is how many fields of it are looked at, at all depths."""
    found = 0
    for each in _fields(data, begin, end, budget):
        last = min(each.end, end)
        if each.number in layout.vectors:
            found += last - each.begin
        elif (inner := layout.inner.get(each.number)) is not None:
            found += _vector_bytes(data, each.begin, last, inner, budget)
    return found


class _Field(NamedTuple):
    """A length-delimited field: where its length stands, and where its content begins and says that it ends."""

    number: int
    length_at: int
    begin: int
    end: int


def _fields(data: Pieces, begin: int, end: int, budget: Iterator[int]) -> Iterator[_Field]:
    """The length-delimited fields between two places, as long as the budget lasts."""
    for _ in budget:
        if begin >= end:
            return
        key, begin = _varint(data, begin, end)
        kind = key & 7
        if kind == _LENGTH_DELIMITED:
            length, first = _varint(data, begin, end)
            yield _Field(key >> 3, begin, first, first + length)
            begin = first + length
        elif kind == 0:
            _, begin = _varint(data, begin, end)
        elif kind in _FIXED:
            begin += _FIXED[kind]
        else:
            return  # a group, or nonsense: parsing will say so, and what follows counts as structure


def _varint(data: Pieces, begin: int, end: int) -> tuple[int, int]:
    """A number, and where it ends; the rest of the frame if it does not."""
    value = 0
    for place in range(begin, min(begin + _LONGEST_VARINT, end)):
        value |= (data[place] & 0x7F) << (7 * (place - begin))
        if data[place] < 0x80:  # noqa: PLR2004 (the bit that says that more follows)
            return value & _VARINT_MASK, place + 1  # as parsers of protobuf do
    return 0, end
