"""Inputs and weights that would make a sum say something else than it should. Each attack fails, and its control works."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protos.documents import DocumentError, read_document
from protos.plan import Plan
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.secagg.fixedpoint import fitting_grid
from strategies.secagg.payloads import MOST_WEIGHT_RATIO, Counts, Moments, WeightedUpdates
from strategies.secagg.rings import Ring
from tests.protos.documents_for_tests import PLAN, changed
from tests.strategies.secagg.attacks_for_tests import VICTIM, Guard, off, without
from tests.strategies.secagg.attempt_for_tests import Federation, Values, names
from tests.strategies.secagg.sums_for_tests import MOST_ROWS, SEED, equal_weights, mean_of, updates_of, worst

NOT_FINITE = [math.nan, math.inf, -math.inf]

# Weights.


def plan_with_weight(weight: int) -> Plan:
    plain = changed(changed(PLAN, "minimum: 2", "minimum: 3"), "{west: 2}", f"{{west: {weight}}}")
    return read_document(changed(plain, "aggregation: {mode: plain}", ""), Plan, "plan.yaml")


def test_a_weight_above_the_plans_bound() -> None:
    """Weights are of the plan, which every site reads itself and holds to this band; no message names one."""
    assert plan_with_weight(MOST_WEIGHT_RATIO).weight_of(SiteName("west")) == MOST_WEIGHT_RATIO
    with pytest.raises(DocumentError, match="weights from 1 to 11"):
        plan_with_weight(MOST_WEIGHT_RATIO + 1)


@pytest.mark.parametrize("weights", [(11, 1, 1, 1), (0, 1, 1, 1), (-1, -1, -1, -1), (1, 2, 0, 1)])
def test_a_weight_outside_the_band(weights: tuple[int, ...]) -> None:
    with pytest.raises(
        UsageError, match="they are at least 1, and under secure aggregation none is more than 10"
    ):
        WeightedUpdates(1.0, dict(zip(names(4), weights, strict=True)))


@pytest.mark.parametrize("others", [1, 0])
def test_a_weight_above_the_plans_bound_gives_the_input_away_without_it(
    monkeypatch: Guard, others: int
) -> None:
    """The control: next to enough weight all others count nothing, and the mean is the victim's update."""
    without(monkeypatch, WeightedUpdates, "__post_init__", "they are at least 1")
    updates = updates_of(4)
    read = mean_of({VICTIM: 10**6, **dict.fromkeys(names(4)[1:], others)}, updates)
    assert read == pytest.approx(updates[VICTIM], abs=1e-5)


def test_the_heaviest_site_of_the_band_does_not_outweigh_the_others() -> None:
    updates = updates_of(4)
    read = mean_of({VICTIM: MOST_WEIGHT_RATIO, **dict.fromkeys(names(4)[1:], 1)}, updates)
    assert np.abs(read - updates[VICTIM]).max() > 0.05


# NaN and infinity.


@pytest.mark.parametrize(("value", "counts"), [(math.nan, 0.0), (math.inf, 1.0), (-math.inf, -1.0)])
def test_nan_and_infinity(value: float, counts: float) -> None:
    """Whoever chooses the model can make an update overflow where some row is large: a refusal would tell that there is such a row."""
    weights, updates = dict.fromkeys(names(4), 1), updates_of(4)
    right = mean_of(weights, updates)
    updates[VICTIM][0], kept = value, updates[VICTIM][0]
    read = mean_of(weights, updates)
    assert read[0] == pytest.approx(right[0] - kept / 4 + counts / 4, abs=1e-6)
    assert np.array_equal(read[1:], right[1:])


@pytest.mark.parametrize("value", NOT_FINITE)
def test_nan_and_infinity_are_refused_where_only_a_mistake_brings_them(value: float) -> None:
    vector = np.asarray([0.5, value, -0.5])
    with pytest.raises(Refused, match="not finite"):
        fitting_grid(1.0, 4)[0].embed(vector, SEED)
    with pytest.raises(Refused, match="moments are finite"):
        Moments(4).embed(vector)


