"""`strategies.models.DenseModel` on torch: the same parameters, differentiable."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from strategies.encoding import Vector
from strategies.models import DenseModel


class DenseNetwork:
    """A model's parameters as float32 leaves; `weights` and `biases` hold one tensor a layer."""

    def __init__(self, model: DenseModel, vector: Vector) -> None:
        """Copy `vector`, (d,) float64, rounding to float32. Raises UsageError for another length."""
        parts = model.split(vector)
        self.weights = [_leaf(weight) for weight, _ in parts]
        self.biases = [_leaf(bias) for _, bias in parts]

    @property
    def parameters(self) -> list[torch.Tensor]:
        """Every parameter in the order of the model's vector."""
        return [tensor for pair in zip(self.weights, self.biases, strict=True) for tensor in pair]

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """One logit for each row of `x`, (n, inputs) float32, as (n,) float32."""
        values = x
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            values = torch.relu(torch.addmm(bias, values, weight.T))
        return torch.addmm(self.biases[-1], values, self.weights[-1].T)[:, 0]

    def vector(self) -> Vector:
        """The parameters as one vector, (d,) float64; exact, because every float32 is a float64."""
        flat = [tensor.detach().reshape(-1) for tensor in self.parameters]
        return np.asarray(torch.cat(flat).numpy(), dtype=np.float64)


def tensor(values: npt.NDArray[np.floating]) -> torch.Tensor:
    """A float32 copy in torch's own memory.

    numpy aligns to 16 bytes and torch to 64, and matrix kernels may sum in another order at another alignment: without the
    copy, equal inputs need not give equal bits.
    """
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).clone()


def _leaf(values: Vector) -> torch.Tensor:
    return tensor(values).requires_grad_()
