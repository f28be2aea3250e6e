import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from strategies.encoding import vector_digest
from strategies.errors import UsageError
from strategies.models import DenseModel, Layer, sigmoid

shapes = st.builds(
    lambda inputs, hidden: DenseModel(inputs=inputs, hidden=tuple(hidden)),
    st.integers(1, 6),
    st.lists(st.integers(1, 5), max_size=3),
)


def test_layers_run_from_the_features_to_one_logit() -> None:
    assert DenseModel(inputs=3, hidden=(4, 2)).layers == (
        Layer(name="layer0", outputs=4, inputs=3),
        Layer(name="layer1", outputs=2, inputs=4),
        Layer(name="layer2", outputs=1, inputs=2),
    )
    assert DenseModel(inputs=3, hidden=()).layers == (Layer(name="layer0", outputs=1, inputs=3),)


def test_the_vector_holds_each_weight_row_by_row_and_then_its_bias() -> None:
    model = DenseModel(inputs=2, hidden=(3,))
    vector = np.arange(13.0)
    (weight0, bias0), (weight1, bias1) = model.split(vector)
    assert model.size == 13
    assert weight0.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert bias0.tolist() == [6, 7, 8]
    assert weight1.tolist() == [[9, 10, 11]]
    assert bias1.tolist() == [12]


def test_split_gives_views() -> None:
    model, vector = DenseModel(inputs=2), np.zeros(3)
    model.split(vector)[0][0][0, 1] = 5.0
    assert vector.tolist() == [0.0, 5.0, 0.0]


def test_named_tensors_are_float32_copies() -> None:
    model, vector = DenseModel(inputs=2, hidden=(3,)), np.linspace(-1.0, 1.0, 13)
    named = model.named(vector)
    assert list(named) == ["layer0.weight", "layer0.bias", "layer1.weight", "layer1.bias"]
    assert all(tensor.dtype == np.float32 and tensor.base is None for tensor in named.values())
    assert np.array_equal(
        np.concatenate([tensor.ravel() for tensor in named.values()]), vector.astype(np.float32)
    )


def test_logistic_regression_starts_at_zero() -> None:
    assert not DenseModel(inputs=5).initial(seed=3).any()


@given(shapes, st.integers(0, 2**63))
def test_initial_weights_are_bounded_and_biases_zero(model: DenseModel, seed: int) -> None:
    vector = model.initial(seed)
    assert vector.shape == (model.size,)
    for layer, (weight, bias) in zip(model.layers, model.split(vector), strict=True):
        assert np.abs(weight).max() <= math.sqrt(6.0 / layer.inputs)
        assert not bias.any()


def test_initial_weights_fill_their_range_evenly() -> None:
    model = DenseModel(inputs=100, hidden=(200,))
    weight = model.split(model.initial(seed=1))[0][0] / math.sqrt(6.0 / 100)
    assert abs(weight.mean()) < 0.02
    assert abs(weight.var() - 1.0 / 3.0) < 0.01


def test_the_initial_model_of_a_seed_never_changes() -> None:
    model = DenseModel(inputs=7, hidden=(5, 3))
    assert (
        vector_digest(model.initial(seed=1))
        == "83c0df02f636c4d36a172cacea845ff588ffafd8b0a77ca84d50bc3748075ac7"
    )
    assert vector_digest(model.initial(seed=2)) != vector_digest(model.initial(seed=1))


def test_weights_that_are_drawn_in_blocks_are_those_that_are_drawn_at_once() -> None:
    model = DenseModel(inputs=300, hidden=(400, 2))
    source = np.random.Philox(4)
    for layer, (weight, _) in zip(model.layers, model.split(model.initial(seed=4)), strict=True):
        unit = (np.asarray(source.random_raw(weight.size)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
        expected = (2.0 * unit - 1.0) * math.sqrt(6.0 / layer.inputs)
        assert np.array_equal(weight.ravel(), expected)


def test_the_initial_model_takes_no_memory_beside_itself() -> None:
    model = DenseModel(inputs=1000, hidden=(1000,))
    tracemalloc.start()
    model.initial(seed=1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 * model.size + 4_000_000


@given(shapes, st.integers(0, 1000))
def test_probabilities_agree_with_torch(model: DenseModel, seed: int) -> None:
    source = np.random.default_rng(seed)
    vector = source.normal(size=model.size)
    x = source.normal(size=(8, model.inputs)).astype(np.float32)
    values = torch.from_numpy(x).double()
    for place, (weight, bias) in enumerate(model.split(vector)):
        values = torch.relu(values) if place else values
        values = torch.nn.functional.linear(values, torch.from_numpy(weight), torch.from_numpy(bias))
    expected = torch.sigmoid(values)[:, 0].numpy()
    np.testing.assert_allclose(model.probabilities(vector, x), expected, rtol=1e-12)


def test_sigmoid_holds_at_the_extremes() -> None:
    with np.errstate(all="raise", under="ignore"):
        found = sigmoid(np.array([-1e6, -1.0, 0.0, 1.0, 1e6]))
    np.testing.assert_allclose(found, [0.0, 1 / (1 + math.e), 0.5, math.e / (1 + math.e), 1.0], rtol=1e-15)


def test_no_rows_yield_no_probabilities() -> None:
    assert DenseModel(inputs=2).probabilities(np.zeros(3), np.zeros((0, 2), np.float32)).shape == (0,)


@pytest.mark.parametrize(("inputs", "hidden"), [(0, ()), (3, (0,)), (-1, (2,))])
def test_a_layer_without_width_is_refused(inputs: int, hidden: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="widths of at least 1"):
        DenseModel(inputs=inputs, hidden=hidden)


def test_what_does_not_fit_the_model_is_refused() -> None:
    model = DenseModel(inputs=2)
    with pytest.raises(UsageError, match="this model has 3 parameters"):
        model.split(np.zeros(4))
    with pytest.raises(UsageError, match=r"this model takes \(n, 2\)"):
        model.probabilities(np.zeros(3), np.zeros((1, 3), np.float32))
    with pytest.raises(UsageError, match="the seed is -1"):
        DenseModel(inputs=2, hidden=(2,)).initial(-1)
