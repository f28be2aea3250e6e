"""The randomised Hadamard rotation: an isometry that both sides know, linear to the bit on integers, and one that spreads."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.dp.rotation import hadamard, padded, signs
from strategies.secagg.secrets import MaskSeed

Integers = npt.NDArray[np.int64]


def seed(number: int) -> MaskSeed:
    return MaskSeed(number.to_bytes(32, "little"))


def sylvester(log2: int) -> Integers:
    """The Hadamard matrix, by its definition."""
    matrix = np.ones((1, 1), dtype=np.int64)
    for _ in range(log2):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    return matrix


@given(dimension=st.integers(1, 1 << 40))
def test_a_rotated_vector_is_the_next_power_of_two_long(dimension: int) -> None:
    length = padded(dimension)
    assert length.bit_count() == 1
    assert length // 2 < dimension <= length


@pytest.mark.parametrize(("dimension", "length"), [(1, 1), (2, 2), (3, 4), (1024, 1024), (1025, 2048)])
def test_lengths_at_the_edges(dimension: int, length: int) -> None:
    assert padded(dimension) == length


@pytest.mark.parametrize("log2", range(8))
def test_the_transform_is_sylvesters_matrix(log2: int) -> None:
    vector = np.random.default_rng(log2).integers(-(2**40), 2**40, size=1 << log2)
    assert np.array_equal(hadamard(vector), sylvester(log2) @ vector)


@given(log2=st.integers(0, 10), number=st.integers(0, 2**32))
def test_twice_is_the_length_times_the_vector_exactly(log2: int, number: int) -> None:
    vector = np.random.default_rng(number).integers(-(2**40), 2**40, size=1 << log2)
    assert np.array_equal(hadamard(hadamard(vector)), vector << log2)


@given(log2=st.integers(0, 10), number=st.integers(0, 2**32))
def test_the_rotation_of_a_sum_is_the_sum_of_rotations_exactly(log2: int, number: int) -> None:
    first, second = np.random.default_rng(number).integers(-(2**40), 2**40, size=(2, 1 << log2))
    turning = signs(seed(number), 1 << log2)
    assert np.array_equal(
        hadamard((first + second) * turning), hadamard(first * turning) + hadamard(second * turning)
    )


@given(log2=st.integers(0, 10), number=st.integers(0, 2**32))
def test_norms_stay_but_for_the_root_of_the_length(log2: int, number: int) -> None:
    vector = np.random.default_rng(number).integers(-(2**20), 2**20, size=1 << log2)
    turned = hadamard(vector * signs(seed(number), 1 << log2))
    assert int((turned * turned).sum()) == int((vector * vector).sum()) << log2


def test_the_argument_is_left_alone() -> None:
    vector = np.arange(16)
    hadamard(vector)
    assert np.array_equal(vector, np.arange(16))


def test_floats_are_transformed_as_floats() -> None:
    assert hadamard(np.array([0.5, 0.25])).tolist() == [0.75, 0.25]


def test_signs_are_a_function_of_the_seed_and_a_longer_row_begins_like_a_shorter_one() -> None:
    assert np.array_equal(signs(seed(1), 100), signs(seed(1), 100))
    assert np.array_equal(signs(seed(1), 100)[:40], signs(seed(1), 40))
    assert not np.array_equal(signs(seed(1), 100), signs(seed(2), 100))


def test_signs_are_1_and_minus_1_in_equal_parts() -> None:
    drawn = signs(seed(7), 100_000)
    assert set(drawn.tolist()) == {-1, 1}
    assert abs(int(drawn.sum())) < 5 * math.sqrt(100_000)
    assert abs(int((drawn[1:] * drawn[:-1]).sum())) < 5 * math.sqrt(100_000)


@pytest.mark.parametrize("shape", ["one coordinate", "all alike", "ramp"])
def test_whatever_a_vector_looks_like_no_rotated_coordinate_stands_out(shape: str) -> None:
    length = 4096
    vector = {
        "one coordinate": np.eye(1, length)[0],
        "all alike": np.ones(length),
        "ramp": np.linspace(-1, 1, length),
    }[shape]
    vector = vector / np.linalg.norm(vector)
    turned = hadamard(vector * signs(seed(3), length)) / math.sqrt(length)
    assert np.abs(turned).max() <= math.sqrt(2 * math.log(2 * length) + 20) / math.sqrt(length)
    assert np.abs(vector).max() > 1.2 / math.sqrt(length) or shape == "all alike"


def test_without_signs_a_vector_may_stand_out_after_the_transform() -> None:
    """The control: what the signs are for."""
    length = 4096
    assert hadamard(np.full(length, length**-0.5))[0] / math.sqrt(length) == pytest.approx(1.0)
