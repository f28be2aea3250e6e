"""Rows as a model sees them: kept where they are small, and made again for the rows that are asked for where they are not.

Either way the same bits: every value is computed from its own row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import numpy.typing as npt

from client.data.table import BLOCK_ROWS, Integers, Part, blocks
from strategies.encoding import Vector
from strategies.features import FeatureSpec, Scaling

if TYPE_CHECKING:
    import torch

MOST_KEPT_BYTES: Final = 128 << 20
"""How much encoded rows may take between rounds."""


class Encoded:
    """`part` through `spec` and `scaling`: like (m, width) float32, of which `[rows]` copies some."""

    def __init__(
        self, spec: FeatureSpec, part: Part, scaling: Scaling, *, most_kept: int = MOST_KEPT_BYTES
    ) -> None:
        self.scaling = scaling
        self._spec, self._part = spec, part
        self._names = [feature.name for feature in spec.features]
        small = len(part) * spec.width * np.dtype(np.float32).itemsize <= most_kept
        self._kept = np.concatenate(list(self.by_blocks())) if small else None

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, rows: Integers) -> npt.NDArray[np.float32]:
        if self._kept is not None:
            return self._kept[rows]
        return self._encode(rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> npt.NDArray[Any]:  # noqa: ANN401, FBT001
        return np.asarray(np.concatenate(list(self.by_blocks())), dtype=dtype)

    @property
    def whole(self) -> npt.NDArray[np.float32] | None:
        """All rows, (m, width), if they are kept."""
        return self._kept

    def by_blocks(self) -> Iterator[npt.NDArray[np.float32]]:
        """All rows in order, `BLOCK_ROWS` at a time; one block without rows where there are none."""
        return (self._encode(rows) for rows in blocks(len(self._part)))

    def _encode(self, rows: Integers | slice) -> npt.NDArray[np.float32]:
        return self._spec.encode(self._part.at(rows, self._names), self.scaling)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of the rows that `inputs` copies and that have `labels`: those of these `numbers`, (m,) int64. Each counts its `importance`, (k,)."""

    inputs: Callable[[torch.Tensor], torch.Tensor]
    labels: torch.Tensor
    importance: torch.Tensor
    numbers: torch.Tensor

    def __len__(self) -> int:
        return len(self.numbers)

    def blocks(self, most: int) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        """Inputs, (k, width) float32, labels and importance, (k,) float32, at most `most` rows at a time, in order."""
        for first in range(0, len(self), most):
            part = self.numbers[first : first + most]
            yield self.inputs(part), self.labels[part], self.importance[part]


class Batches:
    """Training rows and labels for torch, in any order, a batch at a time."""

    def __init__(self, encoded: Encoded, target: Vector, importance: Vector | None = None) -> None:
        from client.training.network import tensor

        self._encoded = encoded
        self._x = None if encoded.whole is None else tensor(encoded.whole)
        self._y = tensor(target)
        self._importance = tensor(np.ones(len(target)) if importance is None else importance)

    def __len__(self) -> int:
        return len(self._y)

    def of(self, order: torch.Tensor, size: int) -> Iterator[Batch]:
        """The rows that `order` names, `size` at a time; the last batch may be short."""
        import torch

        ahead = max(1, BLOCK_ROWS // size) * size
        for first in range(0, len(order), ahead):
            rows = order[first : first + ahead]
            inputs, labels, importance = self._inputs(rows), self._y[rows], self._importance[rows]
            for start in range(0, len(rows), size):
                numbers = torch.arange(start, min(start + size, len(rows)))
                yield Batch(inputs, labels, importance, numbers)

    def _inputs(self, rows: torch.Tensor) -> Callable[[torch.Tensor], torch.Tensor]:
        """What copies inputs of `rows`, by number among them: made at once, or where they are many for the numbers that are asked for.

        Taken by number and not as a slice, so that a block lies in torch's memory as it always does (`network.tensor`).
        """
        from client.training.network import tensor

        whole = self._x
        if whole is not None:
            return lambda numbers: whole[rows[numbers]]
        if len(rows) > BLOCK_ROWS:
            return lambda numbers: tensor(self._encoded[rows[numbers].numpy()])
        made = tensor(self._encoded[rows.numpy()])
        return lambda numbers: made[numbers]
