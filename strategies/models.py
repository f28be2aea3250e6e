"""Dense models as one flat vector, with the one parameter order that every part of Covenant shares.

1. Layers are named `layer0`, `layer1`, ...; hidden layers end in ReLU, the last yields one logit a row.
2. In the vector each layer lies as its weight, (outputs, inputs) in C order, then its bias, (outputs,).
3. The initial model is a function of the shape and a public seed, so every site can compute it.
"""

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector
from strategies.errors import UsageError

Parameters: TypeAlias = tuple[Vector, Vector]
"""A layer's weight, (outputs, inputs), and bias, (outputs,), both float64."""

_BLOCK: Final = 1 << 16  # values that are drawn together


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One affine map; `name` prefixes its tensors wherever they are stored."""

    name: str
    outputs: int
    inputs: int

    @property
    def size(self) -> int:
        """Number of parameters: weight and bias."""
        return self.outputs * (self.inputs + 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class DenseModel:
    """A binary classifier over `inputs` encoded features; `hidden=()` is logistic regression."""

    inputs: int
    hidden: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.inputs < 1 or any(width < 1 for width in self.hidden):
            raise UsageError(
                f"a model needs widths of at least 1; this one has {(self.inputs, *self.hidden)}"
            )

    @property
    def layers(self) -> tuple[Layer, ...]:
        """All layers from the features to the logit."""
        widths = (self.inputs, *self.hidden, 1)
        return tuple(
            Layer(name=f"layer{i}", outputs=widths[i + 1], inputs=widths[i]) for i in range(len(widths) - 1)
        )

    @property
    def size(self) -> int:
        """Length d of the model's vector."""
        return sum(layer.size for layer in self.layers)

    def initial(self, seed: int) -> Vector:
        """The model before the first round, (d,) float64: zero biases, weights uniform in +-sqrt(6 / inputs).

        Kaiming-uniform for ReLU: He et al. 2015, section 2.2. Logistic regression starts at zero: its loss is convex.
        Raises UsageError for a negative seed.
        """
        if seed < 0:
            raise UsageError(f"the seed is {seed}; use an integer of at least 0")
        vector = np.zeros(self.size)
        if not self.hidden:
            return vector
        # Raw words, because numpy keeps Philox's stream fixed across versions but not Generator.uniform's (NEP 19).
        source = np.random.Philox(seed)
        for layer, (weight, _) in zip(self.layers, self.split(vector), strict=True):
            flat, spread = weight.reshape(-1), math.sqrt(6.0 / layer.inputs)
            for first in range(0, len(flat), _BLOCK):
                part = flat[first : first + _BLOCK]
                words = np.asarray(source.random_raw(len(part)), dtype=np.uint64)
                unit = (words >> np.uint64(11)).astype(np.float64) * 2.0**-53
                part[...] = (2.0 * unit - 1.0) * spread
        return vector

    def split(self, vector: Vector) -> tuple[Parameters, ...]:
        """Views of each layer's weight, (outputs, inputs), and bias, (outputs,), into a contiguous `vector`, (d,).

        Raises UsageError for another length.
        """
        if vector.shape != (self.size,):
            raise UsageError(f"the vector has shape {vector.shape}; this model has {self.size} parameters")
        parts: list[Parameters] = []
        start = 0
        for layer in self.layers:
            middle, end = start + layer.outputs * layer.inputs, start + layer.size
            parts.append((vector[start:middle].reshape(layer.outputs, layer.inputs), vector[middle:end]))
            start = end
        return tuple(parts)

    def named(self, vector: Vector) -> dict[str, npt.NDArray[np.float32]]:
        """Copies of the parameters, float32, under `layer0.weight`, `layer0.bias`, ...: the form that is exported."""
        tensors: dict[str, npt.NDArray[np.float32]] = {}
        for layer, (weight, bias) in zip(self.layers, self.split(vector), strict=True):
            tensors[f"{layer.name}.weight"] = weight.astype(np.float32)
            tensors[f"{layer.name}.bias"] = bias.astype(np.float32)
        return tensors

    def probabilities(self, vector: Vector, x: npt.NDArray[np.float32]) -> Vector:
        """Probability of the positive class for rows `x`, (n, inputs), as (n,) float64 in [0, 1].

        The reference that trainers and exports are compared with; computed in float64. Raises UsageError for a shape
        that does not fit.
        """
        return sigmoid(self.logits(vector, x))

    def logits(self, vector: Vector, x: npt.NDArray[np.float32]) -> Vector:
        """What `probabilities` are the sigmoid of, (n,) float64. Raises as it does."""
        if x.ndim != 2 or x.shape[1] != self.inputs:  # noqa: PLR2004
            raise UsageError(f"the rows have shape {x.shape}; this model takes (n, {self.inputs})")
        *hidden, (weight, bias) = self.split(vector)
        values = x.astype(np.float64)
        for inner_weight, inner_bias in hidden:
            values = np.maximum(values @ inner_weight.T + inner_bias, 0.0)
        return (values @ weight.T + bias)[:, 0]


def sigmoid(logits: Vector) -> Vector:
    """1 / (1 + exp(-logits)) element by element, without overflow for large magnitudes."""
    decay = np.exp(-np.abs(logits))
    return np.where(logits >= 0.0, 1.0, decay) / (1.0 + decay)
