"""The account: what is charged, what is refused, and what a person at several sites pays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strategies.dp.budget import (
    Account,
    BudgetRefused,
    cost_of,
    exempted,
    grouped,
    largest_that,
    merged,
    most_rounds,
    most_times,
)
from strategies.dp.curves import renyi
from strategies.dp.events import Mechanism, Part, Release
from strategies.dp.filters import Ceiling
from strategies.dp.persons import worst_person
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from tests.strategies.dp.releases_for_tests import (
    CUSTOMER,
    OTHER_SPLIT,
    RECORD,
    SPLIT,
    discrete,
    gaussian,
    silent,
)

ORDER = 8
TWO_SITES = replace(CUSTOMER, max_sites=2)
SITE = PrivacyUnit(kind=UnitKind.SITE)


def account(epsilon: float = 3.0, unit: PrivacyUnit = RECORD) -> Account:
    return Account(name="north/retail-loans", ceiling=Ceiling.fixed(epsilon=epsilon, delta=1e-6, unit=unit))


def in_part(release: Release, part: Part, partition: object = SPLIT) -> Release:
    return replace(release, part=part, partition=partition)


releases = st.builds(
    lambda noise, rate, split, part, eta: replace(
        gaussian(noise, rate=rate), partition=split, part=part, total_variation=eta
    ),
    st.floats(0.7, 30.0),
    st.sampled_from([1.0, 0.2, 0.01]),
    st.sampled_from([None, SPLIT, OTHER_SPLIT]),
    st.sampled_from(list(Part)),
    st.sampled_from([0.0, 1e-15]),
)
charges = st.dictionaries(releases, st.integers(0, 40), max_size=6)


def cost(of: Mapping[Release, int]) -> float:
    return cost_of(of, ORDER).renyi


@given(charges, charges)
def test_costs_add_up_at_most(some: dict[Release, int], more: dict[Release, int]) -> None:
    assert max(cost(some), cost(more)) <= cost(merged(some, more)) * (1 + 1e-12)
    assert cost(merged(some, more)) <= (cost(some) + cost(more)) * (1 + 1e-12)


@given(st.lists(st.tuples(releases, st.integers(0, 40)), max_size=6), st.randoms())
def test_the_order_of_charges_does_not_matter(some: list[tuple[Release, int]], random: object) -> None:
    shuffled = list(some)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert cost_of(merged(*({r: n} for r, n in some)), ORDER) == cost_of(
        merged(*({r: n} for r, n in shuffled)), ORDER
    )


@given(charges, charges)
def test_what_is_required_stays_within_the_ceiling_and_a_refusal_changes_nothing(
    some: dict[Release, int], more: dict[Release, int]
) -> None:
    before = account().charged(some)
    try:
        before.require(more)
    except BudgetRefused:
        assert not before.ceiling.admits(before.charged(more).cost)
    else:
        assert before.charged(more).guarantee().epsilon <= before.ceiling.epsilon
    assert before == account().charged(some)


@given(charges, releases, st.integers(0, 300))
def test_most_rounds_is_the_largest_number_that_fits(
    fixed: dict[Release, int], per_round: Release, at_most: int
) -> None:
    mine = account()
    rounds = most_rounds(mine, fixed, per_round, at_most)
    assert 0 <= rounds <= at_most
    if rounds:
        mine.require(merged(fixed, {per_round: rounds}))
    if rounds < at_most:
        with pytest.raises(BudgetRefused):
            mine.require(merged(fixed, {per_round: rounds + 1}))


@given(charges)
def test_charging_is_adding_counts(some: dict[Release, int]) -> None:
    assert account().charged(some).charged(some).charges == {
        release: 2 * count for release, count in some.items()
    }


def test_parts_that_share_no_unit_pay_for_the_dearer_one() -> None:
    training, evaluation = in_part(gaussian(1.0), Part.TRAINING), in_part(gaussian(2.0), Part.EVALUATION)
    assert cost({training: 1, evaluation: 3}) == cost({training: 1})
    assert cost({training: 1, evaluation: 5}) == cost({evaluation: 5})


def test_different_partitions_and_none_add_up() -> None:
    parts = [
        in_part(gaussian(1.0), Part.TRAINING),
        in_part(gaussian(1.0), Part.EVALUATION, OTHER_SPLIT),
        gaussian(1.0),
    ]
    assert cost(dict.fromkeys(parts, 1)) == pytest.approx(3 * cost({gaussian(1.0): 1}))
    assert len(grouped(dict.fromkeys(parts, 1))) == 3


@pytest.mark.parametrize(
    ("unit", "parallel"),
    [(RECORD, True), (CUSTOMER, True), (replace(CUSTOMER, column="household"), False), (SITE, False)],
)
def test_parts_compose_in_parallel_only_for_a_unit_that_is_in_one_part(
    unit: PrivacyUnit, parallel: bool
) -> None:
    """SPLIT is by customer_id: a household, or a site, has rows on both sides."""
    one = cost({gaussian(1.0, unit=unit): 1})
    both = {in_part(gaussian(1.0, unit=unit), part): 1 for part in Part}
    assert cost(both) == pytest.approx(one if parallel else 2 * one)


def test_the_total_variation_of_all_steps_adds_up_over_all_parts() -> None:
    one, two = (in_part(replace(gaussian(steps=3), total_variation=1e-9), part) for part in Part)
    assert cost_of({one: 2, two: 1}, ORDER).total_variation == pytest.approx(9e-9)


def test_nothing_costs_nothing() -> None:
    assert account().guarantee().epsilon == 0.0
    assert cost_of({gaussian(): 0}, ORDER).renyi == 0.0


def test_an_exemption_costs_nothing_and_is_listed() -> None:
    mine = account().charged({silent(gaussian()): 4, gaussian(30.0): 1})
    assert mine.guarantee() == account().charged({gaussian(30.0): 1}).guarantee()
    assert mine.exempted() == (silent(gaussian()),)
    assert mine.exempted({silent(gaussian()): 1, silent(gaussian(rate=0.5)): 1}) == (
        silent(gaussian()),
        silent(gaussian(rate=0.5)),
    )
    assert exempted({silent(gaussian()): 0, gaussian(): 1}) == ()
    mine.require({silent(gaussian()): 1})


def test_a_refusal_names_account_spending_ceiling_and_unit() -> None:
    mine = account(unit=CUSTOMER).charged({gaussian(4.0, unit=CUSTOMER): 1})
    with pytest.raises(BudgetRefused) as refusal:
        mine.require({gaussian(1.0, unit=CUSTOMER): 2})
    words = str(refusal.value)
    would = mine.charged({gaussian(1.0, unit=CUSTOMER): 2}).guarantee()
    assert would.epsilon > 3.0
    for part in (
        "north/retail-loans",
        "gradient",
        would.words,
        mine.ceiling.words,
        "customer_id",
        f"{mine.guarantee().words} is spent",
    ):
        assert part in words


@pytest.mark.parametrize("unit", [CUSTOMER, SITE])
def test_a_release_about_another_unit_is_refused(unit: PrivacyUnit) -> None:
    with pytest.raises(BudgetRefused, match="the account is per record"):
        account().require({gaussian(1000.0, unit=unit): 1})
    with pytest.raises(BudgetRefused, match="the account is per record"):
        most_rounds(account(), {}, gaussian(1000.0, unit=unit), 5)
    with pytest.raises(BudgetRefused, match="the account is per record"):
        account().require({silent(gaussian(unit=unit)): 1})


def test_a_release_for_fewer_sites_than_the_population_declares_is_refused_and_fewer_rows_are_not() -> None:
    mine = account(unit=TWO_SITES)
    with pytest.raises(BudgetRefused, match="up to 1 sites"):
        mine.require({gaussian(1000.0, unit=CUSTOMER): 1})
    mine.require(
        {
            gaussian(1000.0, unit=replace(TWO_SITES, max_rows=2)): 1,
            gaussian(1000.0, unit=replace(TWO_SITES, max_sites=3)): 1,
        }
    )


def test_most_rounds_is_none_where_what_is_fixed_does_not_fit_and_all_where_rounds_cost_nothing() -> None:
    assert most_rounds(account(), {gaussian(0.1): 1}, gaussian(50.0), 9) == 0
    assert most_rounds(account(), {}, silent(gaussian()), 9) == 9
    with pytest.raises(UsageError, match="at least 0"):
        most_rounds(account(), {}, gaussian(), -1)


@pytest.mark.parametrize("count", [-1, 1.5])
def test_a_count_that_is_no_number_of_times_is_refused(count: int) -> None:
    with pytest.raises(UsageError, match=f"charged {count} times"):
        account().charged({gaussian(): count})


def test_charges_cannot_be_edited_from_outside() -> None:
    mine = {gaussian(): 1}
    charged = account().charged(mine)
    mine[gaussian()] = 0
    assert charged.charges[gaussian()] == 1
    with pytest.raises(TypeError):
        charged.charges[gaussian()] = 0  # type: ignore[index]


def test_own_noise_is_one_share_of_the_variance() -> None:
    mine = account().charged({discrete(40.0, shares=4): 1})
    assert mine.worst_own_noise() == account().charged({discrete(20.0): 1}).guarantee()
    assert mine.worst_own_noise().epsilon > mine.guarantee().epsilon


def test_own_noise_is_infinite_with_central_noise_and_leaves_exemptions_out() -> None:
    central = replace(discrete(40.0), mechanism=Mechanism.CENTRAL)
    assert math.isinf(account().charged({central: 1, gaussian(40.0): 1}).worst_own_noise().epsilon)
    assert (
        account().charged({silent(central): 1, gaussian(40.0): 1}).worst_own_noise()
        == account().charged({gaussian(40.0): 1}).guarantee()
    )


def test_a_joint_sum_is_charged_once_for_a_person_at_all_its_sites() -> None:
    joint, own = discrete(40.0, rate=0.1, shares=3, unit=CUSTOMER), gaussian(3.0, unit=CUSTOMER)
    person = worst_person(
        [
            [("run/gradient/1", joint, 1), ("a", own, 2)],
            [("run/gradient/1", joint, 1), ("run/gradient/2", joint, 1)],
            [("b", own, 1)],
        ]
    )
    assert person == {joint.for_person_at(2): 1, joint: 1, own: 3}
    assert renyi(joint.for_person_at(2), ORDER) > 2 * renyi(joint, ORDER)


def test_a_release_already_charged_for_a_person_at_two_sites_is_not_scaled_twice() -> None:
    joint = discrete(40.0, rate=0.1, shares=3, unit=TWO_SITES)
    local = gaussian(3.0, unit=TWO_SITES)
    at = [[("g", joint, 1), ("l", local, 2)]] * 3
    assert worst_person(at[:2]) == {joint: 1, local: 2}
    assert worst_person(at) == {joint.for_person_at(2): 1, local: 4}


def test_sites_that_count_a_sum_differently_coincide_as_often_as_they_can() -> None:
    joint = discrete(40.0, shares=3, unit=CUSTOMER)
    assert worst_person([[("g", joint, 5)], [("g", joint, 3)], [("g", joint, 3)]]) == {
        joint.for_person_at(3): 3, joint: 2,
    }  # fmt: skip


def test_sites_that_state_one_sum_differently_are_refused() -> None:
    with pytest.raises(UsageError, match="run/gradient/1: sites state the same opened sum differently"):
        worst_person([[("run/gradient/1", discrete(40.0), 1)], [("run/gradient/1", discrete(41.0), 1)]])


def test_own_noise_under_a_shared_key_and_exemptions_are_charged_as_often_as_they_happen() -> None:
    person = worst_person(
        [
            [("e", gaussian(), 1), ("n", silent(gaussian()), 1)],
            [("e", gaussian(2.0), 1), ("n", silent(gaussian()), 1)],
        ]
    )
    assert person == {gaussian(): 1, gaussian(2.0): 1, silent(gaussian()): 1}


def test_parts_do_not_compose_in_parallel_across_sites() -> None:
    """Keys differ between sites: a person may train at one and be held out at the other, and then pays for both."""
    training, evaluation = (
        in_part(gaussian(1.0, unit=CUSTOMER), Part.TRAINING),
        in_part(gaussian(2.0, unit=CUSTOMER), Part.EVALUATION),
    )
    site = [("t", training, 1), ("e", evaluation, 1)]
    assert cost({training: 1, evaluation: 1}) == cost({training: 1})
    one, two = worst_person([site]), worst_person([[("t", training, 1)], [("e", evaluation, 1)]])
    assert cost(one) == cost(two) == pytest.approx(cost({training: 1}) + cost({evaluation: 1}))
    assert all(release.partition is None for release in (*one, *two))


def test_the_same_sum_over_both_parts_is_charged_for_both_at_all_sites() -> None:
    """Opened sums too: what a key counts at two sites is not halved by the part that a person is in at either."""
    joint = replace(discrete(40.0, shares=3, unit=CUSTOMER), partition=SPLIT)
    sites = [[("g", in_part(joint, Part.TRAINING), 1), ("c", in_part(joint, Part.EVALUATION), 1)]] * 2
    bare = replace(joint, partition=None)
    both = {replace(bare, part=part).for_person_at(2): 1 for part in (Part.TRAINING, Part.EVALUATION)}
    assert worst_person(sites) == both
    assert cost(worst_person(sites)) == pytest.approx(2 * cost({bare.for_person_at(2): 1}))


@given(charges, charges, st.integers(0, 40))
def test_an_account_answers_to_the_bit_as_from_all_charges_anew(
    some: dict[Release, int], more: dict[Release, int], again: int
) -> None:
    held = replace(account(), charges=some)
    planned = merged(more, dict.fromkeys(some, again))
    order = held.ceiling.order

    assert held.cost == cost_of(some, order)
    assert held._costs.with_more(planned) == cost_of(merged(some, planned), order)
    assert held._costs.with_more({}) == held.cost  # a question leaves nothing behind


@given(charges, charges, charges, st.integers(0, 1000))
def test_many_times_cost_to_the_bit_what_all_charges_anew_do(
    some: dict[Release, int], fixed: dict[Release, int], step: dict[Release, int], times: int
) -> None:
    held = replace(account(), charges=some)
    # Releases that are charged already, and those that are both fixed and repeated, change their own terms.
    fixed, step = merged(fixed, dict.fromkeys(some, 1)), merged(step, dict.fromkeys([*some, *fixed][:3], 2))
    asked = held._costs.along(fixed, step)

    for count in (times, 0, 1):
        anew = merged(some, fixed, {release: each * count for release, each in step.items()})
        assert asked(count) == cost_of(anew, held.ceiling.order)


@given(charges, charges)
def test_a_plan_fits_as_often_as_the_account_takes_it(
    some: dict[Release, int], planned: dict[Release, int]
) -> None:
    held = replace(account(300.0), charges=some)

    def taken(times: int) -> bool:
        try:
            held.require({release: count * times for release, count in planned.items()})
        except BudgetRefused:
            return False
        return True

    assert most_times(held, {}, planned, 50) == largest_that(taken, 50)


def test_an_infinite_cost_fits_no_times_and_costs_nothing_where_it_does_not_happen() -> None:
    loud = gaussian(1e-160)
    assert math.isinf(renyi(loud, ORDER))
    assert most_times(account(), {}, {loud: 1}, 10) == 0
    assert account()._costs.along({}, {loud: 1})(0) == cost_of({}, account().ceiling.order)
