"""Sums of clipped gradients as integers: the sum that differentially private training opens, with a sensitivity that is exact.

1. A unit is a row, or all rows of one customer; its gradient is the mean of its rows'. It is clipped over all parameters together.
2. A unit's part is a vector of integers in 2^-36 clipping norms, whose L2 norm is at most 2^36, exactly. It depends on that unit alone.
3. Parts are added as integers: neither the order of units, nor which block a row falls in, nor the matrix library changes a bit.
4. No row is refused, for a refusal would tell about it: a unit whose gradient is not finite adds nothing.

Why a row's part is no longer than the clipping norm C. Its gradient has, in layer l, the elements A_i D_j 2^-e_l with integer factors A and D
(`backpropagation`), so the square of its norm N is the sum over layers of |A|^2 |D|^2 4^-e_l (Goodfellow 2015; Li et al. 2022, section 4).
The squared norms of A and D are exact; the few float64 steps from them to N err by less than a factor of 1 +- 2^-42 in models of up to a
thousand layers. With s = 2^36 min(1 / C, (1 - 2^-40) / N) the elements s A_i D_j 2^-e_l therefore have a joint norm of at most 2^36 (1 - 2^-41).
Powers of two move from one factor to the other, exactly, and both are truncated towards zero. That lengthens no element; the one product
of float64 before it does, by a factor of at most 1 + 2^-53. So the integers that are left have a joint norm of at most 2^36.
No element is longer than that, which makes the sum over a block of 2^8 rows exact in float64, and sums over 2^26 units exact in int64.

The same holds for customers, whose means are rounded to integers first (`unit_means`), with one truncation less.

Truncation costs a row at most about 2^-17 (m k)^(1/4) C in a layer of m outputs and k inputs (typically a third of that: 2e-5 C for 30-64-32-1),
always so that its part is shorter: far below the noise that hides a row.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt

from strategies.dp.backpropagation import BLOCK_ROWS, Backpropagation, Exponents, Integers
from strategies.dp.unit_means import ABSENT, Grouped, Means, Rows
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.models import DenseModel

FRACTION_BITS: Final = 36
"""Clipped sums are in units of the clipping norm times 2^-36."""
MOST_UNITS: Final = 1 << 26
_WHOLE: Final = 2.0**FRACTION_BITS
_BELOW_ONE: Final = 1.0 - 2.0**-40
_HALF: Final = 0.5


class ClassWeights(Protocol):
    """What a row counts in the loss, by its label."""

    @property
    def negative(self) -> float:
        """For label 0."""

    @property
    def positive(self) -> float:
        """For label 1."""


def clipped_sum(
    model: DenseModel,
    vector: Vector,
    x: npt.NDArray[np.float32],
    y: Vector,
    *,
    clip: float,
    weights: ClassWeights,
    importance: Vector | None = None,
    units: Integers | None = None,
) -> Integers:
    """The sum over units of the unit's gradient, clipped to L2 norm `clip`: (d,) int64 in `clip` x 2^-FRACTION_BITS, in `vector`'s order.

    The gradient is that of the cross-entropy, times the weight of the label's class and, if given, the row's `importance`, (n,), at `vector`, (d,) float64, for rows `x`, (n, inputs), with
    labels `y`, (n,) of 0 and 1. Each row is a unit, unless `units`, (n,) of any integers, tells whose it is: rows of one unit may stand
    anywhere, and a unit of one row adds the same to the bit either way.

    Adding or removing a unit moves the sum by exactly that unit's part, of L2 norm at most 2^FRACTION_BITS. It is all zeros at a `vector` that
    is not finite. Raises UsageError for shapes that do not fit, more than 2^26 rows, a clip that is not above 0 and finite, or weights below 0
    or not finite; never for what is in a row.
    """
    _require_shapes(model, vector, x, y, units)
    _require_constants(clip, weights)
    if importance is not None and importance.shape != y.shape:
        raise UsageError(f"the importance has shape {importance.shape}; for these rows it is {y.shape}")
    if not len(x) or not np.isfinite(vector).all():
        return np.zeros(model.size, dtype=np.int64)
    by_class = np.where(y > _HALF, weights.positive, weights.negative)
    # Before anything is clipped: whatever a row counts, its part is no longer than the norm.
    rows = Rows(x, y, by_class if importance is None else by_class * importance)
    # Absurd values overflow, and rows without slope have no norm to divide by: both are provided for.
    with np.errstate(all="ignore"):
        return _sum(Backpropagation(model, vector), rows, units, clip)


def gradient_value(total: Integers, clip: float) -> Vector:
    """A clipped sum, or one with noise, (d,) int64 in `clip` x 2^-FRACTION_BITS, as float64, (d,); exact for integers below 2^53 up to one rounding."""
    value: Vector = np.ldexp(total.astype(np.float64), -FRACTION_BITS) * clip
    return value


def _sum(back: Backpropagation, rows: Rows, units: Integers | None, clip: float) -> Integers:
    joined = np.zeros((1, back.size), dtype=np.int64)
    if units is not None:
        rows, grouped = Grouped.split(rows, units)
        for means in grouped.means(back):
            joined += _clipped_means(means, clip)
    layers = back.by_layer(joined)
    _add_rows(back, rows, clip, layers)
    return np.concatenate([part.ravel() for layer in layers for part in (layer[..., :-1], layer[..., -1])])


def _add_rows(back: Backpropagation, rows: Rows, clip: float, totals: Sequence[Integers]) -> None:
    """Add each row's part to `totals`, for each layer (1, outputs, inputs + 1)."""
    for first in range(0, len(rows.x), BLOCK_ROWS):
        part = slice(first, first + BLOCK_ROWS)
        back.run(rows.x[part], rows.y[part], rows.weight[part])
        _shorten(back, clip)
        for layer, total in zip(back.layers, totals, strict=True):
            # Integers, and no partial sum above 2^8 x 2^36: exact in whatever order they are added.
            np.add(total, (layer.deltas @ layer.inputs.T).astype(np.int64), out=total)


