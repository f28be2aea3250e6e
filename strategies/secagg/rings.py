"""Vectors over Z_2^b: the sums that masks cancel in, and the bits that they travel as.

1. Arithmetic is on machine words, 32 bits for b up to 32 and 64 above; the low b bits of a sum of words are the sum in the ring.
2. On the wire a vector takes b bits a coordinate and not a bit more, in little-endian bit order; padding bits are zero, or it is refused.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from strategies.errors import Refused, UsageError

RingVector: TypeAlias = npt.NDArray[Any]
"""(d,) words of a ring: uint32, or uint64 for more than 32 bits. Bits above b may hold anything until `Ring.reduce`."""

_MOST_BITS: Final = 64
_SMALL_WORD_BITS: Final = 32
_BLOCK: Final = 1 << 15
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
        return self.reduce(integers.astype(np.int64).view(np.uint64).astype(self.word))

    def decode(self, vector: RingVector) -> npt.NDArray[np.int64]:
        """Ring elements as the signed integers from -2^(b-1) to 2^(b-1) - 1, (d,) int64."""
        signed = self.word.str.replace("u", "i")
        shift = 8 * self.word.itemsize - self.bits
        # Shifting the ring's highest bit into the word's highest, and back, extends the sign.
        high = np.left_shift(vector, self.word.type(shift)).view(signed)
        np.right_shift(high, high.dtype.type(shift), out=high)
        return np.asarray(high, dtype=np.int64)

    def packed_size(self, dimension: int) -> int:
        """Bytes that a (dimension,) vector takes on the wire."""
        return (dimension * self.bits + 7) // 8

    def pack(self, vector: RingVector) -> bytes:
        """Reduce and write (d,) words as ceil(d bits / 8) bytes."""
        # In blocks of a multiple of eight coordinates, each of which fills whole bytes.
        parts = [self._pack_block(vector[first : first + _BLOCK]) for first in range(0, len(vector), _BLOCK)]
        return b"".join(parts)

    def unpack(self, data: bytes, dimension: int) -> RingVector:
        """Read (dimension,) words. Raises Refused for another length or padding that is not zero."""
        self._check_packed(data, dimension)
        if self.bits == _THREE_BYTES:
            words = self.zeros(dimension)
            _add_three_byte_words(words, data)
            return self.reduce(words)
        vector = np.empty(dimension, dtype=self.word)
        source = np.frombuffer(data, dtype=np.uint8)
        for first in range(0, dimension, _BLOCK):
            count = min(_BLOCK, dimension - first)
            begin = first * self.bits // 8
            vector[first : first + count] = self._unpack_block(
                source[begin : begin + self.packed_size(count)], count
            )
        return vector

    def add_packed(self, accumulator: RingVector, data: bytes) -> None:
        """Add a packed vector to (d,) words in place, which stay as they are if it is refused. Raises Refused as `unpack` does."""
        if self.bits == _THREE_BYTES:
            self._check_packed(data, len(accumulator))
            _add_three_byte_words(accumulator, data)
        else:
            np.add(accumulator, self.unpack(data, len(accumulator)), out=accumulator)

    def _check_packed(self, data: bytes, dimension: int) -> None:
        if len(data) != self.packed_size(dimension):
            raise Refused(
                f"a vector of {dimension} coordinates takes {self.packed_size(dimension)} bytes in this ring; {len(data)} came"
            )
        spare = 8 * len(data) - dimension * self.bits
        if spare and data[-1] >> (8 - spare):
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


def _add_three_byte_words(accumulator: RingVector, data: bytes) -> None:
    """Add packed 24-bit coordinates in place, read where they lie: each as a word whose highest byte belongs to the next one."""
    if not len(accumulator):
        return
    last = len(accumulator) - 1  # there is no byte after it
    words = np.ndarray((last,), dtype="<u4", buffer=data, strides=(3,))
    np.add(accumulator[:last], words, out=accumulator[:last])
    accumulator[last:] += np.uint32(int.from_bytes(data[3 * last : 3 * last + 3], "little"))
