"""What one unit can move in what a stage opens, by adversarial search; and that noise is added where the release says, as much as it says."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.dp.clipping import FRACTION_BITS
from strategies.dp.evaluation_cells import EvaluationCells
from strategies.dp.events import Mechanism, Release
from strategies.dp.mechanisms import (
    STEPS_PER_ROOT,
    GradientGrid,
    MomentCells,
    NoisySum,
    centre_variance,
    site_variance,
)
from strategies.dp.noise import NoiseSeed
from strategies.dp.rotation import hadamard, signs
from strategies.secagg.masks import DRAW_BITS, uniform_draws
from strategies.secagg.secrets import MaskSeed
from tests.strategies.dp.releases_for_tests import discrete, silent

Integers = npt.NDArray[np.int64]
WHOLE = 1 << FRACTION_BITS
ROTATIONS = pytest.mark.parametrize("rotated", [False, True])
ROUNDED = 1 + 4 * 2.0**-52
"""What the last places of two roots may differ by."""
numbers = st.integers(0, 2**32)


def seed(number: int) -> MaskSeed:
    return MaskSeed(number.to_bytes(32, "little"))


def never() -> NoiseSeed:
    raise AssertionError("a seed was drawn for noise that nobody adds")


def norm(vector: Integers) -> float:
    """Of integers of any size."""
    return math.sqrt(sum(int(each) ** 2 for each in vector))


def part_of_a_unit(direction: npt.NDArray[np.float64]) -> Integers:
    """The longest integer vector in `direction` that a clipped unit may add: its norm is at most 2^36, exactly."""
    length = np.linalg.norm(direction) or 1.0
    part = np.trunc(direction / length * (WHOLE * (1 - 1e-12))).astype(np.int64)
    assert sum(int(each) ** 2 for each in part) <= WHOLE**2
    return part


# --- gradient sums: sensitivity ---------------------------------------------------------------------------------------


def directions(random: np.random.Generator, kind: str, size: int) -> npt.NDArray[np.float64]:
    match kind:
        case "any":
            return random.normal(size=size)
        case "all alike":
            return np.ones(size)
        case "signs":
            return random.choice([-1.0, 1.0], size=size)
        case "one coordinate":
            return np.eye(1, size, k=int(random.integers(size)))[0]
        case _:
            return random.normal(size=size) * 10.0 ** random.uniform(-12, 0, size=size)


kinds = st.sampled_from(["any", "all alike", "signs", "one coordinate", "uneven"])


def moved(
    grid: GradientGrid, exact: Integers, part: Integers, dither: MaskSeed, turning: MaskSeed, expected: int
) -> float:
    """How far one unit's part moves what is masked."""
    release = replace(discrete(1.0, dimension=grid.dimension), mechanism=Mechanism.CENTRAL)
    summed = NoisySum(release=release, cohort=3, levels=grid.levels(expected))
    there, here = (
        summed.at_site(grid.rounded(each, dither, turning, expected), never) for each in (exact + part, exact)
    )
    return norm(there - here)


@ROTATIONS
@settings(max_examples=250, deadline=None)
@given(
    parameters=st.integers(1, 70),
    number=numbers,
    kind=kinds,
    size=st.sampled_from([0, 6, 20, 36, 44, 61]),
    expected=st.sampled_from([1, 3, 256, 65536]),
)
def test_no_unit_moves_a_rounded_sum_by_more_than_the_sensitivity(
    rotated: bool, parameters: int, number: int, kind: str, size: int, expected: int
) -> None:
    grid, random = GradientGrid(parameters=parameters, rotated=rotated), np.random.default_rng(number)
    exact = random.integers(-(1 << size), (1 << size) + 1, size=parameters)
    part = part_of_a_unit(directions(random, kind, parameters))
    assert moved(grid, exact, part, seed(number), seed(number + 1), expected) <= grid.sensitivity


def below_edges(grid: GradientGrid, dither: MaskSeed, random: np.random.Generator) -> Integers:
    """A sum of which every coordinate, dither added, is the last integer below a step of the grid."""
    shift = FRACTION_BITS - int(math.log2(grid.steps))
    drawn = uniform_draws(dither, grid.dimension).astype(np.int64) >> (DRAW_BITS - shift)
    steps: Integers = random.integers(-5, 5, size=grid.dimension) << shift
    return steps - drawn - 1


