"""Private steps at one site: DP-SGD with Opacus, of which the update leaves (Abadi et al. 2016; "tabular/2" in privacy mode local).

1. A step takes each unit with the plan's probability, clips its gradient, sums up, adds noise and divides by the plan's expected batch. No number
   of rows enters the noise or a denominator, and a step that happens to take nobody is a step like any other.
2. A unit is a row, or all rows of one customer or site: then its gradient is the mean of its rows', and is clipped as a whole. Nothing is refused
   because of rows: a unit whose gradient is not finite adds nothing.
3. Opacus finds each row's gradient, clips and sums. Sample and noise are not its own: both are AES-256-CTR keystream, with a seed for each
   step and purpose. torch's generator, which is not cryptographically secure, is neither read nor changed.
4. The clipped sum is rounded to the grid of the noise, and the norm is clipped short of the plan's by what rounding may add. The noisy sum is
   whole steps of that grid; all that follows is a function of it and of what is public.

What is released is floating point, and its guarantee is weaker than that of the discrete modes by what floating point does before rule 4. Noise
that is itself drawn in floating point can be recognised by the low bits of its sum (Mironov 2012); rule 4 leaves such an attack nothing to
read. But gradients, norms and the clipped sum are float64 sums whose last bits depend on the order and the number of rows, so that a unit may
move the sum by more than its clipped gradient (Casacuberta et al. 2022): by about 2^-53 of the sum each time, which is neither proved nor
charged for. `strategies.dp.clipping`, which the other modes use, has no such gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from typing import Final, Protocol

import numpy as np
import numpy.typing as npt
import torch
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from torch import nn

from client.training.pace import Pace, unhurried
from protos.plan_training import ClassWeights, PrivateSteps
from strategies.dp.mechanisms import LOCAL_DEVIATION_STEPS as DEVIATION_STEPS
from strategies.dp.noise import NoiseSeed, discrete_gaussian
from strategies.dp.poisson import sampled
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.models import DenseModel
from strategies.secagg.labels import prefixed
from strategies.secagg.secrets import SECRET_BYTES, MaskSeed

try:
    from opacus import GradSampleModule  # type: ignore[import-untyped]
    from opacus.optimizers import DPOptimizer  # type: ignore[import-untyped]
except ImportError as missing:
    raise UsageError(
        "training with dp-sgd (privacy mode local) needs Opacus, which is not installed here; run: pip install 'covenant-fl[local]'"
    ) from missing

BLOCK_NUMBERS: Final = 1 << 22
"""How many gradient coordinates are held at a time, of rows and again of units (32 MiB each), unless one gradient alone is longer."""

_SUITE: Final = b"covenant/dp-sgd/1"
_SAMPLE, _NOISE = "sample", "noise"

Integers = npt.NDArray[np.int64]


class Inputs(Protocol):
    """Rows as the model sees them, (n, width) float32."""

    def __getitem__(self, rows: Integers, /) -> npt.NDArray[np.float32]:
        """Some of them, copied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalRule:
    """A plan's `training` constants, and its noise: standard deviation over clipping norm, above 0."""

    training: PrivateSteps
    noise_multiplier: float

    @property
    def grid(self) -> float:
        """One step of the grid of sums and noise, in units of the gradient."""
        return self.noise_multiplier * self.training.clip / DEVIATION_STEPS

    def clip(self, dimension: int) -> float:
        """The norm that leaves room for rounding `dimension` coordinates of a sum: its sensitivity is the plan's norm, not a step more.

        With and without one unit, each coordinate's levels differ by at most 1 more than the exact values do: the root of d steps together.
        """
        return self.training.clip - math.sqrt(dimension) * self.grid


def private_steps(
    rule: LocalRule,
    model: DenseModel,
    vector: Vector,
    inputs: Inputs,
    target: Vector,
    unit: Integers,
    units: int,
    *,
    seed: MaskSeed,
    threads: int,
    importance: Vector | None = None,
    pace: Pace = unhurried,
) -> Vector:
    """Local minus global, (d,) finite float64, after `rule.training.local_steps` noisy steps from `vector`, (d,) float64.

    Row i has features inputs[i], (n, width) float32, label target[i], 0 or 1, and belongs to unit unit[i], from 0 to `units` - 1; it counts importance[i] times
    what its class does, if `importance`, (n,), is given. A pure function
    of its arguments on one machine; `seed` is for one call only, and whoever has it can take the noise off again. `threads` is torch's,
    for the whole process. `pace` hears of each step, and may raise. Raises UsageError where `vector` does not fit the model, never because of rows.
    """
    torch.set_num_threads(threads)
    network = _network(model, vector)
    rows = _Rows(
        GradSampleModule(network, loss_reduction="sum"),
        inputs,
        target,
        rule.training.class_weights,
        importance,
    )
    optimiser = SecureOptimiser(rule, network, _noise_seeds(seed))
    steps = rule.training.local_steps
    for step in range(steps):
        pace(step, steps)
        taken = sampled(rule.training.sampling_rate, units, MaskSeed(_derived(seed, _SAMPLE, step)))
        blocks = list(_blocks(unit, taken, most_units=_at_a_time(model.size)))
        for block in blocks:
            optimiser.zero_grad()
            rows.find_gradients(block)
            optimiser.signal_skip_step(do_skip=block is not blocks[-1])
            optimiser.step()
    pace(steps, steps)
    with torch.no_grad():
        ended = torch.cat([parameter.reshape(-1) for parameter in network.parameters()]).numpy()
    # A function of noisy sums, so that it tells nothing more of rows: what has left the range of float64 comes back to it.
    with np.errstate(all="ignore"):
        return np.nan_to_num(ended - vector)


