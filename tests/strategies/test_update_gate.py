"""The gate's norm is the same to the bit for everybody, and nothing that cannot be compared passes."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.update_gate import GateTripped, UpdateGate, l2_norm

VECTORS = hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e150, 1e150))


@given(VECTORS, st.randoms(use_true_random=False))
def test_the_norm_does_not_depend_on_the_order_of_coordinates(vector: Vector, shuffler: object) -> None:
    shuffled = vector.copy()
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]
    assert l2_norm(shuffled) == l2_norm(vector)


@given(hnp.arrays(np.float64, st.integers(1, 20), elements=st.floats(-1e10, 1e10)))
def test_the_norm_is_the_root_of_the_correctly_rounded_sum_of_rounded_squares(vector: Vector) -> None:
    exact = sum((Fraction(float(value * value)) for value in vector), start=Fraction(0))
    assert l2_norm(vector) == math.sqrt(float(exact))


def test_a_sum_in_float64_would_depend_on_the_order() -> None:
    """The control: adding squares one by one loses what `math.fsum` keeps."""
    vector = np.asarray([1e8, 1.0, 1.0, 1.0, 1.0])
    one_by_one = [float(np.add.accumulate(np.square(each))[-1]) for each in (vector, vector[::-1])]
    assert one_by_one[0] != one_by_one[1]
    assert l2_norm(vector) == l2_norm(vector[::-1])


def test_long_vectors_are_summed_up_in_blocks_and_come_to_the_same() -> None:
    vector = np.random.default_rng(1).normal(size=200_001)
    assert l2_norm(vector) == math.sqrt(math.fsum((vector * vector).tolist()))


@pytest.mark.parametrize("value", [1e200, math.inf, -math.inf])
def test_beyond_float64_a_norm_is_infinite_and_does_not_pass(value: float) -> None:
    assert l2_norm(np.asarray([value, 1.0])) == math.inf
    assert l2_norm(np.full(3, 1.2e154)) == math.inf
    with pytest.raises(GateTripped) as tripped:
        UpdateGate(update_norm=1e6).require(np.asarray([value]), 3)
    assert tripped.value.norm == math.inf


def test_what_is_no_number_does_not_pass() -> None:
    with pytest.raises(GateTripped):
        UpdateGate(update_norm=1e6).require(np.asarray([np.nan, 0.0]), 1)


def test_the_norm_of_the_gate_itself_passes_and_the_next_float_does_not() -> None:
    gate = UpdateGate(update_norm=5.0)
    gate.require(np.asarray([3.0, 4.0]), 1)
    with pytest.raises(GateTripped, match=r"mean update of round 7 has L2 norm 5, and the plan's gate is 5 "):
        gate.require(np.asarray([math.nextafter(5.0, 6.0)]), 7)


@pytest.mark.parametrize("norm", [0.0, -1.0, math.nan, math.inf])
def test_a_gate_that_is_no_norm(norm: float) -> None:
    with pytest.raises(UsageError, match="use a finite number above 0"):
        UpdateGate(update_norm=norm)