@pytest.mark.parametrize("value", NOT_FINITE)
def test_nan_and_infinity_tell_of_a_row_by_the_refusal_without_the_guard(
    monkeypatch: Guard, value: float
) -> None:
    """The control: of two sites that were sent the same model one refuses, and so has the row that the coordinator looks for."""
    off(monkeypatch, np, "nan_to_num", lambda update, **_: update)
    rule = equal_weights(4)
    with_the_row, without_it = np.asarray([value, 0.1]), np.asarray([0.2, 0.1])
    off(monkeypatch, np, "clip", lambda update, *_, **__: update)
    assert rule.embed(names(4)[0], without_it, SEED).size == 2
    with pytest.raises(Refused, match="not finite"):
        rule.embed(names(4)[0], with_the_row, SEED)


# Moments and counts.


@pytest.mark.parametrize("value", [math.nextafter(MOST_ROWS, math.inf), -2 * MOST_ROWS, 1e300])
def test_moments_of_more_rows_than_fit(value: float) -> None:
    with pytest.raises(Refused, match=r"of at most 2\^31 rows"):
        Moments(4).embed(np.asarray([0.0, value]))


def test_moments_of_more_rows_than_fit_wrap_without_the_guard(monkeypatch: Guard) -> None:
    without(monkeypatch, Moments, "embed", "moments are finite")
    rule = Moments(4)
    vectors = {site: rule.embed(np.asarray([1.0])) for site in names(4)}
    vectors[VICTIM] = rule.embed(np.asarray([8 * MOST_ROWS]))
    assert rule.value(Federation().opens(vectors, ring=rule.ring).total)[0] < 0


@pytest.mark.parametrize("count", [-1, 2**40 + 1, -(2**62)])
def test_counts_that_are_none(count: int) -> None:
    with pytest.raises(Refused, match="counts are from 0 to 1099511627776"):
        Counts(4).embed(np.asarray([[0, 1], [2, count]]))


def test_a_negative_count_hides_rows_of_other_sites_without_the_guard(monkeypatch: Guard) -> None:
    without(monkeypatch, Counts, "embed", "counts are from")
    rule = Counts(4)
    vectors = {site: rule.embed(np.asarray([10, 10])) for site in names(4)}
    vectors[VICTIM] = rule.embed(np.asarray([-30, 10]))
    assert Federation().opens(vectors, ring=rule.ring).total.tolist() == [0, 40]


# Wrap-around of the ring.


def wrapped(federation: Federation, ring: Ring) -> Values:
    """What an attempt opens to which every site brings the largest update that there is."""
    ends = worst(federation.count)["updates"][1]
    return federation.opens(dict.fromkeys(federation.sites, ends), ring=ring).total


def test_wrap_around_of_the_ring() -> None:
    federation = Federation()
    ring, ends = worst(4)["updates"]
    assert wrapped(federation, ring).tolist() == (4 * ends).tolist()


@pytest.mark.parametrize("fewer", [1, 2, 8])
def test_wrap_around_of_the_ring_opens_a_wrong_sum_in_a_smaller_one(fewer: int) -> None:
    """The control: worst sums wrap in a ring of so many bits less, and what is opened is their remainder modulo 2^b."""
    ring, ends = worst(4)["updates"]
    smaller = Ring(ring.bits - fewer)
    read = wrapped(Federation(), smaller)
    assert (read != 4 * ends).all()
    assert [int(value) % smaller.modulus for value in read] == [4 * int(e) % smaller.modulus for e in ends]


def test_wrap_around_of_the_ring_shows_nothing_but_the_remainder() -> None:
    """Inputs whose sums differ by multiples of 2^b open alike, to the bit; with a sum that is wrong, the inputs are as hidden as ever.

    The second inputs are the first ones exchanged among the sites, with whole turns around the ring added to them.
    """
    ring = Ring(16)
    source = np.random.Generator(np.random.Philox(5))
    first = {site: source.integers(-(2**20), 2**20, 5) for site in names(4)}
    turned = {
        site: first[other] + turns * ring.modulus
        for site, other, turns in zip(names(4), reversed(names(4)), (3, -7, 1, 12), strict=True)
    }
    sums = [sum(int(vector[0]) for vector in vectors.values()) for vectors in (first, turned)]
    assert sums[1] - sums[0] == 9 * ring.modulus
    read = [Federation(seed=v[VICTIM].sum()).opens(v, ring=ring).total for v in (first, turned)]
    assert np.array_equal(read[0], read[1])
    assert abs(sums[0]) > ring.modulus  # so this sum has wrapped
    assert int(read[0][0]) != sums[0]
