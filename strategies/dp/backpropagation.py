"""The factors of each row's gradient in a dense model, in integers, so that a row's gradient is a function of that row alone.

1. A layer's gradient for one row is an outer product: deltas (outputs) times inputs (inputs, and 1 for the bias). Only the factors are kept.
2. Each row's inputs and deltas are rounded to integers of at most 23 bits times a power of two of that row's own, and each weight matrix to
   integers times one power of two. Every matrix product is then a sum of integers that float64 holds: exact, whatever the order.
3. What is left of floating point works on one element at a time. No row's result depends on its place in the block or on its neighbours.

Rule 3 is what a proof of sensitivity needs and what matrix products of float64 do not give: the last bits of a row change with its place in
the block, even in blocks of one fixed shape (seen with OpenBLAS on AVX-512, from 255 outputs on).

Why products are exact: factors of k integers of at most b bits have a squared norm of at most k 4^b <= 2^53 (`integer_bits`), and so have the
rows and columns of the weights. By Cauchy and Schwarz no partial sum exceeds 2^53, up to which float64 holds every integer. This asks of
the matrix library that it adds products of float64, in any order, and of the exponential that it treats all elements of an array alike.
Rounding costs 2^-24 of the largest input, delta or weight: what training in float32 costs.
"""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Final, TypeAlias, TypeVar

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.models import DenseModel, sigmoid

Matrix: TypeAlias = npt.NDArray[np.float64]
Exponents: TypeAlias = npt.NDArray[np.int32]
Flags: TypeAlias = npt.NDArray[np.bool_]
Integers: TypeAlias = npt.NDArray[np.int64]
Element = TypeVar("Element", np.float64, np.int64)

BLOCK_ROWS: Final = 256
FACTOR_BITS: Final = 23
EXACT_BITS: Final = 53
"""float64 holds every integer up to 2^53."""
_FINEST_WEIGHT_BITS: Final = 128  # weights are not told apart below 2^-128, which bounds all exponents
FINEST_SLOPE: Final = 2.0**-900
"""Smaller slopes of the loss are 0, for the same reason."""


