"""Releases: bounds, one canonical form, and what they become for a site alone and for a person at several sites."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from strategies.dp.accountants import RdpAccountant
from strategies.dp.curves import renyi
from strategies.dp.events import MOST_DIMENSION, MOST_STEPS, Mechanism, Part, Partition, Release
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import canonical_json
from strategies.errors import UsageError
from tests.strategies.dp.releases_for_tests import CUSTOMER, RECORD, SPLIT, discrete, gaussian, silent

NAN, INF = math.nan, math.inf
NOISY = tuple(each for each in Mechanism if each is not Mechanism.NONE)


# --- bounds -----------------------------------------------------------------------------------------------------------

BAD: dict[str, list[Any]] = {
    "sampling_rate": [0.0, -0.1, math.nextafter(1.0, 2.0), INF, NAN],
    "steps": [0, -1, MOST_STEPS + 1, NAN],
    "sensitivity": [0.0, -1.0, INF, NAN],
    "variance": [0.0, -1.0, INF, NAN],
    "shares": [0, -1],
    "dimension": [0, MOST_DIMENSION + 1, NAN],
    "total_variation": [-1e-12, 1.0, INF, NAN],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in BAD.items() for value in values]
)
def test_a_value_outside_its_bounds_is_refused_and_so_is_nan(name: str, value: object) -> None:
    with pytest.raises(UsageError):
        replace(gaussian(), **{name: value})


@pytest.mark.parametrize("mechanism", NOISY)
def test_only_an_exemption_has_no_noise(mechanism: Mechanism) -> None:
    assert silent(gaussian()).variance == 0.0
    with pytest.raises(UsageError, match=r"variance 0\.0"):
        replace(gaussian(), mechanism=mechanism, variance=0.0)


@pytest.mark.parametrize("value", [-1.0, NAN, INF])
def test_an_exemption_has_a_variance_that_is_none_and_not_nonsense(value: float) -> None:
    with pytest.raises(UsageError):
        replace(silent(gaussian()), variance=value)


def test_the_noise_multiplier_is_the_deviation_over_the_sensitivity() -> None:
    assert discrete(12.0, 4.0).noise_multiplier == 3.0


# --- one canonical form -----------------------------------------------------------------------------------------------

units = st.one_of(
    st.just(RECORD),
    st.builds(PrivacyUnit, kind=st.just(UnitKind.SITE), max_rows=st.integers(1, 1000)),
    st.builds(
        PrivacyUnit,
        kind=st.just(UnitKind.CUSTOMER),
        column=st.text(min_size=1, max_size=5),
        max_rows=st.integers(1, 1000),
        max_sites=st.integers(1, 50),
    ),
)
positive = st.floats(min_value=5e-324, max_value=1e300)
releases = st.builds(
    Release,
    what=st.text(max_size=10),
    mechanism=st.sampled_from(NOISY),
    unit=units,
    sampling_rate=st.floats(min_value=5e-324, max_value=1.0),
    steps=st.integers(1, MOST_STEPS),
    sensitivity=positive,
    variance=positive,
    shares=st.integers(1, 1000),
    dimension=st.integers(1, MOST_DIMENSION),
    total_variation=st.floats(min_value=0.0, max_value=1.0, exclude_max=True),
    part=st.sampled_from(list(Part)),
    partition=st.none()
    | st.builds(Partition, contract=st.text(), by=st.text(), salt=st.text(), share=st.floats(0.01, 0.99)),
)


@given(release=releases)
def test_facts_are_read_back_to_the_bit_also_from_json(release: Release) -> None:
    read = Release.from_facts(json.loads(canonical_json(release.facts())))
    assert read == release
    assert read.digest == release.digest


@given(release=releases, other=releases)
def test_equal_mathematics_has_equal_digests_and_other_mathematics_another(
    release: Release, other: Release
) -> None:
    assert (release.digest == other.digest) == (release == other)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("what", "evaluation counts"),
        ("mechanism", Mechanism.LOCAL),
        ("unit", replace(CUSTOMER, max_rows=7)),
        ("unit", replace(CUSTOMER, max_sites=2)),
        ("sampling_rate", 0.5),
        ("steps", 2),
        ("sensitivity", 1.5),
        ("variance", 2.0),
        ("shares", 2),
        ("dimension", 11),
        ("total_variation", 1e-30),
        ("part", Part.EVALUATION),
        ("partition", SPLIT),
        ("partition", replace(SPLIT, contract="cd" * 32)),
    ],
)
def test_each_fact_is_in_the_digest(name: str, value: object) -> None:
    release = gaussian(unit=CUSTOMER)
    assert replace(release, **{name: value}).digest != release.digest


PARTS: dict[str, Any] = {"contract": "c", "by": "id", "salt": "1", "share": 0.3}
DEFECTS: dict[str, dict[str, Any]] = {
    "no format": {"covenant": None},
    "another format": {"covenant": "release/v2"},
    "an unknown mechanism": {"mechanism": "laplace"},
    "a mechanism that cannot be hashed": {"mechanism": ["gaussian"]},
    "unknown neighbours": {"neighbours": "replace-one"},
    "an unknown part": {"part": "testing"},
    "no unit": {"unit": None},
    "a unit that is a word": {"unit": "record"},
    "a unit with a key more": {"unit": {"kind": "record", "colour": "red"}},
    "a unit that means nothing": {
        "unit": {"kind": "customer", "column": None, "max_rows": 1, "max_sites": 1}
    },
    "a unit with half a row": {"unit": {"kind": "site", "column": None, "max_rows": 1.5, "max_sites": 1}},
    "a column that is a number": {"unit": {"kind": "customer", "column": 7, "max_rows": 1, "max_sites": 1}},
    "half a step": {"steps": 1.5},
    "steps that are true": {"steps": True},
    "steps in words": {"steps": "3"},
    "half a share": {"shares": 2.5},
    "half a coordinate": {"dimension": 2.5},
    "a sampling rate that is no number": {"sampling_rate": "half"},
    "a sampling rate that is a list": {"sampling_rate": [0.5]},
    "a sampling rate in words": {"sampling_rate": "0.5"},
    "no variance": {"variance": None},
    "a variance that is not a number": {"variance": NAN},
    "a variance larger than any float": {"variance": 10**400},
    "a sensitivity larger than any float": {"sensitivity": 10**400},
    "a total variation of 1": {"total_variation": 1},
    "a name that is none": {"what": 3},
    "a partition that is a word": {"partition": "by key"},
    "a partition without salt": {"partition": {"contract": "c", "by": "id", "share": 0.3}},
    "a partition without contract": {"partition": {"by": "id", "salt": "1", "share": 0.3}},
    "a partition with a key more": {"partition": {**PARTS, "more": 1}},
    "a partition whose share is a word": {"partition": {**PARTS, "share": "0.3"}},
    "a partition whose share is not a number": {"partition": {**PARTS, "share": NAN}},
    "a partition whose share is all": {"partition": {**PARTS, "share": 1}},
    "a partition by a number": {"partition": {**PARTS, "by": 4}},
    "a partition of a contract that is a number": {"partition": {**PARTS, "contract": 4}},
    "a key more": {"epsilon": 1.0},
}


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=DEFECTS.keys())
def test_what_is_no_release_is_refused(defect: dict[str, Any]) -> None:
    facts = gaussian().facts()
    assert Release.from_facts(facts) == gaussian()
    assert Release.from_facts({**facts, "partition": PARTS}).partition == Partition(**PARTS)
    with pytest.raises(UsageError):
        Release.from_facts({**facts, **defect})


@pytest.mark.parametrize("name", list(gaussian().facts()))
def test_a_release_with_a_fact_missing_is_refused(name: str) -> None:
    facts = gaussian().facts()
    del facts[name]
    with pytest.raises(UsageError, match="this is no release"):
        Release.from_facts(facts)


garbage = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@given(anything=garbage)
def test_garbage_is_refused_with_a_sentence(anything: Any) -> None:
    with pytest.raises(UsageError):
        Release.from_facts(anything)


@settings(max_examples=300)
@given(release=releases, name=st.sampled_from(list(gaussian().facts())), anything=garbage)
def test_one_spoilt_fact_is_refused_or_is_another_release_with_another_digest(
    release: Release, name: str, anything: Any
) -> None:
    facts = release.facts()
    try:
        read = Release.from_facts({**facts, name: anything})
    except UsageError:
        return
    # JSON does not tell 1.0 from 1, and large floats come back as whole numbers.
    said = float(anything) if isinstance(facts[name], float) else anything
    assert read.facts() == {**facts, name: said}
    assert (read.digest == release.digest) == (said == facts[name])


# --- a site alone -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shares", [1, 2, 7])
def test_a_sites_own_noise_is_its_share_of_the_variance(shares: int) -> None:
    release = discrete(10.0, 2.0, shares=shares)
    own = release.own_noise()
    assert own.variance == pytest.approx(100.0 / shares)
    assert own.shares == 1
    assert replace(own, variance=release.variance, shares=shares) == release


@pytest.mark.parametrize("mechanism", [Mechanism.LOCAL, Mechanism.GAUSSIAN])
def test_where_a_site_adds_all_the_noise_its_own_noise_is_all_of_it(mechanism: Mechanism) -> None:
    release = replace(discrete(10.0), mechanism=mechanism)
    assert release.own_noise() == release


def test_of_central_noise_nothing_is_the_sites_own() -> None:
    own = replace(discrete(10.0), mechanism=Mechanism.CENTRAL, total_variation=1e-12).own_noise()
    assert (own.mechanism, own.variance, own.total_variation) == (Mechanism.NONE, 0.0, 0.0)


def test_an_exemption_stays_one() -> None:
    assert silent(gaussian()).own_noise() == silent(gaussian())


# --- a person at several sites ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("release", [discrete(5.0, 3.0, rate=0.2), gaussian(rate=0.2), silent(gaussian())])
def test_a_person_at_one_site_is_charged_as_planned(release: Release) -> None:
    assert release.for_person_at(1) == release


@pytest.mark.parametrize("sites", [0, -3])
def test_a_person_is_at_one_site_or_more(sites: int) -> None:
    with pytest.raises(UsageError, match=f"at {sites} sites"):
        gaussian().for_person_at(sites)


@pytest.mark.parametrize("mechanism", [Mechanism.DISTRIBUTED, Mechanism.CENTRAL])
@pytest.mark.parametrize("rate", [1e-12, 0.01, 0.5, 1.0])
@pytest.mark.parametrize("sites", [2, 5, 1000])
def test_in_one_sum_a_person_at_several_sites_moves_it_as_often_and_is_likelier_to_be_in_it(
    mechanism: Mechanism, rate: float, sites: int
) -> None:
    release = replace(discrete(5.0, 3.0, rate=rate), mechanism=mechanism)
    joint = release.for_person_at(sites)
    assert joint.sensitivity == 3.0 * sites
    assert joint.sampling_rate == pytest.approx(
        1.0 if rate == 1.0 else -math.expm1(sites * math.log1p(-rate))
    )
    assert rate <= joint.sampling_rate <= min(1.0, sites * rate * (1 + 1e-12))
    assert (joint.variance, joint.steps, joint.shares) == (release.variance, 1, release.shares)


@pytest.mark.parametrize("mechanism", [Mechanism.LOCAL, Mechanism.GAUSSIAN])
def test_where_each_site_adds_its_own_noise_a_person_pays_for_each_site(mechanism: Mechanism) -> None:
    release = replace(discrete(5.0, 3.0, rate=0.2), mechanism=mechanism, steps=4)
    assert release.for_person_at(3) == replace(release, steps=12)


@pytest.mark.parametrize("mechanism", NOISY)
@pytest.mark.parametrize("order", [2, 8, 32])
def test_a_person_at_more_sites_never_pays_less(mechanism: Mechanism, order: int) -> None:
    release = replace(discrete(40.0, 10.0, rate=0.1), mechanism=mechanism)
    costs = [renyi(release.for_person_at(sites), order) for sites in (1, 2, 3, 5, 8)]
    assert costs == sorted(costs)
    assert costs[0] < costs[-1]


@pytest.mark.parametrize("sites", [2, 3])
@pytest.mark.parametrize("rate", [0.05, 0.4])
def test_the_charge_for_a_person_at_several_sites_covers_the_mixture_that_really_happens(
    sites: int, rate: float
) -> None:
    """Each site takes the person by itself, so the sum moves by j of k parts with a binomial probability; by quadrature, both ways round."""
    deviation, order = 4.0, 4
    release = discrete(deviation, 1.0, rate=rate)
    points = [i / 50 for i in range(-3000, 3000)]
    base = [math.exp(-(x**2) / (2 * deviation**2)) for x in points]
    chances = [math.comb(sites, j) * rate**j * (1 - rate) ** (sites - j) for j in range(sites + 1)]
    moved = [
        sum(c * math.exp(-((x - j) ** 2) / (2 * deviation**2)) for j, c in enumerate(chances)) for x in points
    ]
    total = sum(base)
    there = sum(m**order * b ** (1 - order) for m, b in zip(moved, base, strict=True)) / total
    back = sum(b**order * m ** (1 - order) for m, b in zip(moved, base, strict=True)) / total
    real = max(math.log(there), math.log(back)) / (order - 1)
    charged = renyi(release.for_person_at(sites), order)
    assert renyi(release, order) < real <= charged * (1 + 1e-6)


def test_the_charge_for_two_sites_is_dearer_than_for_one_at_every_delta() -> None:
    release = discrete(20.0, 5.0, rate=0.1, unit=CUSTOMER)
    one, two = (
        RdpAccountant().guarantee({release.for_person_at(k): 20}, 1e-6, CUSTOMER).epsilon for k in (1, 2)
    )
    assert one < two
