"""Inputs and weights that would make a sum say something else than it should. Each attack fails, and its control works."""

from __future__ import annotations

import math

import numpy as np
import pytest

from protos.documents import DocumentError, read_document
from protos.plan import MAX_WEIGHT, Plan
from strategies.errors import Refused, UsageError
from strategies.ids import SiteName
from strategies.secagg.fixedpoint import Grid
from strategies.secagg.payloads import Counts, Moments, WeightedUpdates
from strategies.secagg.rings import Ring
from tests.protos.documents_for_tests import PLAN, changed
from tests.strategies.secagg.attacks_for_tests import VICTIM, Guard, without
from tests.strategies.secagg.attempt_for_tests import Federation, Values, names
from tests.strategies.secagg.sums_for_tests import MOST_ROWS, SEED, equal_weights, mean_of, updates_of, worst

NOT_FINITE = [math.nan, math.inf, -math.inf]

# Weights.


def plan_with_weight(weight: int) -> Plan:
    return read_document(changed(PLAN, "{west: 2}", f"{{west: {weight}}}"), Plan, "plan.yaml")


def test_a_weight_above_the_plans_bound() -> None:
    """Weights are of the plan, which every site reads itself and holds to this bound; no message names one."""
    assert plan_with_weight(MAX_WEIGHT).weight_of(SiteName("west")) == MAX_WEIGHT
    with pytest.raises(DocumentError, match=r"`sites.weights.west` is 1000001"):
        plan_with_weight(MAX_WEIGHT + 1)


def test_a_weight_above_the_plans_bound_gives_the_input_away_without_it() -> None:
    """The control: next to enough weight all others count nothing, and the mean is the victim's update.

    The bound of a million is no protection by itself: at the bound, too, the victim's update is read to five decimals.
    """
    updates = updates_of(4)
    for weight, error in ((10**9, 1e-6), (MAX_WEIGHT, 1e-5)):
        read = mean_of({VICTIM: weight, **dict.fromkeys(names(4)[1:], 1)}, updates)
        assert read == pytest.approx(updates[VICTIM], abs=error)
    assert mean_of(dict.fromkeys(names(4), 1), updates) != pytest.approx(updates[VICTIM], abs=0.1)


@pytest.mark.parametrize("weight", [0, -1, -1000])
def test_a_weight_below_one(weight: int) -> None:
    rule = WeightedUpdates(1.0, {**dict.fromkeys(names(4), 1), names(4)[2]: weight})
    with pytest.raises(UsageError, match=f"the weight of site-0002 is {weight}; use 1 to 1"):
        rule.embed(names(4)[2], np.zeros(5), SEED)
    with pytest.raises(UsageError, match="use 1 to 1"):
        rule.mean(np.zeros(5, np.int64), names(4))


def test_a_weight_below_one_gives_the_input_away_without_the_guard(monkeypatch: Guard) -> None:
    """The control: where all others weigh nothing, the sum is the victim's vector."""
    without(monkeypatch, WeightedUpdates, "share", "the weight of")
    updates = updates_of(4)
    read = mean_of({VICTIM: 1, **dict.fromkeys(names(4)[1:], 0)}, updates)
    assert read == pytest.approx(updates[VICTIM], abs=1e-6)


# NaN and infinity.


@pytest.mark.parametrize("value", NOT_FINITE)
def test_nan_and_infinity(value: float) -> None:
    vector = np.asarray([0.5, value, -0.5])
    with pytest.raises(Refused, match="not finite"):
        equal_weights(4).embed(names(4)[0], vector, SEED)
    with pytest.raises(Refused, match="moments are finite"):
        Moments(4).embed(vector)


@pytest.mark.parametrize(("value", "becomes"), [(math.nan, 0.0), (math.inf, 1.0), (-math.inf, -1.0)])
def test_nan_and_infinity_spoil_the_mean_without_the_guard(
    monkeypatch: Guard, value: float, becomes: float
) -> None:
    """The control: nothing looks wrong about the mean, but one coordinate of one site, which failed, counts as if it were a number.

    As an integer NaN is what the processor makes of it, here or on ARM a multiple of 2^24; infinity is clipped to the bound.
    """
    without(monkeypatch, WeightedUpdates, "embed", "not finite")
    without(monkeypatch, Grid, "embed", "not finite")
    weights, updates = dict.fromkeys(names(4), 1), updates_of(4)
    right = mean_of(weights, updates)
    updates[VICTIM][0], kept = value, updates[VICTIM][0]
    with np.errstate(invalid="ignore"):
        read = mean_of(weights, updates)
    assert read[0] == pytest.approx(right[0] - kept / 4 + becomes / 4, abs=1e-6)
    assert abs(read[0] - right[0]) > 0.01
    assert np.array_equal(read[1:], right[1:])


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