class SecureOptimiser(DPOptimizer):  # type: ignore[misc]
    """Opacus' optimiser over plain SGD, with noise on a grid, from seeds: one for each step, for all parameters together."""

    def __init__(self, rule: LocalRule, network: nn.Module, seeds: Iterator[NoiseSeed]) -> None:
        parameters = list(network.parameters())
        self._dimension = sum(parameter.numel() for parameter in parameters)
        self._grid = rule.grid
        self._seeds = seeds
        super().__init__(
            torch.optim.SGD(parameters, lr=rule.training.learning_rate),
            noise_multiplier=rule.noise_multiplier,
            max_grad_norm=rule.clip(self._dimension),
            expected_batch_size=rule.training.expected_batch,
            loss_reduction="mean",
        )

    def add_noise(self) -> None:
        """Set each parameter's gradient to the clipped sum and noise, both in whole steps of the grid."""
        levels = discrete_gaussian(DEVIATION_STEPS**2, self._dimension, next(self._seeds))
        noise = torch.from_numpy(levels.astype(np.float64))
        first = 0
        for parameter in self.params:
            part = noise[first : first + parameter.numel()].view_as(parameter)
            parameter.grad = (torch.round(parameter.summed_grad / self._grid) + part) * self._grid
            first += parameter.numel()


@dataclass(frozen=True, slots=True)
class _Block:
    """Rows of some units, all of each: `rows`, (k,), the unit of each, `place`, (k,), from 0, and how many rows each unit has, `sizes`."""

    rows: Integers
    place: Integers
    sizes: Integers


def _blocks(unit: Integers, taken: npt.NDArray[np.bool_], *, most_units: int) -> Iterator[_Block]:
    """The units that were taken, at most `most_units` at a time; one block without any where nobody was."""
    rows = np.flatnonzero(taken[unit])
    rows = rows[np.argsort(unit[rows], kind="stable")]
    _, place, sizes = np.unique(unit[rows], return_inverse=True, return_counts=True)
    for first in range(0, max(len(sizes), 1), most_units):
        low, high = np.searchsorted(place, (first, first + most_units))
        yield _Block(rows[low:high], place[low:high] - first, sizes[first : first + most_units])


@dataclass(frozen=True, slots=True)
class _Rows:
    """A site's rows, and the network with Opacus' hooks that finds their gradients."""

    network: GradSampleModule
    inputs: Inputs
    target: Vector
    weights: ClassWeights
    importance: Vector | None

    def find_gradients(self, block: _Block) -> None:
        """Set `grad_sample` of each parameter to the units' gradients, (units, *shape): means of their rows', 0 where not finite."""
        parameters = list(self.network.parameters())
        units = len(block.sizes)
        sums = [torch.zeros((units, *each.shape), dtype=torch.float64) for each in parameters]
        place = torch.from_numpy(block.place)
        most = _at_a_time(sum(each.numel() for each in parameters))
        for first in range(0, len(block.rows), most):
            self._backward(block.rows[first : first + most])
            for total, parameter in zip(sums, parameters, strict=True):
                total.index_add_(0, place[first : first + most], parameter.grad_sample)
                parameter.grad_sample = parameter.grad = None
        finite = torch.ones(units, dtype=torch.bool)
        for total in sums:
            by_unit = total.view(units, math.prod(total.shape[1:]))
            by_unit /= torch.from_numpy(block.sizes)[:, None]
            finite &= by_unit.isfinite().all(dim=1)
        for total, parameter in zip(sums, parameters, strict=True):
            total[~finite] = 0.0
            parameter.grad_sample = total

    def _backward(self, rows: Integers) -> None:
        """Leave each row's gradient of the class-weighted cross-entropy in `grad_sample`."""
        # Through .to, into torch's own memory: equal inputs need not give equal bits at another alignment (`network.tensor`).
        x = torch.from_numpy(self.inputs[rows]).to(torch.float64)
        y = torch.from_numpy(np.where(self.target[rows] > 0.5, 1.0, 0.0))  # noqa: PLR2004
        importance = torch.where(y > 0, self.weights.positive, self.weights.negative).to(torch.float64)
        if self.importance is not None:
            importance = importance * torch.from_numpy(self.importance[rows])
        # torch warns of backward hooks behind which nothing wants a gradient.
        logits = self.network(x.requires_grad_())[:, 0]
        loss = nn.functional.binary_cross_entropy_with_logits(logits, y, weight=importance, reduction="sum")
        loss.backward()  # type: ignore[no-untyped-call]


def _network(model: DenseModel, vector: Vector) -> nn.Sequential:
    """`model` at `vector` in float64, of layers that Opacus knows; its parameters are in the vector's order."""
    layers: list[nn.Module] = []
    for weight, bias in model.split(vector):
        # On "meta", because a layer that has memory is initialised from torch's global random state.
        layer = nn.Linear(weight.shape[1], weight.shape[0], device="meta")
        layer.weight = nn.Parameter(torch.tensor(weight, dtype=torch.float64))
        layer.bias = nn.Parameter(torch.tensor(bias, dtype=torch.float64))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def _at_a_time(dimension: int) -> int:
    """How many gradients of `dimension` coordinates are held at a time: at least one."""
    return max(1, BLOCK_NUMBERS // dimension)


def _noise_seeds(seed: MaskSeed) -> Iterator[NoiseSeed]:
    """The seed of each step's noise."""
    return (NoiseSeed(_derived(seed, _NOISE, step)) for step in count())


def _derived(seed: MaskSeed, purpose: str, step: int) -> bytes:
    """32 bytes for one purpose in one step."""
    label = b"".join(prefixed(part) for part in (_SUITE, purpose.encode(), str(step).encode()))
    return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=label).derive(seed.reveal())
