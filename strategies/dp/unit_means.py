"""Mean gradients of units that have several rows, as integers, so that a unit's is a function of its own rows alone.

1. The rows of a unit are taken in an order of their own contents, so nothing depends on where they stood or on what stood between them.
2. They are added in chunks, of 8 rows or 128 by the unit's own number of rows and the model's size: within a chunk as integers, exactly, as
   in `backpropagation`; then chunk by chunk in float64, one element at a time.
3. A mean is rounded to integers times a power of two of that unit's own, few enough bits that the square of its norm is exact in int64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from strategies.dp.backpropagation import (
    BLOCK_ROWS,
    FINEST_SLOPE,
    Backpropagation,
    Exponents,
    Flags,
    Integers,
    Matrix,
)
from strategies.encoding import Vector

ABSENT: Final = 1 << 28
"""The exponent of a gradient of zero: above every other, so that it sets no scale."""
_SMALL_CHUNK: Final = 8
_LARGE_CHUNK: Final = 128
_MOST_SMALL_CHUNKS: Final = 8
_MOST_ELEMENTS: Final = 1 << 21  # of one block's mean gradients: 16 MiB
_SQUARE_BITS: Final = 62
_MOST_BITS: Final = 30


@dataclass(frozen=True, slots=True)
class Rows:
    """Features `x`, (n, inputs), labels `y`, (n,) of 0 and 1, and what each row counts in the loss, `weight`, (n,)."""

    x: npt.NDArray[np.float32]
    y: Vector
    weight: Vector

    def take(self, places: Integers) -> Rows:
        """The rows at `places`, (m,)."""
        return Rows(self.x[places], self.y[places], self.weight[places])


@dataclass(frozen=True, slots=True)
class Means:
    """Mean gradients of m units: `integers`, (m, d) int64 with each layer's weight and bias side by side, times 2^-`exponents`, (m,).

    The squares of a unit's integers add up to at most 2^62.
    """

    integers: Integers
    exponents: Exponents


class Grouped:
    """The rows of units that have more than one, unit by unit."""

    def __init__(self, rows: Rows, counts: Integers) -> None:
        """`counts` says how many of the `rows`, one after the other, each unit has."""
        self._rows, self._counts = rows, counts
        self._starts = np.cumsum(counts) - counts

    @classmethod
    def split(cls, rows: Rows, units: Integers) -> tuple[Rows, Self]:
        """The rows of units that have one only, and the others; `units`, (n,) of any integers, says whose each row is."""
        _, numbers, counts = np.unique(units, return_inverse=True, return_counts=True)
        alone = counts[numbers] == 1
        places = np.flatnonzero(~alone)
        places = places[_by_content(rows.take(places))]
        places = places[np.argsort(numbers[places], kind="stable")]
        return rows.take(np.flatnonzero(alone)), cls(rows.take(places), counts[counts > 1].astype(np.int64))

    def means(self, back: Backpropagation) -> Iterator[Means]:
        """The mean gradient of every unit, in blocks of bounded memory, in no order that matters."""
        small = self._counts <= _SMALL_CHUNK * _MOST_SMALL_CHUNKS
        if back.size * (BLOCK_ROWS // _SMALL_CHUNK) > _MOST_ELEMENTS:
            small[:] = False
        for chunk, chosen in ((_SMALL_CHUNK, small), (_LARGE_CHUNK, ~small)):
            # Units with most rows first, so that those with a further chunk stand at the beginning.
            members = np.flatnonzero(chosen)
            members = members[np.argsort(-self._counts[members], kind="stable")]
            for first in range(0, len(members), BLOCK_ROWS // chunk):
                yield self._block(back, members[first : first + BLOCK_ROWS // chunk], chunk)

    def _block(self, back: Backpropagation, members: Integers, chunk: int) -> Means:
        counts = self._counts[members]
        sums = np.zeros((len(members), back.size))
        for done in range(0, int(counts[0]), chunk):
            live = members[counts > done]
            within, ends = done + np.arange(chunk), self._counts[live][:, None]
            # A chunk that is not full repeats the unit's last row with a weight of 0.
            places = self._starts[live][:, None] + np.minimum(within, ends - 1)
            rows = self._rows.take(places.ravel())
            finite = back.run(rows.x, rows.y, np.where((within < ends).ravel(), rows.weight, 0.0))
            _add_chunks(back, finite, sums[: len(live)], chunk)
        sums /= counts[:, None]
        return _rounded(sums)


def _add_chunks(back: Backpropagation, finite: Flags, sums: Matrix, chunk: int) -> None:
    """Add to `sums`, (m, d), the gradients of the block's first m chunks of `chunk` rows; NaN where a row is not `finite`, (256,)."""
    live, shape = len(sums), (BLOCK_ROWS // chunk, chunk)
    exponents = [np.where(layer.deltas.any(axis=0), layer.exponents, ABSENT) for layer in back.layers]
    least = np.min(exponents, axis=0).reshape(shape).min(axis=1)
    scale = np.where(finite.reshape(shape).all(axis=1), np.ldexp(1.0, -least), np.nan)[:live, None, None]
    for layer, own, part in zip(back.layers, exponents, back.by_layer(sums), strict=True):
        # One power of two for the chunk: what its rows add is then integers, of at most 128 x 2^23 x 2^23.
        deltas = np.rint(layer.deltas * np.ldexp(1.0, np.repeat(least, chunk) - own))
        left = deltas.reshape(-1, *shape)[:, :live].transpose(1, 0, 2)
        right = layer.inputs.reshape(-1, *shape)[:, :live].transpose(1, 2, 0)
        np.add(part, (left @ right) * scale, out=part)


def _rounded(means: Matrix) -> Means:
    """Integers for float64 `means`, (m, d); 0 for a unit with an element that is not finite, or with none above 2^-900."""
    largest = np.abs(means).max(axis=1)
    absent = ~((largest >= FINEST_SLOPE) & (largest < np.inf))
    means[absent] = 0.0
    bits = min(_MOST_BITS, (_SQUARE_BITS - (means.shape[1] - 1).bit_length()) // 2)
    exponents: Exponents = bits - np.frexp(np.where(absent, 1.0, largest))[1]
    integers = np.rint(means * np.ldexp(1.0, exponents)[:, None]).astype(np.int64)
    exponents[absent] = ABSENT
    return Means(integers, exponents)


def _by_content(rows: Rows) -> Integers:
    """An order of rows that is told by their bytes alone; equal rows are interchangeable."""
    x, y = np.ascontiguousarray(rows.x), np.ascontiguousarray(rows.y)
    joined = np.concatenate([x.view(np.uint8), y[:, None].view(np.uint8)], axis=1)
    return np.argsort(joined.view(np.dtype((np.void, joined.shape[1])))[:, 0], kind="stable")
