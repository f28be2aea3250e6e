"""`covenant bench dpsgd`: seconds of one step with clipped gradients, beside Opacus and beside a step without privacy.

All three take the same steps on the same model and batch: gradients of the cross-entropy, clipped row by row (not in the step without
privacy), summed up and applied. None adds noise, which `covenant bench noise` measures. They take turns in one process of their own, with
one thread for each library: `python -m simulation.bench.dpsgd ROWS INPUTS HIDDEN...` prints JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from statistics import median
from typing import TYPE_CHECKING, Final

import numpy as np
import numpy.typing as npt

from protos.egress import child_environment
from simulation.bench.report import BenchResult, Figures
from strategies.dp.clipping import clipped_sum, gradient_value
from strategies.encoding import Vector
from strategies.errors import CovenantError, UsageError
from strategies.models import DenseModel

if TYPE_CHECKING:
    from torch import nn

CLIP: Final = 1.0
RATE: Final = 0.05
_TURNS: Final = 15
_STEPS: Final = 20  # of one kind in a row, as in training
_TIMEOUT_S: Final = 1800.0
_THREADS: Final = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")

Step = Callable[[], None]


@dataclass(frozen=True, slots=True)
class Weights:
    """What rows of either class count."""

    negative: float = 1.0
    positive: float = 1.0


@dataclass(frozen=True, slots=True)
class Batch:
    """A model and the rows of one step, made up."""

    model: DenseModel
    x: npt.NDArray[np.float32]
    y: Vector

    @classmethod
    def of(cls, rows: int, inputs: int, hidden: Sequence[int]) -> Batch:
        """Normal features; three rows in ten are positive."""
        random = np.random.default_rng(0)
        x = random.normal(size=(rows, inputs)).astype(np.float32)
        model = DenseModel(inputs=inputs, hidden=tuple(hidden))
        return cls(model, x, (random.random(rows) < 0.3).astype(np.float64))  # noqa: PLR2004


def measure(*, rows: int, inputs: int, hidden: Sequence[int]) -> BenchResult:
    """Seconds a step, and how many times as long the others take. Raises UsageError if Opacus is not installed."""
    if find_spec("opacus") is None:
        raise UsageError(
            "the benchmark needs Opacus, which is not installed; `pip install 'covenant-fl[local]'`"
        )
    found = _in_a_process_of_its_own(rows, inputs, hidden)
    peer = {"opacus_s": found["opacus_s"], "non_private_s": found["non_private_s"]}
    ours = {
        "step_s": found["step_s"],
        "rows": float(rows),
        "parameters": float(DenseModel(inputs=inputs, hidden=tuple(hidden)).size),
    }
    ratio = {name.removesuffix("_s"): seconds / ours["step_s"] for name, seconds in peer.items()}
    return BenchResult(bench="dpsgd", ours=ours, peer=peer, ratio=ratio, peer_name="PyTorch")


def _in_a_process_of_its_own(rows: int, inputs: int, hidden: Sequence[int]) -> Figures:
    numbers = [str(number) for number in (rows, inputs, *hidden)]
    done = subprocess.run(
        [sys.executable, "-m", "simulation.bench.dpsgd", *numbers],
        # Libraries read their number of threads when they are loaded.
        env=child_environment() | dict.fromkeys(_THREADS, "1"),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if done.returncode:
        raise CovenantError(f"the steps could not be measured: {done.stderr[-800:]}")
    figures: Figures = json.loads(done.stdout.splitlines()[-1])
    return figures


def seconds(steps: dict[str, Step], *, turns: int) -> dict[str, float]:
    """Seconds of each kind of step: the median over turns of the fastest of some steps in a row.

    The fastest, because others on the machine slow down what asks for much memory most, which would flatter this project.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(turns):
        for name, step in steps.items():
            taken[name].append(min(_timed(step) for _ in range(_STEPS)))
    return {name: median(each) for name, each in taken.items()}


def _timed(step: Step) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


# --- the steps; each changes a model of its own ------------------------------------------------------------------------


def our_step(batch: Batch, vector: Vector) -> Step:
    """Clipped sums in integers, applied to `vector`, (d,), in place."""
    weights = Weights()

    def step() -> None:
        total = clipped_sum(batch.model, vector, batch.x, batch.y, clip=CLIP, weights=weights)
        np.subtract(vector, gradient_value(total, CLIP) * (RATE / len(batch.y)), out=vector)

    return step


def plain_step(batch: Batch, network: nn.Module) -> Step:
    """Stochastic gradient descent in PyTorch, without clipping."""
    import torch

    return _torch_step(batch, network, torch.optim.SGD(network.parameters(), lr=RATE))


def opacus_step(batch: Batch, network: nn.Module) -> Step:
    """DP-SGD with Opacus' hooks and optimiser, its noise multiplier 0."""
    import torch
    from opacus import GradSampleModule  # type: ignore[import-untyped]
    from opacus.optimizers import DPOptimizer  # type: ignore[import-untyped]

    private = GradSampleModule(network)
    optimizer = DPOptimizer(
        torch.optim.SGD(private.parameters(), lr=RATE),
        noise_multiplier=0.0,
        max_grad_norm=CLIP,
        expected_batch_size=len(batch.y),
    )
    return _torch_step(batch, private, optimizer)


def _torch_step(batch: Batch, network: nn.Module, optimizer: object) -> Step:
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    x, y = torch.from_numpy(batch.x), torch.from_numpy(batch.y).float()

    def step() -> None:
        optimizer.zero_grad()  # type: ignore[attr-defined]
        binary_cross_entropy_with_logits(network(x)[:, 0], y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()  # type: ignore[attr-defined]

    return step


def network_of(model: DenseModel, vector: Vector) -> nn.Module:
    """The PyTorch module of `model` at `vector`, float32."""
    import torch
    from torch import nn

    layers: list[nn.Module] = []
    for place, (weight, bias) in enumerate(model.split(vector)):
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        layers += [nn.ReLU(), linear] if place else [linear]
    return nn.Sequential(*layers)


def _main(rows: int, inputs: int, *hidden: int) -> None:
    import torch

    warnings.simplefilter("ignore")  # Opacus warns of its own hooks
    torch.set_num_threads(1)
    batch = Batch.of(rows, inputs, hidden)
    start = batch.model.initial(0)
    steps = {
        "step_s": our_step(batch, start.copy()),
        "opacus_s": opacus_step(batch, network_of(batch.model, start)),
        "non_private_s": plain_step(batch, network_of(batch.model, start)),
    }
    sys.stdout.write("\n" + json.dumps(seconds(steps, turns=_TURNS)) + "\n")


if __name__ == "__main__":
    _main(*(int(argument) for argument in sys.argv[1:]))