def _shorten(back: Backpropagation, clip: float) -> None:
    """Make the factors of a block those of its rows' parts: integers whose outer products have a joint norm of at most 2^FRACTION_BITS."""
    layers = back.layers
    # Squared norms of the factors, exact: sums of integers of at most 2^53.
    inputs, deltas = np.empty((2, len(layers), BLOCK_ROWS))
    exponents = np.empty((len(layers), BLOCK_ROWS), dtype=np.int32)
    for place, layer in enumerate(layers):
        np.einsum("ij,ij->j", layer.inputs, layer.inputs, out=inputs[place])
        np.einsum("ij,ij->j", layer.deltas, layer.deltas, out=deltas[place])
        np.add(layer.input_exponents, layer.delta_exponents, out=exponents[place])
    exponents[deltas == 0.0] = (
        ABSENT  # inputs are never all 0: the largest, or the bias's, has the highest bit
    )
    least = exponents.min(axis=0)
    unit = np.ldexp(1.0, least - exponents)
    norm = np.sqrt((inputs * deltas * unit * unit).sum(axis=0))
    scale = _multiplier(norm, least, clip) * unit
    # Both factors of a layer get the same root mean square, so that truncation costs least.
    lengths = np.array([[len(layer.inputs) / len(layer.deltas)] for layer in layers])
    fourth_power = deltas * scale * scale * lengths / inputs
    shift = np.ldexp(1.0, np.minimum(np.frexp(fourth_power)[1] >> 2, 0))
    scale /= shift
    for place, layer in enumerate(layers):
        np.multiply(layer.inputs, shift[place], out=layer.inputs)
        np.multiply(layer.deltas, scale[place], out=layer.deltas)
    np.trunc(back.factors, out=back.factors)


def _clipped_means(means: Means, clip: float) -> Integers:
    """The sum of units' parts, (d,)."""
    norm = np.sqrt(np.einsum("ij,ij->i", means.integers, means.integers).astype(np.float64))
    scale = _multiplier(norm, means.exponents, clip)
    parts = np.trunc(means.integers * scale[:, None]).astype(np.int64)
    total: Integers = parts.sum(axis=0)
    return total


def _multiplier(norm: Vector, exponents: Exponents, clip: float) -> Vector:
    """What turns a gradient given times 2^`exponents`, and then of length `norm`, into its part: 2^FRACTION_BITS min(1 / clip, 1 / length)."""
    mantissa, exponent = math.frexp(clip)
    kept = np.ldexp(1.0 / mantissa, -exponent - exponents)
    return _WHOLE * np.minimum(kept, _BELOW_ONE / norm)


def _require_shapes(
    model: DenseModel, vector: Vector, x: npt.NDArray[np.float32], y: Vector, units: Integers | None
) -> None:
    if vector.shape != (model.size,):
        raise UsageError(f"the vector has shape {vector.shape}; this model has {model.size} parameters")
    if x.ndim != 2 or x.shape[1] != model.inputs:  # noqa: PLR2004
        raise UsageError(f"the rows have shape {x.shape}; this model takes (n, {model.inputs})")
    if len(x) > MOST_UNITS:
        raise UsageError(f"there are {len(x)} rows; a sum holds the parts of at most {MOST_UNITS}")
    for name, each in (("labels", y), ("units", units)):
        if each is not None and each.shape != (len(x),):
            raise UsageError(f"the {name} have shape {each.shape}; for these rows it is ({len(x)},)")


def _require_constants(clip: float, weights: ClassWeights) -> None:
    # Phrased so that NaN is refused.
    if not 0.0 < clip < math.inf:
        raise UsageError(f"the clipping norm is {clip}; use a finite number above 0")
    for weight in (weights.negative, weights.positive):
        if not 0.0 <= weight < math.inf:
            raise UsageError(f"a class weight is {weight}; use a finite number of at least 0")