@settings(max_examples=150, deadline=None)
@given(parameters=st.integers(1, 70), number=numbers, kind=kinds)
def test_on_rounding_edges_too_no_unit_moves_a_sum_by_more(parameters: int, number: int, kind: str) -> None:
    grid, random = GradientGrid(parameters=parameters), np.random.default_rng(number)
    part = part_of_a_unit(np.abs(directions(random, kind, parameters)))
    exact = below_edges(grid, seed(number), random)
    assert moved(grid, exact, part, seed(number), seed(0), 256) <= grid.sensitivity


@pytest.mark.parametrize("parameters", [4, 64, 1000])
def test_the_sensitivity_is_no_larger_than_it_must_be(parameters: int) -> None:
    """A unit whose every coordinate is one above a whole number of steps, on edges: nearly a root of d more than a clipping norm."""
    grid, random = GradientGrid(parameters=parameters), np.random.default_rng(1)
    step = WHOLE // grid.steps
    near = random.integers(-100, 100, size=parameters) + int(grid.steps / math.sqrt(parameters))
    part = near * step + 1
    part[0] = (math.isqrt(WHOLE**2 - sum(int(each) ** 2 for each in part[1:])) - 1) // step * step + 1
    assert sum(int(each) ** 2 for each in part) <= WHOLE**2
    far = moved(grid, below_edges(grid, seed(1), random), part, seed(1), seed(0), 256)
    assert far <= grid.sensitivity
    assert far > grid.steps + 0.5 * math.sqrt(parameters)


@settings(max_examples=150, deadline=None)
@given(log2=st.integers(0, 7), number=numbers, expected=st.sampled_from([1, 256]), tie=st.booleans())
def test_a_rotated_sum_on_rounding_edges_moves_by_no_more(
    log2: int, number: int, expected: int, tie: bool
) -> None:
    """Sums found by rotating steps back, so that floats and both floors sit on their edges, and a unit that pushes them over."""
    grid, random = GradientGrid(parameters=1 << log2, rotated=True), np.random.default_rng(number)
    turning, dither = seed(number), seed(number + 1)
    drawn = uniform_draws(dither, grid.dimension) * 2.0**-DRAW_BITS
    wanted = (random.integers(-3, 3, size=grid.dimension) - drawn) * WHOLE / grid.steps
    turns = signs(turning, grid.dimension)
    exact = np.floor(hadamard(wanted) / math.sqrt(grid.dimension) * turns).astype(np.int64)
    exact = (exact >> 6 << 6) + (63 if tie else 0)
    part = part_of_a_unit(hadamard(np.ones(grid.dimension)) * turns + 1e-9 * random.normal(size=1 << log2))
    for each in (part, -part, np.ones_like(part)):
        assert moved(grid, exact, each, dither, turning, expected) <= grid.sensitivity


