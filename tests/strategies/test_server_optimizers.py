import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.encoding import Vector, vector_bytes, vector_digest
from strategies.errors import CovenantError, Refused, UsageError
from strategies.server_optimizers import FedAdam, FedAvg, FedAvgM, FedYogi, OptimizerState, ServerOptimizer

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "server_optimizers.json").read_text("utf-8"))
KINDS: dict[str, Callable[..., ServerOptimizer]] = {
    "fedavg": FedAvg,
    "fedavgm": FedAvgM,
    "fedadam": FedAdam,
    "fedyogi": FedYogi,
}
ADAPTIVE = {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.99, "tau": 0.001}
ALL = [FedAvg(), FedAvgM(learning_rate=1.0, momentum=0.9), FedAdam(**ADAPTIVE), FedYogi(**ADAPTIVE)]


def golden_inputs() -> tuple[Vector, list[Vector]]:
    """The first model and the updates, as `provenance` in the vectors file describes them."""
    size, steps = VECTORS["size"], VECTORS["steps"]
    words = np.random.Philox(VECTORS["seed"]).random_raw((steps + 1) * size)
    values = (words >> np.uint64(11)).astype(np.float64) * 2.0**-52 - 1.0
    first, *updates = values.reshape(steps + 1, size)
    return first, [0.125 * update for update in updates]


def scalar_reference(
    kind: str, p: dict[str, float], model: list[float], updates: list[Vector]
) -> list[float]:
    """The papers' formulas, one Python float at a time, written apart from the implementation."""
    first = [0.0] * len(model)
    second = [p.get("tau", 0.0) ** 2] * len(model)
    for update in updates:
        for i, delta in enumerate(update.tolist()):
            match kind:
                case "fedavg":
                    model[i] += p["learning_rate"] * delta
                case "fedavgm":
                    first[i] = p["momentum"] * first[i] + delta
                    model[i] += p["learning_rate"] * first[i]
                case _:
                    square = delta * delta
                    first[i] = p["beta1"] * first[i] + (1.0 - p["beta1"]) * delta
                    if kind == "fedadam":
                        second[i] = p["beta2"] * second[i] + (1.0 - p["beta2"]) * square
                    else:
                        above = (second[i] > square) - (second[i] < square)
                        second[i] = second[i] - (1.0 - p["beta2"]) * square * above
                    model[i] += p["learning_rate"] * first[i] / (math.sqrt(second[i]) + p["tau"])
    return model


@pytest.mark.parametrize("case", VECTORS["cases"], ids=lambda case: case["kind"])
def test_fifty_steps_give_the_golden_model(case: dict[str, Any]) -> None:
    optimizer = KINDS[case["kind"]](**case["parameters"])
    model, updates = golden_inputs()
    reference = scalar_reference(case["kind"], case["parameters"], model.tolist(), updates)
    state = optimizer.initial(len(model))
    for update in updates:
        model, state = optimizer.step(model, update, state)
    assert model.tolist() == reference
    assert vector_digest(model) == case["model_digest"]
    assert state.digest == case["state_digest"]
    assert state.step == VECTORS["steps"]


def test_every_optimiser_has_a_golden_vector() -> None:
    assert [case["kind"] for case in VECTORS["cases"]] == list(KINDS)


