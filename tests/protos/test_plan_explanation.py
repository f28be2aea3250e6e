"""What a plan's privacy comes to: figures that agree with the plan's own check, and words that say what nothing protects."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import pytest

from protos.plan_costs import guarantee_of, own_noise, required_releases
from protos.plan_dials import with_limit
from protos.plan_explanation import Explanation, Figures, explain
from protos.plan_privacy import Limit
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, forecast, require_limit
from strategies.dp.events import Mechanism
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from tests.private_plan_for_tests import (
    CENTRAL,
    CUSTOMERS,
    EXEMPTING,
    LOCAL,
    NOISE,
    NONE,
    SITES,
    contract,
    private_plan,
)

ALL = [(), CENTRAL, LOCAL, CUSTOMERS, SITES, EXEMPTING]


@cache
def explained(*changes: tuple[str, str]) -> Explanation:
    return explain(private_plan(*changes), contract())


def figures(*changes: tuple[str, str]) -> Figures:
    found = explained(*changes).figures
    assert found is not None
    return found


@pytest.mark.parametrize("changes", ALL)
def test_the_whole_is_what_the_plan_is_checked_against(changes) -> None:
    plan = private_plan(*changes)
    whole = figures(*changes).whole
    assert whole == forecast(required_releases(plan, contract()), plan.privacy)


@pytest.mark.parametrize("changes", ALL)
def test_a_limit_just_below_the_whole_is_refused_and_one_at_it_is_not(changes) -> None:
    plan = private_plan(*changes)
    whole = figures(*changes).whole.epsilon
    require_limit(with_limit(plan, Limit(epsilon=whole * (1 + 1e-9), delta=1e-5)), contract())
    with pytest.raises(UsageError, match="would take the account to"):
        require_limit(with_limit(plan, Limit(epsilon=whole * (1 - 1e-6), delta=1e-5)), contract())


def test_a_plan_above_its_limit_is_explained_with_the_check_s_own_sentence() -> None:
    plan = private_plan(("epsilon: 8.0", "epsilon: 2.0"))
    with pytest.raises(UsageError) as refused:
        require_limit(plan, contract())
    found = explain(plan, contract()).figures
    assert found.over_limit == str(refused.value)
    assert found.whole.epsilon > found.limit.epsilon


def test_stages_say_how_often_they_happen_at_most() -> None:
    stages = {each.stage: each for each in explained().stages}
    assert {name: (each.times, each.retries) for name, each in stages.items()} == {
        PREPARE: (3, 2),
        TRAIN: (45, 5),
        EVALUATE: (3, 2),
    }


@pytest.mark.parametrize("changes", [(), CENTRAL, LOCAL, CUSTOMERS])
def test_no_stage_alone_costs_more_than_the_whole(changes) -> None:
    found = explained(*changes)
    assert all(0.0 < stage.alone.epsilon <= found.figures.whole.epsilon for stage in found.stages)


def test_where_a_key_tells_the_parts_apart_the_whole_costs_its_dearer_part() -> None:
    cheap, dear = (
        figures((NOISE, NOISE.replace("6.0", "60.0"))),
        figures((NOISE, NOISE.replace("6.0", "1.0"))),
    )
    assert cheap.whole == figures().whole
    stages = explained((NOISE, NOISE.replace("6.0", "1.0"))).stages
    assert dear.whole == stages[2].alone == dear.rounds[-1].at_most
    assert dear.rounds[-2].at_most.epsilon < dear.rounds[-1].smooth.epsilon
    assert "dearer part" in dear.words
    assert "add up" in figures(*SITES).words


def test_costs_over_rounds_grow_from_preparation_to_the_whole() -> None:
    found = figures()
    smooth = [each.smooth.epsilon for each in found.rounds]
    at_most = [each.at_most.epsilon for each in found.rounds]
    assert [each.number for each in found.rounds] == list(range(41))
    assert smooth == sorted(smooth)
    assert at_most == sorted(at_most)
    assert all(a < b for a, b in zip(smooth, at_most, strict=True))
    assert found.rounds[-1].at_most == found.whole
    assert found.rounds[0].smooth.epsilon < found.rounds[1].smooth.epsilon


def test_many_rounds_are_followed_at_few_points_and_at_the_last() -> None:
    found = figures(("rounds: 40", "rounds: 4000"), ("every: 40", "every: 4000"))
    assert len(found.rounds) == 61
    assert found.rounds[-1].number == 4000


def test_one_round_is_followed_too() -> None:
    assert [each.number for each in figures(("rounds: 40", "rounds: 1")).rounds] == [0, 1]


def test_own_noise_alone_promises_less_and_more_honest_sites_promise_more() -> None:
    found = figures()
    assert found.nobody_colludes.epsilon < found.whole.epsilon < found.own_noise.epsilon < math.inf


def test_zero_colluding_is_the_same_plan_with_nobody_colluding_and_the_same_noise_a_site() -> None:
    """Shares of one site stay as they are: of multiplier z / sqrt(2) each, three make z sqrt(3/2)."""
    more = math.sqrt(1.5)
    noise = f"noise: {{preparation: {8 * more}, training: {more}, evaluation: {6 * more}}}"
    plan = private_plan((NOISE, noise), ("colluding: 1", "colluding: 0"))
    other = explain(plan, contract()).figures.whole
    assert math.isclose(figures().nobody_colludes.epsilon, other.epsilon, rel_tol=1e-9)


def test_central_noise_is_none_of_the_sites_own() -> None:
    found = figures(*CENTRAL)
    assert math.isinf(found.own_noise.epsilon)
    assert found.nobody_colludes is None


def test_local_noise_is_all_of_the_sites_own_and_has_a_tight_figure_of_training() -> None:
    found = figures(*LOCAL)
    training = explained(*LOCAL).stages[1]
    assert found.own_noise == found.whole
    assert found.tight["training alone"].epsilon < training.alone.epsilon
    assert figures().tight == {}


def test_a_tight_figure_that_would_take_minutes_is_left_out() -> None:
    steps = ("algorithm: dp-fedsgd", "algorithm: dp-sgd\n  local_steps: 10000\n  learning_rate: 0.1")
    assert figures(LOCAL[0], steps, ("rounds: 40", "rounds: 1000"), ("every: 40", "every: 1000")).tight == {}


def test_a_customer_at_more_sites_is_protected_less() -> None:
    persons = figures(*CUSTOMERS).persons
    assert list(persons) == [1, 2, 3, 4]
    assert persons[1] == figures(*CUSTOMERS).whole
    assert [each.epsilon for each in persons.values()] == sorted(each.epsilon for each in persons.values())
    assert [each.unit.max_sites for each in persons.values()] == [1, 2, 3, 4]
    assert figures().persons == {}


def test_a_plan_for_customers_at_several_sites_says_what_one_at_one_site_gets() -> None:
    two = (("max_rows: 4}", "max_rows: 4, max_sites: 2}"), ("epsilon: 8.0", "epsilon: 50.0"))
    persons = figures(*CUSTOMERS, *two).persons
    assert persons[2] == figures(*CUSTOMERS, *two).whole
    assert math.isclose(persons[1].epsilon, figures(*CUSTOMERS).whole.epsilon, rel_tol=1e-9)


def test_every_guarantee_is_for_the_plan_s_unit_and_delta() -> None:
    found = figures(*SITES)
    told = [found.whole, found.limit, found.own_noise, found.nobody_colludes]
    told += [each for spent in found.rounds for each in (spent.smooth, spent.at_most)]
    assert {(each.unit.kind, each.delta) for each in told} == {(UnitKind.SITE, 1e-5)}


def test_an_exempt_stage_has_no_cost_and_is_named() -> None:
    found = explained(*EXEMPTING)
    stage = found.stages[2]
    assert stage.alone is None
    assert stage.release.mechanism is Mechanism.NONE
    assert "nothing protects" in stage.seen
    assert "exempts evaluation" in found.not_protected[0]


@pytest.mark.parametrize("changes", [*ALL, NONE])
def test_taking_part_and_a_refusal_s_one_word_are_never_protected(changes) -> None:
    told = " ".join(explained(*changes).not_protected)
    assert "takes part at all" in told
    assert "`contract`" in told


def test_private_plans_say_that_neither_the_cohort_nor_a_site_s_conduct_is_in_a_figure() -> None:
    told = " ".join(explained().not_protected)
    assert "The choice of sites" in told
    assert "What a site does itself" in told
    assert "several rows" in told


def seen(found: Explanation) -> str:
    return found.stages[1].seen


def test_modes_say_who_sees_what() -> None:
    assert "noisy sum over at least 3 sites is all that exists" in seen(explained())
    central = explained(*CENTRAL)
    assert "the coordinator sees the raw sum" in seen(central)
    assert "not against the coordinator" in central.words
    local = explained(*LOCAL)
    assert "floating-point" in seen(local)
    assert "against everyone" in local.words
    assert any("Mironov 2012" in each for each in local.not_protected)


def test_without_privacy_the_words_say_that_nothing_protects_and_there_is_no_figure() -> None:
    found = explained(*NONE)
    assert found.figures is None
    assert "nothing protects a person's rows" in found.words
    assert found.not_protected[0].startswith("Everything")
    assert [(each.times, each.alone, each.release) for each in found.stages] == [
        (1, None, None),
        (40, None, None),
        (1, None, None),
    ]
    assert all("nothing protects a person" in each.seen for each in found.stages)


def test_plain_aggregation_says_that_each_site_s_own_is_seen() -> None:
    plain = (
        "aggregation: {mode: secure, adversary: active, suite: x25519-aes256-sha256, colluding: 1, update_range: 1.0}",
        "aggregation: {mode: plain}",
    )
    assert "each site's own" in seen(explained(*NONE, plain))


def test_nothing_costs_nothing_and_noise_too_small_for_arithmetic_promises_nothing() -> None:
    limit, unit = Limit(epsilon=1.0, delta=1e-5), PrivacyUnit(kind=UnitKind.RECORD)
    train = required_releases(private_plan(*LOCAL), contract()).train
    assert guarantee_of({}, limit, unit).epsilon == 0.0
    assert guarantee_of({train: 0}, limit, unit).epsilon == 0.0
    assert math.isinf(guarantee_of({replace(train, variance=1e-320): 1}, limit, unit).epsilon)
    assert own_noise({}, limit, unit).epsilon == 0.0