def integer_bits(length: int) -> int:
    """Bits of each of `length` integers: at most 23, and so few that the sum of their squares is at most 2^53."""
    return min(FACTOR_BITS, (EXACT_BITS - (length - 1).bit_length()) // 2)


class IntegerWeights:
    """A layer's parameters as integers: `joined`, (outputs, inputs + 1) with the bias last, and `back`, (inputs, outputs), times 2^-`exponent`."""

    def __init__(self, weight: Matrix, bias: Vector) -> None:
        """Round finite parameters to the most bits that keep products exact."""
        outputs, inputs = weight.shape
        joined = np.empty((outputs, inputs + 1))
        joined[:, :-1], joined[:, -1] = weight, bias
        _, size = math.frexp(max(joined.max(), -joined.min()))
        self.exponent = min(integer_bits(max(joined.shape)) - size, _FINEST_WEIGHT_BITS)
        joined *= 2.0**self.exponent
        self.joined: Matrix = np.rint(joined, out=joined)
        self.back: Matrix = joined[:, :-1].T


class LayerFactors:
    """One layer's gradients for a block: row i's is the outer product of deltas[:, i] and inputs[:, i] times 2^-exponents[i].

    `inputs`, (inputs + 1, 256), ends in the bias's; `deltas` is (outputs, 256). Both are float64 that hold integers of at most 23 bits.
    """

    def __init__(self, inputs: Matrix, deltas: Matrix) -> None:
        self.inputs, self.deltas = inputs, deltas
        self.input_exponents: Exponents = np.zeros(BLOCK_ROWS, dtype=np.int32)
        self.delta_exponents: Exponents = np.zeros(BLOCK_ROWS, dtype=np.int32)
        self._input_bits = integer_bits(len(inputs))
        self._delta_bits = integer_bits(len(deltas))

    @property
    def exponents(self) -> Exponents:
        """(256,), of the outer products."""
        return self.input_exponents + self.delta_exponents

    def round_inputs(self, largest: Vector, exponents: Exponents | int) -> None:
        """Round `inputs` but for the last, which stand for themselves times 2^-`exponents` and are at most `largest`, (256,); set the last to 1."""
        sizes = _sizes(largest) - exponents
        sizes[(sizes < 0) | (largest == 0.0)] = 0  # the bias's 1 is an input too
        self.input_exponents = self._input_bits - sizes
        inputs = self.inputs[:-1]
        # More than the bits only where all are 0, and then it must not overflow.
        shifts = np.minimum(self.input_exponents - exponents, self._input_bits)
        np.multiply(inputs, np.ldexp(1.0, shifts), out=inputs)
        np.rint(inputs, out=inputs)
        np.rint(np.ldexp(1.0, self.input_exponents), out=self.inputs[-1])

    def round_deltas(self, largest: Vector, exponents: Exponents | int) -> None:
        """Round `deltas`, which stand for themselves times 2^-`exponents` and are at most `largest`, (256,)."""
        shifts = self._delta_bits - _sizes(largest)
        self.delta_exponents = shifts + exponents
        np.multiply(self.deltas, np.ldexp(1.0, shifts), out=self.deltas)
        np.rint(self.deltas, out=self.deltas)


def _sizes(values: Vector) -> Exponents:
    """The exponents of the least powers of two that are above `values`, which are at least 0; 0 for 0."""
    return np.frexp(values)[1]


class Backpropagation:
    """Takes blocks of rows forward and back through `model` at `vector`, (d,) finite float64; `layers` then has the block's factors."""

    def __init__(self, model: DenseModel, vector: Vector) -> None:
        weights = model.split(vector)
        lengths = [length for weight, bias in weights for length in (weight.shape[1] + 1, len(bias))]
        widest = max(lengths)
        # One piece of memory: the allocator keeps one piece for the next call, but gives many back to the system and fetches them again.
        memory = np.empty((sum(lengths) + widest, BLOCK_ROWS))
        ends = accumulate(lengths)
        parts = [memory[end - length : end] for end, length in zip(ends, lengths, strict=True)]
        self.layers = tuple(map(LayerFactors, parts[::2], parts[1::2]))
        self.factors: Matrix = memory[:-widest]
        """All layers' inputs and deltas, one below the other."""
        self._scratch: Matrix = memory[-widest:]
        self._weights = tuple(IntegerWeights(*parameters) for parameters in weights)
        self.size = model.size
        """Number of parameters, d."""

    def by_layer(self, joined: npt.NDArray[Element]) -> tuple[npt.NDArray[Element], ...]:
        """Views of each layer's part of `joined`, (m, d): (m, outputs, inputs + 1), each output's bias after its weights."""
        views, start = [], 0
        for layer in self.layers:
            shape = (len(layer.deltas), len(layer.inputs))
            end = start + shape[0] * shape[1]
            views.append(joined[:, start:end].reshape(-1, *shape))
            start = end
        return tuple(views)

    def run(self, x: npt.NDArray[np.float32], y: Vector, weight: Vector) -> Flags:
        """Find the factors for up to 256 rows `x`, (n, inputs), labels `y`, (n,) of 0 and 1, whose cross-entropy counts `weight` times, (n,).

        The deltas of a row with a feature, label or weight that is NaN or infinite are 0; returns which are finite, (256,). Those after the
        n-th row are, and have deltas of 0.
        """
        finite = self._enter(x)
        logits = self._forward()
        # The slope is sigmoid(z) for a negative row and -sigmoid(-z) for a positive one, neither a difference.
        sign = np.zeros(BLOCK_ROWS)
        sign[: len(y)] = 1.0 - 2.0 * y
        slopes = sign * sigmoid(sign * logits)
        slopes[: len(y)] *= weight
        slopes[len(y) :] = 0.0
        finite &= np.isfinite(slopes)
        slopes[~(finite & (np.abs(slopes) >= FINEST_SLOPE))] = 0.0
        self._backward(slopes)
        return finite

    def logits(self, x: npt.NDArray[np.float32]) -> Vector:
        """The logits of up to 256 rows `x`, (n, inputs), as (n,): each a function of its row alone, 0 for one with NaN or an infinity."""
        finite = self._enter(x)
        return np.where(finite, self._forward(), 0.0)[: len(x)]

    def _enter(self, x: npt.NDArray[np.float32]) -> Flags:
        """Round the features; returns which rows are finite, (256,). The others become 0, lest they reach their neighbours as 0 x NaN."""
        first = self.layers[0]
        features = first.inputs[:-1]
        features[:, : len(x)] = x.T
        features[:, len(x) :] = 0.0
        largest = self._largest(features)
        finite = np.isfinite(largest)
        if not finite.all():
            features[:, ~finite] = 0.0
            largest[~finite] = 0.0
        first.round_inputs(largest, 0)
        return finite

    def _forward(self) -> Vector:
        """Find the inputs of the layers after the first; returns the logits, (256,)."""
        for layer, following, weights in zip(self.layers, self.layers[1:], self._weights, strict=False):
            values = following.inputs[:-1]
            np.matmul(weights.joined, layer.inputs, out=values)
            np.clip(values, 0.0, np.inf, out=values)  # as a maximum, but faster
            following.round_inputs(values.max(axis=0), layer.input_exponents + weights.exponent)
        last, weights = self.layers[-1], self._weights[-1]
        logits: Vector = np.ldexp((weights.joined @ last.inputs)[0], -weights.exponent - last.input_exponents)
        return logits

    def _backward(self, slopes: Vector) -> None:
        """Find the deltas of all layers from the slopes of the loss by the logit, (256,)."""
        last = self.layers[-1]
        last.deltas[0] = slopes
        last.round_deltas(np.abs(slopes), 0)
        steps = tuple(zip(self.layers, self.layers[1:], self._weights[1:], strict=False))
        for layer, following, weights in reversed(steps):
            deltas = layer.deltas
            np.matmul(weights.back, following.deltas, out=deltas)
            # A ReLU's output is an integer of at least 0 here, so its slope is that integer, but at most 1.
            slope = np.clip(following.inputs[:-1], 0.0, 1.0, out=self._scratch[: len(deltas)])
            np.multiply(deltas, slope, out=deltas)
            layer.round_deltas(self._largest(deltas), following.delta_exponents + weights.exponent)

    def _largest(self, values: Matrix) -> Vector:
        """The largest magnitude in each column of (k, 256), as (256,); NaN where there is a NaN."""
        largest: Vector = np.abs(values, out=self._scratch[: len(values)]).max(axis=0)
        return largest


def row_logits(model: DenseModel, vector: Vector, x: npt.NDArray[np.float32]) -> Vector:
    """The logits of rows `x`, (n, inputs), at `vector`, (d,), as (n,) float64, each a function of its row alone; 0 where something is not finite.

    For scores that are counted: with products of float64 a row's score, and so its bin, could depend on how many rows there are.
    """
    logits = np.zeros(len(x))
    if np.isfinite(vector).all():
        forward = Backpropagation(model, vector)
        with np.errstate(all="ignore"):
            for first in range(0, len(x), BLOCK_ROWS):
                part = slice(first, first + BLOCK_ROWS)
                logits[part] = forward.logits(x[part])
    return np.nan_to_num(logits, nan=0.0)
