"""Factors of gradients are integers small enough for exact products, and stand for the gradients of the model."""

from __future__ import annotations

import numpy as np
import pytest

from strategies.dp import backpropagation
from strategies.dp.backpropagation import (
    BLOCK_ROWS,
    EXACT_BITS,
    Backpropagation,
    IntegerWeights,
    integer_bits,
    row_logits,
)
from tests.strategies.dp.gradients_for_tests import EVEN, Case, case, plain_gradient

EXACT = 2**EXACT_BITS
MODELS = [(30, ()), (30, (64, 32)), (1, (1,)), (600, (3,)), (2, (700, 2))]


def _run(rows: Case) -> Backpropagation:
    back = Backpropagation(rows.model, rows.vector)
    back.run(rows.x, rows.y, np.ones(len(rows.y)))
    return back


@pytest.mark.parametrize("spread", [1e-30, 1.0, 1e30])
@pytest.mark.parametrize(("inputs", "hidden"), MODELS)
def test_factors_are_integers_whose_products_and_squares_are_exact(
    inputs: int, hidden: tuple[int, ...], spread: float
) -> None:
    rows = case(inputs, hidden, rows=200)
    back = _run(Case(rows.model, rows.vector, rows.x * np.float32(spread), rows.y))
    for layer in back.layers:
        for factors in (layer.inputs, layer.deltas):
            assert (factors == np.rint(factors)).all()
            assert np.abs(factors).max() <= 2**23
            assert max(sum(int(v) ** 2 for v in row) for row in factors.T[:200]) <= EXACT


@pytest.mark.parametrize("scale", [0.0, 1e-300, 1e-3, 1.0, 1e300])
@pytest.mark.parametrize(("outputs", "inputs"), [(1, 1), (64, 30), (3, 600), (700, 2)])
def test_weights_are_integers_whose_rows_and_columns_are_short(
    outputs: int, inputs: int, scale: float
) -> None:
    random = np.random.default_rng(0)
    weights = IntegerWeights(
        random.choice([-scale, scale], size=(outputs, inputs)), random.normal(size=outputs)
    )
    assert (weights.joined == np.rint(weights.joined)).all()
    for lines in (weights.joined, weights.joined.T):
        assert max(sum(int(v) ** 2 for v in line) for line in lines) <= EXACT
    assert (weights.back == weights.joined[:, :-1].T).all()


@pytest.mark.parametrize("length", [1, 2, 3, 100, 128, 129, 10**5, 2**20 + 1])
def test_integers_have_as_many_bits_as_keep_their_squares_exact(length: int) -> None:
    bits = integer_bits(length)
    assert length * 4**bits <= EXACT
    assert bits == 23 or length * 4 ** (bits + 1) > EXACT / 2


@pytest.mark.parametrize(("inputs", "hidden"), MODELS)
def test_outer_products_are_the_rows_gradients(inputs: int, hidden: tuple[int, ...]) -> None:
    rows = case(inputs, hidden, rows=20)
    back = _run(rows)
    for place in range(20):
        parts = []
        for layer in back.layers:
            product = (
                np.outer(layer.deltas[:, place], layer.inputs[:, place]) * 2.0 ** -layer.exponents[place]
            )
            parts += [product[:, :-1].ravel(), product[:, -1]]
        wanted = plain_gradient(rows.model, rows.vector, rows.x[place], rows.y[place], EVEN)
        assert np.linalg.norm(np.concatenate(parts) - wanted) < 5e-6 * np.linalg.norm(wanted)


def test_a_sure_logit_keeps_the_precision_of_its_slope() -> None:
    """1 - sigmoid(40) is 4e-18, which a difference from 1 would lose."""
    rows = case(1, (), rows=1)
    rows = Case(rows.model, np.array([40.0, 0.0]), np.ones((1, 1), dtype=np.float32), np.ones(1))
    layer = _run(rows).layers[0]
    slope = layer.deltas[0, 0] * 2.0 ** -layer.delta_exponents[0]
    assert slope == pytest.approx(-np.exp(-40.0), rel=1e-6, abs=0.0)