@pytest.mark.parametrize("parameters", [1 << 14, 1 << 16, 40_000])
@pytest.mark.parametrize("units", [1 << 22, 1 << 26])
def test_however_many_units_pull_one_way_a_rotation_does_not_wrap(parameters: int, units: int) -> None:
    """As many as a clipped sum holds, all along the one direction that a rotation gathers in one coordinate."""
    grid, turning = GradientGrid(parameters=parameters, rotated=True), seed(3)
    part = part_of_a_unit(signs(turning, grid.dimension)[:parameters].astype(np.float64))
    for count in (units // 4, units // 2 - 1, units // 2, units - 1):
        assert moved(grid, part * count, part, seed(4), turning, 65536) <= grid.sensitivity


@ROTATIONS
@pytest.mark.parametrize("parameters", [1, 3, 64, 1000, 1 << 20])
def test_rounding_costs_less_than_a_ten_thousandth_of_the_sensitivity(parameters: int, rotated: bool) -> None:
    grid = GradientGrid(parameters=parameters, rotated=rotated)
    assert grid.steps < grid.sensitivity < 1.0001 * grid.steps
    assert grid.steps.bit_count() == 1
    assert (
        STEPS_PER_ROOT * math.sqrt(grid.dimension)
        <= grid.steps
        < 2 * STEPS_PER_ROOT * math.sqrt(grid.dimension)
    )


# --- gradient sums: what they say -------------------------------------------------------------------------------------


@ROTATIONS
@settings(max_examples=60, deadline=None)
@given(parameters=st.integers(1, 70), number=numbers, units=st.integers(1, 300))
def test_the_value_of_a_rounded_sum_is_the_sum_within_a_step_a_coordinate(
    rotated: bool, parameters: int, number: int, units: int
) -> None:
    grid, random = GradientGrid(parameters=parameters, rotated=rotated), np.random.default_rng(number)
    exact = sum(part_of_a_unit(random.normal(size=parameters)) for _ in range(units))
    assert isinstance(exact, np.ndarray)
    value = grid.value(grid.rounded(exact, seed(number), seed(1), max(units, 8)), seed(1))
    error = value - exact / WHOLE
    slack = math.sqrt(parameters) * 2.0**-29 if rotated else 0.0
    assert np.linalg.norm(error) <= math.sqrt(grid.dimension) / grid.steps + slack + 1e-9
    if not rotated:
        assert np.abs(error).max() <= 1.0 / grid.steps


@ROTATIONS
def test_rounding_is_right_on_average(rotated: bool) -> None:
    """Over dithers. Without one the floor would be half a step too low: that is fifty times what is allowed here."""
    grid = GradientGrid(parameters=6, rotated=rotated)
    exact = np.random.default_rng(2).integers(-WHOLE, WHOLE, size=6)
    errors = [
        grid.value(grid.rounded(exact, seed(number), seed(9), 8), seed(9)) - exact / WHOLE
        for number in range(4000)
    ]
    assert np.abs(np.mean(errors, axis=0)).max() * grid.steps < 0.03
    assert np.std(errors) * grid.steps > 0.2


def test_the_dither_has_every_value_once_so_that_the_average_is_exact() -> None:
    """By hand: of all the draws, as many round a sum up as its fraction says."""
    shift = FRACTION_BITS - int(math.log2(GradientGrid(parameters=6).steps))
    drawn = np.arange(1 << DRAW_BITS, step=1 << (DRAW_BITS - shift)) >> (DRAW_BITS - shift)
    for exact in (-3, 0, 1, 12345, -(1 << shift) + 1):
        assert int(((exact + drawn) >> shift).sum()) == exact


@ROTATIONS
def test_sums_of_sites_are_read_as_the_sum_over_sites(rotated: bool) -> None:
    grid, random = GradientGrid(parameters=20, rotated=rotated), np.random.default_rng(3)
    sums = [part_of_a_unit(random.normal(size=20)) for _ in range(4)]
    total = sum(grid.rounded(each, seed(place), seed(9), 8) for place, each in enumerate(sums))
    assert isinstance(total, np.ndarray)
    value, exact = grid.value(total, seed(9)), np.sum(sums, axis=0) / WHOLE
    assert np.linalg.norm(value - exact) <= 4 * math.sqrt(grid.dimension) / grid.steps
    assert np.linalg.norm(exact) > 0.5
    if rotated:
        assert np.linalg.norm(grid.value(total, seed(8)) - exact) > 0.1


@ROTATIONS
@pytest.mark.parametrize("expected", [1, 16, 4096])
def test_sums_of_the_expected_units_are_not_clamped_and_absurd_ones_are(rotated: bool, expected: int) -> None:
    grid = GradientGrid(parameters=300, rotated=rotated)
    alike = part_of_a_unit(np.ones(300)) * expected
    one = part_of_a_unit(np.eye(1, 300)[0]) * expected
    for exact in (alike, one):
        value = grid.value(grid.rounded(exact, seed(1), seed(2), expected), seed(2))
        assert np.linalg.norm(value - exact / WHOLE) <= 1e-3
    absurd = np.full(300, 1 << 61) if rotated else one * 5
    clamped = np.clip(
        grid.rounded(absurd, seed(1), seed(2), expected), *(grid.levels(expected) * np.array([-1, 1]))
    )
    assert np.abs(grid.value(clamped, seed(2))).max() <= 2.01 * expected * (20 if rotated else 1)


def test_a_rotated_sum_is_clamped_narrower_so_that_its_ring_is() -> None:
    plain, rotated = (GradientGrid(parameters=4096, rotated=each).levels(256) for each in (False, True))
    assert plain / 8 < rotated < plain / 7


# --- moments ----------------------------------------------------------------------------------------------------------

shapes = st.lists(st.booleans(), min_size=1, max_size=8).map(tuple)


def unit_values(random: np.random.Generator, rows: int, cells: MomentCells) -> npt.NDArray[np.float64]:
    """Values in [0, 1] with edges and halves of steps, of which any may be missing."""
    k = len(cells.optional)
    values = random.choice([0.0, 1.0, 0.5, 0.5 / 1024, 1 - 0.5 / 1024, -1.0], size=(rows, k))
    values = np.where(values < 0, random.uniform(size=(rows, k)), values)
    values[random.uniform(size=(rows, k)) < 0.2] = np.nan
    return values


@settings(max_examples=200, deadline=None)
@given(optional=shapes, number=numbers, rows=st.integers(1, 12))
def test_rows_move_the_moments_by_no_more_than_their_number_allows(
    optional: tuple[bool, ...], number: int, rows: int
) -> None:
    cells, random = MomentCells(optional), np.random.default_rng(number)
    others, mine = unit_values(random, 30, cells), unit_values(random, rows, cells)
    without = cells.sums(others)
    assert without.shape == (cells.dimension,)
    assert norm(cells.sums(np.concatenate([others, mine])) - without) <= ROUNDED * cells.sensitivity(rows)
    for row in mine:
        assert norm(cells.sums(np.concatenate([others, row[None]])) - without) <= ROUNDED * cells.sensitivity(
            1
        )


@pytest.mark.parametrize("optional", [(False,), (True,), (True, False, True)])
@pytest.mark.parametrize("value", [0.0, 1.0])
@pytest.mark.parametrize("rows", [1, 7])
def test_rows_at_the_end_of_every_range_move_them_by_just_that(
    optional: tuple[bool, ...], value: float, rows: int
) -> None:
    cells = MomentCells(optional)
    assert norm(cells.sums(np.full((rows, len(optional)), value))) == pytest.approx(
        cells.sensitivity(rows), rel=ROUNDED - 1
    )


def test_moments_are_rows_present_values_sums_and_squares_about_the_middle() -> None:
    cells = MomentCells((False, True))
    units = np.array([[0.25, 1.0], [0.75, np.nan], [1.0, 0.5]])
    sums = cells.sums(units) * 2.0**-20
    assert sums.tolist() == [3, 2, -0.25 + 0.25 + 0.5, 0.5 + 0.0, 0.0625 + 0.0625 + 0.25, 0.25]


def test_moments_of_nobody_are_zeros() -> None:
    cells = MomentCells((True, False))
    assert cells.sums(np.zeros((0, 2))).tolist() == [0] * cells.dimension


def test_moments_of_as_many_rows_as_are_allowed_are_not_clamped() -> None:
    cells = MomentCells((True,))
    row = np.abs(cells.sums(np.ones((1, 1))))
    assert int(row.max()) << 31 == cells.levels


# --- counts -----------------------------------------------------------------------------------------------------------


@given(cells=st.lists(st.integers(0, 7), min_size=1, max_size=20))
def test_rows_move_the_counts_by_at_most_their_number(cells: list[int]) -> None:
    counted = np.bincount(cells, minlength=EvaluationCells(4).dimension)
    assert norm(counted) <= EvaluationCells(4).sensitivity(len(cells))


def test_rows_that_share_a_cell_move_them_by_just_that() -> None:
    assert norm(np.bincount([3] * 9, minlength=8)) == EvaluationCells(4).sensitivity(9)


# --- noise ------------------------------------------------------------------------------------------------------------

RELEASE = discrete(1000.0, 10.0, shares=4, dimension=200_000)
VARIANCES = {
    Mechanism.DISTRIBUTED: (250_000.0, 0.0),
    Mechanism.CENTRAL: (0.0, 1_000_000.0),
    Mechanism.LOCAL: (1_000_000.0, 0.0),
    Mechanism.GAUSSIAN: (0.0, 0.0),
}


def noisy(release: Release, **facts: Any) -> NoisySum:
    return NoisySum(**{"release": release, "cohort": 5, "levels": 1 << 20, **facts})


@pytest.mark.parametrize("mechanism", VARIANCES)
def test_noise_is_added_where_the_release_says_and_as_much_as_it_says(mechanism: Mechanism) -> None:
    release = replace(RELEASE, mechanism=mechanism)
    assert (site_variance(release), centre_variance(release)) == VARIANCES[mechanism]
    zeros = np.zeros(RELEASE.dimension, dtype=np.int64)
    drawn: list[int] = []

    def draw() -> NoiseSeed:
        drawn.append(1)
        return NoiseSeed(len(drawn).to_bytes(32, "little"))

    for added, variance in zip(
        (noisy(release).at_site, noisy(release).at_centre), VARIANCES[mechanism], strict=True
    ):
        drawn.clear()
        noise = added(zeros, draw).astype(np.float64)
        assert len(drawn) == (variance > 0)
        # Four standard errors of a variance of so many samples.
        assert abs(noise.var() - variance) <= 4 * variance * math.sqrt(2 / len(zeros))
        assert abs(noise.mean()) <= 4 * math.sqrt(variance / len(zeros))


def test_an_exempt_sum_has_no_noise_and_draws_no_seed() -> None:
    release = silent(discrete(10.0, dimension=3))
    exact = np.array([5, -7, 0])
    assert noisy(release).at_site(exact, never).tolist() == [5, -7, 0]
    assert noisy(release).at_centre(exact, never).tolist() == [5, -7, 0]
    assert (site_variance(release), centre_variance(release)) == (0.0, 0.0)


@pytest.mark.parametrize("survivors", [4, 5, 9])
def test_the_noise_on_a_sum_of_enough_shares_is_at_least_what_is_charged(survivors: int) -> None:
    assert survivors * site_variance(RELEASE) >= RELEASE.variance


def test_the_shares_of_too_few_would_be_less() -> None:
    """The control: a share of a sum over everybody invited, of whom not everybody comes."""
    assert 4 * site_variance(replace(RELEASE, shares=5)) < RELEASE.variance


@given(
    pair=st.lists(st.tuples(*[st.integers(-(2**60), 2**60)] * 2), min_size=1, max_size=20),
    levels=st.integers(1, 2**50),
)
def test_clamping_lengthens_nothing(pair: list[tuple[int, int]], levels: int) -> None:
    first, second = np.array(pair, dtype=np.int64).T
    summed = noisy(silent(discrete(1.0, dimension=len(pair))), levels=levels)
    here, there = (summed.at_site(each, never) for each in (first, second))
    assert np.abs(here).max() <= levels
    assert norm(here - there) <= norm(first - second)


# --- rings ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", Mechanism)
@pytest.mark.parametrize("cohort", [3, 40, 1000])
@pytest.mark.parametrize("deviation", [1.0, 1e6, 1e9])
def test_the_ring_holds_everybodys_levels_and_everybodys_noise(
    mechanism: Mechanism, cohort: int, deviation: float
) -> None:
    release = discrete(deviation, 10.0, shares=3, dimension=1000)
    release = silent(release) if mechanism is Mechanism.NONE else replace(release, mechanism=mechanism)
    summed = noisy(release, cohort=cohort)
    room = summed.ring.modulus // 2 - 1 - cohort * summed.levels
    total = cohort * site_variance(release)
    assert room >= 0
    assert total == 0 or 2 * 1000 * math.exp(-(room**2) / (2 * total)) <= 2.0**-40
    ends = np.array([1, -1]) * (summed.ring.modulus // 2 - 1)
    assert summed.ring.decode(summed.ring.encode(ends)).tolist() == ends.tolist()


@pytest.mark.parametrize("cells", [MomentCells((True,) * 40), EvaluationCells(32)], ids=["moments", "counts"])
def test_the_largest_cohort_of_a_plan_has_a_ring(cells: MomentCells | EvaluationCells) -> None:
    sensitivity = cells.sensitivity(1 << 12)
    release = discrete(8.0 * sensitivity, sensitivity, shares=600, dimension=cells.dimension)
    assert NoisySum(release=release, cohort=1000, levels=cells.levels).ring.bits <= 62


@ROTATIONS
@pytest.mark.parametrize("parameters", [10, 100_000])
def test_gradient_sums_of_the_largest_cohort_have_a_ring(parameters: int, rotated: bool) -> None:
    grid = GradientGrid(parameters=parameters, rotated=rotated)
    release = discrete(10.0 * grid.sensitivity, grid.sensitivity, shares=600, dimension=grid.dimension)
    assert NoisySum(release=release, cohort=1000, levels=grid.levels(1 << 16)).ring.bits <= 62
