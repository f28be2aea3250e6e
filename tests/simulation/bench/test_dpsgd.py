"""The benchmark of clipped steps measures like with like: both sides clip the same gradients and apply them."""

from __future__ import annotations

import warnings
from importlib.machinery import ModuleSpec

import numpy as np
import pytest

from simulation.bench import dpsgd
from simulation.bench.dpsgd import (
    RATE,
    Batch,
    measure,
    network_of,
    opacus_step,
    our_step,
    plain_step,
    seconds,
)
from strategies.errors import UsageError

BATCH = Batch.of(40, 12, (9, 7))


def _start() -> np.ndarray:
    # Long enough gradients that many rows are clipped.
    return BATCH.model.initial(1) * 3.0


def _moved(step_of, steps: int = 3) -> np.ndarray:
    network = network_of(BATCH.model, _start())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = step_of(BATCH, network)
        for _ in range(steps):
            step()
    return np.concatenate([each.detach().numpy().ravel() for each in network.parameters()]) - _start()


def test_our_steps_are_those_of_opacus_and_not_those_without_clipping() -> None:
    vector = _start()
    step = our_step(BATCH, vector)
    for _ in range(3):
        step()
    ours, theirs, plain = vector - _start(), _moved(opacus_step), _moved(plain_step)
    assert np.linalg.norm(ours - theirs) < 1e-4 * np.linalg.norm(theirs)
    assert np.linalg.norm(plain - theirs) > 0.1 * np.linalg.norm(theirs)
    assert 0 < np.linalg.norm(ours) <= 3 * RATE * dpsgd.CLIP


def test_each_kind_of_step_is_taken_as_often_and_has_its_seconds() -> None:
    taken = {"first": 0, "second": 0}

    def count(name: str):
        def step() -> None:
            taken[name] += 1

        return step

    found = seconds({name: count(name) for name in taken}, turns=4)
    assert taken["first"] == taken["second"] == 80
    assert min(found.values()) > 0


@pytest.mark.slow
def test_figures_are_measured_and_ratios_are_theirs_over_ours() -> None:
    result = measure(rows=16, inputs=5, hidden=(4,))
    assert result.peer is not None
    assert result.ours["parameters"] == 29
    for name in ("opacus", "non_private"):
        assert result.ratio[name] == result.peer[f"{name}_s"] / result.ours["step_s"] > 0


def test_without_opacus_the_benchmark_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> ModuleSpec | None:
        return None

    monkeypatch.setattr(dpsgd, "find_spec", absent)
    with pytest.raises(UsageError, match="Opacus, which is not installed"):
        measure(rows=16, inputs=5, hidden=())