@pytest.mark.parametrize("hidden", [(), (64, 32), (300,), (257, 513)])
def test_a_rows_factors_are_the_same_at_every_place_and_among_any_others(hidden: tuple[int, ...]) -> None:
    """With products of float64 they are not, at widths such as 257 and 300, in some builds of matrix libraries."""
    rows = case(30, hidden, rows=BLOCK_ROWS)
    same = Case(
        rows.model, rows.vector, np.repeat(rows.x[:1], BLOCK_ROWS, axis=0), np.repeat(rows.y[:1], BLOCK_ROWS)
    )
    for layer, expected in zip(_run(same).layers, _run(rows).layers, strict=True):
        for factors, alone in ((layer.inputs, expected.inputs), (layer.deltas, expected.deltas)):
            assert (factors == alone[:, :1]).all()


@pytest.mark.parametrize("hidden", [(), (64, 32), (300,), (257, 513)])
@pytest.mark.parametrize("size", [1, 3, 64, 1000])
def test_the_size_of_the_block_changes_no_bit_of_a_rows_factors(
    monkeypatch: pytest.MonkeyPatch, hidden: tuple[int, ...], size: int
) -> None:
    rows = case(101, hidden, rows=1)
    expected = _run(rows).layers
    monkeypatch.setattr(backpropagation, "BLOCK_ROWS", size)
    for layer, usual in zip(_run(rows).layers, expected, strict=True):
        assert (layer.inputs[:, 0] == usual.inputs[:, 0]).all()
        assert (layer.deltas[:, 0] == usual.deltas[:, 0]).all()


def test_places_without_a_row_have_no_gradient() -> None:
    rows = case(rows=256)
    back = Backpropagation(rows.model, rows.vector)
    back.run(rows.x, rows.y, np.ones(256))
    back.run(rows.x[:10], rows.y[:10], np.ones(10))
    assert all(not layer.deltas[:, 10:].any() for layer in back.layers)
    assert all(layer.deltas[:, :10].any() for layer in back.layers)


@pytest.mark.parametrize("hidden", [(), (2,), (16,), (300,)])
def test_a_rows_logit_is_the_same_alone_and_among_any_number_of_others(hidden: tuple[int, ...]) -> None:
    rows, again = case(30, hidden, rows=30), np.arange(700) % 30
    alone = np.concatenate([row_logits(rows.model, rows.vector, rows.x[i : i + 1]) for i in range(30)])
    for size in (1, 2, 3, 8, 9, 255, 256, 257, 513, 700):
        found = row_logits(rows.model, rows.vector, rows.x[again[:size]])
        assert (found == alone[again[:size]]).all()
    expected = rows.model.probabilities(rows.vector, rows.x)
    np.testing.assert_allclose(1.0 / (1.0 + np.exp(-alone)), expected, atol=1e-5)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_row_with_no_number_has_a_logit_of_0_and_changes_no_other(bad: float) -> None:
    rows = case(5, (16,), rows=300)
    expected = row_logits(rows.model, rows.vector, rows.x)
    spoilt = rows.x.copy()
    spoilt[[3, 256], [0, 4]] = bad
    found = row_logits(rows.model, rows.vector, spoilt)
    assert (found[[3, 256]] == 0.0).all()
    others = np.delete(np.arange(300), [3, 256])
    assert (found[others] == expected[others]).all()
    assert np.count_nonzero(expected) == 300


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_gives_logits_of_0(bad: float) -> None:
    rows = case(5, (16,), rows=300)
    for place in (0, rows.model.size - 1):
        vector = rows.vector.copy()
        vector[place] = bad
        assert (row_logits(rows.model, vector, rows.x) == np.zeros(300)).all()