@pytest.mark.parametrize("optimizer", ALL, ids=lambda item: type(item).__name__)
class TestEveryServerOptimizer:
    def test_state_survives_its_bytes(self, optimizer: ServerOptimizer) -> None:
        model, updates = golden_inputs()
        _, state = optimizer.step(model, updates[0], optimizer.initial(len(model)))
        back = OptimizerState.from_bytes(state.to_bytes(), len(model))
        assert back.digest == state.digest
        assert back.to_bytes() == state.to_bytes()

    def test_going_on_from_bytes_is_going_on(self, optimizer: ServerOptimizer) -> None:
        model, updates = golden_inputs()
        state = optimizer.initial(len(model))
        for update in updates[:3]:
            model, state = optimizer.step(model, update, state)
        resumed = OptimizerState.from_bytes(state.to_bytes(), len(model))
        straight, through = (optimizer.step(model, updates[3], item) for item in (state, resumed))
        assert vector_digest(straight[0]) == vector_digest(through[0])
        assert straight[1].digest == through[1].digest

    def test_arguments_stay_as_they_are(self, optimizer: ServerOptimizer) -> None:
        model, updates = golden_inputs()
        state = optimizer.initial(len(model))
        before = (vector_bytes(model), vector_bytes(updates[0]), state.digest)
        optimizer.step(model, updates[0], state)
        assert (vector_bytes(model), vector_bytes(updates[0]), state.digest) == before

    def test_the_next_model_may_take_the_place_of_the_update(self, optimizer: ServerOptimizer) -> None:
        model, updates = golden_inputs()
        expected, state = optimizer.step(model, updates[0], optimizer.initial(len(model)))
        room, before = updates[0].copy(), vector_bytes(model)
        following, same = optimizer.step(model, room, optimizer.initial(len(model)), into=room)
        assert following is room
        assert vector_bytes(following) == vector_bytes(expected)
        assert same.digest == state.digest
        assert vector_bytes(model) == before
        with pytest.raises(UsageError, match="have shapes"):
            optimizer.step(model, updates[0], optimizer.initial(len(model)), into=room[1:])

    def test_no_update_leaves_a_fresh_model(self, optimizer: ServerOptimizer) -> None:
        model, state = optimizer.step(np.arange(3.0), np.zeros(3), optimizer.initial(3))
        assert model.tolist() == [0.0, 1.0, 2.0]
        assert state.step == 1

    def test_what_does_not_fit_together_is_refused(self, optimizer: ServerOptimizer) -> None:
        state = optimizer.initial(2)
        with pytest.raises(UsageError, match="have shapes"):
            optimizer.step(np.zeros(2), np.zeros(3), state)
        with pytest.raises(UsageError, match="slots; this optimiser keeps"):
            optimizer.step(np.zeros(2), np.zeros(2), OptimizerState(0, (*state.slots, np.zeros(2))))

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    def test_values_that_are_not_finite_are_refused(self, optimizer: ServerOptimizer, value: float) -> None:
        with pytest.raises(Refused, match="every value must be finite"):
            optimizer.step(np.zeros(1), np.array([value]), optimizer.initial(1))
        with pytest.raises(Refused, match="every value must be finite"):
            optimizer.step(np.array([value]), np.zeros(1), optimizer.initial(1))

    def test_a_step_out_of_the_finite_numbers_is_refused(self, optimizer: ServerOptimizer) -> None:
        edge = np.array([1.7e308])
        with pytest.raises(CovenantError, match="use a smaller learning rate"):
            optimizer.step(edge, edge, optimizer.initial(1))


@given(st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30))
def test_second_moments_never_turn_negative(updates: list[float]) -> None:
    for optimizer in (FedAdam(**ADAPTIVE), FedYogi(**ADAPTIVE)):
        model, state = np.zeros(1), optimizer.initial(1)
        for update in updates:
            model, state = optimizer.step(model, np.array([update]), state)
            assert state.slots[1][0] >= 0.0


def test_fedavg_at_rate_one_takes_the_mean_model() -> None:
    model, _ = FedAvg().step(np.array([1.0, 2.0]), np.array([0.5, -2.0]), FedAvg().initial(2))
    assert model.tolist() == [1.5, 0.0]


def test_the_digest_tells_step_and_slots_apart() -> None:
    states = [
        OptimizerState(0, ()),
        OptimizerState(1, ()),
        OptimizerState(0, (np.zeros(2),)),
        OptimizerState(0, (np.zeros(1), np.zeros(1))),
    ]
    assert len({state.digest for state in states}) == len(states)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: data + b"\0", lambda data: data[:10]]
)
def test_state_bytes_of_another_length_are_refused(change: Callable[[bytes], bytes]) -> None:
    data = FedAdam(**ADAPTIVE).initial(3).to_bytes()
    with pytest.raises(Refused, match="the optimiser state has"):
        OptimizerState.from_bytes(change(data), 3)


def test_state_bytes_for_another_model_or_not_finite_are_refused() -> None:
    with pytest.raises(Refused, match="2 slots of 4 values"):
        OptimizerState.from_bytes(FedAdam(**ADAPTIVE).initial(3).to_bytes(), 4)
    with pytest.raises(Refused, match="must be finite"):
        OptimizerState.from_bytes(OptimizerState(0, (np.array([np.nan]),)).to_bytes(), 1)
    with pytest.raises(UsageError, match="0 parameters"):
        OptimizerState.from_bytes(OptimizerState(0, ()).to_bytes(), 0)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: FedAvg(learning_rate=0.0), "learning_rate"),
        (lambda: FedAvg(learning_rate=math.nan), "learning_rate"),
        (lambda: FedAvgM(learning_rate=1.0, momentum=1.0), "momentum"),
        (lambda: FedAvgM(learning_rate=1.0, momentum=-0.1), "momentum"),
        (lambda: FedAdam(**{**ADAPTIVE, "beta1": 1.0}), "beta1"),
        (lambda: FedYogi(**{**ADAPTIVE, "beta2": math.nan}), "beta2"),
        (lambda: FedYogi(**{**ADAPTIVE, "tau": 0.0}), "tau"),
        (lambda: FedAdam(**{**ADAPTIVE, "learning_rate": math.inf}), "learning_rate"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(make: Callable[[], object], name: str) -> None:
    with pytest.raises(UsageError, match=f"^{name} of the server optimiser is"):
        make()
