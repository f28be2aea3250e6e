"""Vectors over Z_2^b: the sums that masks cancel in, and the bits that they travel as.

1. Arithmetic is on machine words, 32 bits for b up to 32 and 64 above; the low b bits of a sum of words are the sum in the ring.
2. On the wire a vector takes b bits a coordinate and not a bit more, in little-endian bit order; padding bits are zero, or it is refused.
3. A vector is packed in chunks of at most `CHUNK_BYTES`, and unpacked block by block into the sum, in whatever pieces it came: nothing of full length
   is made on the way. Whether it is one, as a whole, is looked at before any of it is added, because what was half added cannot be taken back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from strategies.errors import Refused, UsageError
from strategies.pieces import Bytes, Pieces, pieces_of

RingVector: TypeAlias = npt.NDArray[Any]
"""(d,) words of a ring: uint32, or uint64 for more than 32 bits. Bits above b may hold anything until `Ring.reduce`."""
Signed: TypeAlias = npt.NDArray[np.int32] | npt.NDArray[np.int64]
"""(d,) signed integers as wide as a ring's words."""

_MOST_BITS: Final = 64
_SMALL_WORD_BITS: Final = 32
_BLOCK: Final = 1 << 15  # coordinates, a multiple of eight of which fill whole bytes
CHUNK_BYTES: Final = 8 << 20
_THREE_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class Ring:
    """Z_2^bits, for 2 to 64 bits."""

    bits: int

    def __post_init__(self) -> None:
        if not 2 <= self.bits <= _MOST_BITS:  # noqa: PLR2004 (a sign and a value)
            raise UsageError(f"a ring has 2 to {_MOST_BITS} bits; this one has {self.bits}")

    @property
    def word(self) -> np.dtype[Any]:
        """The little-endian machine word that holds one coordinate."""
        return np.dtype("<u4") if self.bits <= _SMALL_WORD_BITS else np.dtype("<u8")

    @property
    def modulus(self) -> int:
        """2^bits."""
        return 1 << self.bits

    def zeros(self, dimension: int) -> RingVector:
        """(dimension,) zeros to accumulate in."""
        return np.zeros(dimension, dtype=self.word)

    def reduce(self, vector: RingVector) -> RingVector:
        """Clear the bits above the ring's, in place; returns `vector`."""
        np.bitwise_and(vector, self.word.type(self.modulus - 1), out=vector)
        return vector

    def encode(self, integers: npt.NDArray[np.int64]) -> RingVector:
        """Signed integers, (d,) int64, as ring elements: two's complement, reduced."""
        words = np.empty(len(integers), dtype=self.word)
        # Of two's complement the low bits are the ring element.
        np.copyto(words, integers.astype(np.int64, copy=False).view(np.uint64), casting="unsafe")
        return self.reduce(words)

    def decode(self, vector: RingVector) -> npt.NDArray[np.int64]:
        """Ring elements as the signed integers from -2^(b-1) to 2^(b-1) - 1, (d,) int64."""
        return np.asarray(self.decode_in_place(vector.copy()), dtype=np.int64)

    def decode_in_place(self, vector: RingVector) -> Signed:
        """The same in the memory of `vector`, which is lost: (d,) integers as wide as its words."""
        shift = 8 * self.word.itemsize - self.bits
        # Shifting the ring's highest bit into the word's highest, and back, extends the sign.
        np.left_shift(vector, self.word.type(shift), out=vector)
        high: Signed = vector.view(self.word.str.replace("u", "i"))
        np.right_shift(high, high.dtype.type(shift), out=high)
        return high

    def packed_size(self, dimension: int) -> int:
        """Bytes that a (dimension,) vector takes on the wire."""
        return (dimension * self.bits + 7) // 8

    def pack(self, vector: RingVector) -> Bytes:
        """Reduce and write (d,) words as ceil(d bits / 8) bytes: in one `bytes` up to `CHUNK_BYTES`, in chunks of at most so many beyond."""
        size = self._chunk
        chunks = [self._pack_chunk(vector[first : first + size]) for first in range(0, len(vector), size)]
        return Pieces(chunks) if len(chunks) > 1 else b"".join(chunks)

    @property
    def _chunk(self) -> int:
        """Coordinates that are packed together: whole blocks, or as many eights as fit in a chunk that is smaller than one."""
        fitting = CHUNK_BYTES * 8 // self.bits
        return max(8, fitting // _BLOCK * _BLOCK or fitting // 8 * 8)

    def _pack_chunk(self, vector: RingVector) -> bytes:
        parts = [self._pack_block(vector[first : first + _BLOCK]) for first in range(0, len(vector), _BLOCK)]
        return b"".join(parts)

    def unpack(self, data: Bytes, dimension: int) -> RingVector:
        """Read (dimension,) words. Raises Refused for another length or padding that is not zero."""
        vector = self.zeros(dimension)
        self.add_packed(vector, data)
        return self.reduce(vector)

    def add_packed(self, accumulator: RingVector, data: Bytes) -> None:
        """Add a packed vector to (d,) words in place, which stay as they are if it is refused. Raises Refused as `unpack` does."""
        pieces = pieces_of(data)
        self.check_packed(pieces, len(accumulator))
        first = 0
        for packed in pieces.blocks(self.packed_size(_BLOCK)):
            part = accumulator[first : first + _BLOCK]
            if self.bits == _THREE_BYTES:
                _add_three_byte_words(part, packed)
            else:
                np.add(part, self._unpack_block(np.frombuffer(packed, dtype=np.uint8), len(part)), out=part)
            first += _BLOCK

    def check_packed(self, data: Bytes, dimension: int) -> None:
        """Raise Refused where `unpack` would."""
        data = pieces_of(data)
        if len(data) != self.packed_size(dimension):
            raise Refused(
                f"a vector of {dimension} coordinates takes {self.packed_size(dimension)} bytes in this ring; {len(data)} came"
            )
        spare = 8 * len(data) - dimension * self.bits
        if spare and data[len(data) - 1] >> (8 - spare):
            raise Refused("the padding of a packed vector is not zero")

    def _pack_block(self, words: RingVector) -> bytes:
        if self.bits == _THREE_BYTES:
            return _pack_three(words)
        if self.bits % 8 == 0:
            octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
            return octets[:, : self.bits // 8].tobytes()
        octets = np.ascontiguousarray(words).view(np.uint8).reshape(len(words), -1)
        flags = np.unpackbits(octets, axis=1, bitorder="little")[:, : self.bits]
        return np.packbits(flags.ravel(), bitorder="little").tobytes()

    def _unpack_block(self, octets: npt.NDArray[np.uint8], count: int) -> RingVector:
        wide = np.zeros((count, self.word.itemsize), dtype=np.uint8)
        if self.bits % 8 == 0:
            wide[:, : self.bits // 8] = octets.reshape(count, -1)
        else:
            flags = np.unpackbits(octets, bitorder="little")[: count * self.bits].reshape(count, self.bits)
            packed = np.packbits(flags, axis=1, bitorder="little")
            wide[:, : packed.shape[1]] = packed
        return wide.view(self.word)[:, 0]


def _pack_three(words: RingVector) -> bytes:
    """24 bits a coordinate, four coordinates to three words: several times faster than byte by byte, for the ring most cohorts use."""
    fours = np.zeros((-(-len(words) // 4), 4), dtype="<u4")
    fours.reshape(-1)[: len(words)] = words & 0xFFFFFF
    threes = np.empty((len(fours), 3), dtype="<u4")
    threes[:, 0] = fours[:, 0] | fours[:, 1] << 24
    threes[:, 1] = fours[:, 1] >> 8 | fours[:, 2] << 16
    threes[:, 2] = fours[:, 2] >> 16 | fours[:, 3] << 8
    return threes.tobytes()[: 3 * len(words)]


def _add_three_byte_words(accumulator: RingVector, data: memoryview) -> None:
    """Add packed 24-bit coordinates in place, read where they lie: each as a word whose highest byte belongs to the next one."""
    if not len(accumulator):
        return
    last = len(accumulator) - 1  # there is no byte after it
    words = np.ndarray((last,), dtype="<u4", buffer=data, strides=(3,))
    np.add(accumulator[:last], words, out=accumulator[:last])
    accumulator[last:] += np.uint32(int.from_bytes(data[3 * last : 3 * last + 3], "little"))
