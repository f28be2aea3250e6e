"""Plans fitted to a budget: what is found passes the plan's own check, and the next step towards dearer does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protos.plan import Plan
from protos.plan_calibration import calibrate
from protos.plan_costs import required_releases
from protos.plan_dials import Vary, with_limit, with_noise
from protos.plan_fit import check_plan
from protos.plan_privacy import Limit
from protos.plan_releases import best_order
from strategies.dp.budget import cost_of
from strategies.dp.filters import Ceiling
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

TENTH = {"preparation": 0.1, "evaluation": 0.1}


def turned(plan: Plan, **training: object) -> Plan:
    """`plan` with other training numbers, read again."""
    rounds = training.get("rounds", plan.training.rounds)
    evaluation = plan.evaluation.model_copy(update={"every": max(plan.evaluation.every, rounds)})
    rule = plan.training.model_copy(update=training)
    return Plan.from_canonical(plan.model_copy(update={"training": rule, "evaluation": evaluation}).canonical)


@pytest.mark.parametrize(
    ("changes", "epsilon"),
    [((), 3.0), ((), 12.0), (CENTRAL, 3.0), (LOCAL, 3.0), (CUSTOMERS, 3.0), (SITES, 4.0), (EXEMPTING, 1.5)],
)
def test_the_least_noise_is_found_that_passes_the_plan_s_own_check(changes, epsilon) -> None:
    found = calibrate(private_plan(*changes), contract(), epsilon=epsilon)
    check_plan(found.plan, contract())
    assert found.after.epsilon <= epsilon
    less = with_noise(found.plan, {"training": round(found.plan.privacy.noise.training - 0.001, 3)})
    with pytest.raises(UsageError, match="would take the account to"):
        check_plan(less, contract())


def test_noise_is_written_in_thousandths() -> None:
    noise = calibrate(private_plan(), contract(), epsilon=3.0).plan.privacy.noise.training
    assert noise == round(noise, 3)


def test_the_most_rounds_are_found_and_held_out_rows_are_still_scored_once() -> None:
    found = calibrate(private_plan(), contract(), epsilon=12.0, vary=Vary.ROUNDS).plan
    assert found.training.rounds > 40
    assert found.evaluation.every == found.training.rounds
    check_plan(found, contract())
    with pytest.raises(UsageError, match="would take the account to"):
        check_plan(turned(found, rounds=found.training.rounds + 1), contract())


def test_fewer_rounds_leave_every_as_it_is() -> None:
    found = calibrate(private_plan(), contract(), epsilon=5.0, vary=Vary.ROUNDS).plan
    assert found.training.rounds < found.evaluation.every == 40


def test_the_largest_batch_is_found() -> None:
    found = calibrate(private_plan(), contract(), epsilon=3.0, vary=Vary.SAMPLING).plan
    assert 1 <= found.training.expected_batch < 128
    check_plan(found, contract())
    with pytest.raises(UsageError, match="would take the account to"):
        check_plan(turned(found, expected_batch=found.training.expected_batch + 1), contract())


def test_a_budget_that_bears_all_rows_takes_no_more_than_there_are() -> None:
    plan = private_plan((NOISE, "noise: {preparation: 90.0, training: 90.0, evaluation: 90.0}"))
    found = calibrate(plan, contract(), epsilon=50.0, vary=Vary.SAMPLING).plan
    assert found.training.expected_batch == found.training.nominal_rows


@pytest.mark.slow
@given(epsilon=st.floats(1.5, 30.0), retries=st.integers(0, 20))
@settings(max_examples=8, deadline=None)
def test_whatever_the_budget_and_the_retries_the_result_fits(epsilon: float, retries: int) -> None:
    plan = private_plan(("retries: 5", f"retries: {retries}"))
    found = calibrate(plan, contract(), epsilon=epsilon)
    check_plan(found.plan, contract())
    assert found.plan.privacy.limit == Limit(epsilon=epsilon, delta=1e-5)
    assert found.plan.privacy.retries == retries


@pytest.mark.slow
def test_a_larger_budget_takes_less_noise_and_a_smaller_delta_more() -> None:
    def noise(epsilon: float, delta: float | None = None) -> float:
        return calibrate(private_plan(), contract(), epsilon=epsilon, delta=delta).plan.privacy.noise.training

    assert noise(8.0) < noise(4.0) < noise(2.0)
    assert noise(4.0, delta=1e-7) > noise(4.0, delta=1e-5) == noise(4.0)


def test_a_plan_above_its_own_limit_is_calibrated() -> None:
    plan = private_plan(("epsilon: 8.0", "epsilon: 2.0"))
    with pytest.raises(UsageError):
        check_plan(plan, contract())
    found = calibrate(plan, contract(), epsilon=2.0)
    check_plan(found.plan, contract())
    assert found.before.epsilon > 2.0 >= found.after.epsilon


def test_nothing_changes_but_what_was_asked_for() -> None:
    plan = private_plan()
    noise = calibrate(plan, contract(), epsilon=4.0).plan
    undone = with_limit(with_noise(noise, {"training": 1.0}), plan.privacy.limit)
    assert undone == plan


# --- shares ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [(), SITES])
def test_a_split_gives_stages_their_share_and_training_the_rest(changes) -> None:
    found = calibrate(private_plan(*changes), contract(), epsilon=3.0, split=TENTH).plan
    check_plan(found, contract())
    planned, privacy = required_releases(found, contract()), found.privacy
    order = best_order(planned.planned(), privacy.limit)
    budget = Ceiling.fixed(epsilon=3.0, delta=1e-5, unit=privacy.unit.unit, order=order).renyi_budget
    for stage in ("prepare", "evaluate"):
        share = cost_of({planned.of(stage): planned.times(stage)}, order).renyi / budget
        assert 0.08 < share <= 0.1 + 1e-9
    whole = cost_of(planned.planned(), order).renyi / budget
    assert 0.98 < whole <= 1.0


def test_a_split_makes_a_small_budget_possible() -> None:
    with pytest.raises(UsageError):
        calibrate(private_plan(), contract(), epsilon=0.5)
    assert calibrate(private_plan(), contract(), epsilon=0.5, split=TENTH).after.epsilon <= 0.5


def test_a_split_goes_with_rounds_and_sampling_too() -> None:
    for vary in (Vary.ROUNDS, Vary.SAMPLING):
        found = calibrate(private_plan(), contract(), epsilon=4.0, vary=vary, split=TENTH)
        check_plan(found.plan, contract())
        assert found.plan.privacy.noise.training == 1.0
        assert found.plan.privacy.noise.preparation != 8.0


@pytest.mark.parametrize(
    ("split", "sentence"),
    [
        ({"training": 0.5}, "takes no share"),
        ({"preparation": 0.0}, "the share of preparation is 0.0"),
        ({"preparation": 1.0}, "the share of preparation is 1.0"),
        ({"preparation": -0.1}, "the share of preparation is -0.1"),
        ({"preparation": math.nan}, "the share of preparation is nan"),
        ({"preparation": 0.5, "evaluation": 0.5}, "must leave training something"),
        ({}, "must leave training something"),
    ],
)
def test_shares_that_are_none_are_refused(split, sentence) -> None:
    with pytest.raises(UsageError, match=sentence):
        calibrate(private_plan(), contract(), epsilon=4.0, split=split)


def test_an_exempt_stage_takes_no_share() -> None:
    with pytest.raises(UsageError, match="exempts evaluation"):
        calibrate(private_plan(*EXEMPTING), contract(), epsilon=4.0, split=TENTH)


# --- refusals ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [math.nan, 0.0, -1.0, math.inf, 51.0])
def test_a_budget_that_is_none_is_refused(epsilon: float) -> None:
    with pytest.raises(UsageError, match="use a number above 0 and at most 50"):
        calibrate(private_plan(), contract(), epsilon=epsilon)


@pytest.mark.parametrize("delta", [math.nan, 0.0, 1.0, -1e-6])
def test_a_delta_that_is_none_is_refused(delta: float) -> None:
    with pytest.raises(UsageError, match="use a number above 0 and below 1"):
        calibrate(private_plan(), contract(), epsilon=4.0, delta=delta)


def test_a_plan_without_privacy_is_refused_in_words() -> None:
    with pytest.raises(UsageError, match="privacy mode none: nothing protects"):
        calibrate(private_plan(*NONE), contract(), epsilon=4.0)


def test_a_site_is_not_sampled() -> None:
    with pytest.raises(UsageError, match="a site is always in the sum"):
        calibrate(private_plan(*SITES), contract(), epsilon=4.0, vary=Vary.SAMPLING)


def advised(sentence: str, word: str) -> float:
    """The number after `word` in an error's advice."""
    return float(sentence.partition(word)[2].split()[0].rstrip(",;"))


@pytest.mark.parametrize("vary", list(Vary))
def test_an_impossible_budget_says_what_would_be_possible_and_that_is_true(vary: Vary) -> None:
    plan = private_plan((NOISE, NOISE.replace("training: 1.0", "training: 0.5")))
    with pytest.raises(UsageError, match="cannot be brought to") as refused:
        calibrate(plan, contract(), epsilon=0.6, vary=vary)
    least = advised(str(refused.value), "possible: --epsilon ")
    check_plan(calibrate(plan, contract(), epsilon=least, vary=vary).plan, contract())
    with pytest.raises(UsageError):
        calibrate(plan, contract(), epsilon=least - 0.002, vary=vary)
    split = "--split preparation=0.1,evaluation=0.1, which takes training: "
    noise = advised(str(refused.value), split)
    assert noise == calibrate(plan, contract(), epsilon=0.6, split=TENTH).plan.privacy.noise.training


def test_rounds_that_do_not_fit_say_which_noise_would() -> None:
    plan = private_plan((NOISE, NOISE.replace("training: 1.0", "training: 0.4")))
    with pytest.raises(UsageError, match="with one round it costs") as refused:
        calibrate(plan, contract(), epsilon=2.0, vary=Vary.ROUNDS)
    noise = advised(str(refused.value), "--vary noise, which takes training: ")
    assert noise == calibrate(plan, contract(), epsilon=2.0).plan.privacy.noise.training


def test_a_delta_too_small_for_the_samplers_is_told_as_that() -> None:
    with pytest.raises(UsageError, match="so small a delta leaves no room"):
        calibrate(private_plan(), contract(), epsilon=4.0, delta=1e-45)


def test_training_noise_that_cannot_be_drawn_is_mended_with_the_shares_of_the_others() -> None:
    plan = private_plan((NOISE, NOISE.replace("training: 1.0", "training: 1.0e-6")))
    found = calibrate(plan, contract(), epsilon=4.0, split=TENTH)
    assert found.plan == calibrate(private_plan(), contract(), epsilon=4.0, split=TENTH).plan


def test_noise_that_cannot_be_drawn_is_found_before_it_is_written() -> None:
    """Evaluation noise below half a step a site has no sampler: no training noise mends that, a split does."""
    plan = private_plan((NOISE, NOISE.replace("6.0", "0.5")))
    with pytest.raises(UsageError, match="variance"):
        calibrate(plan, contract(), epsilon=4.0)
    found = calibrate(plan, contract(), epsilon=4.0, split=TENTH)
    check_plan(found.plan, contract())
    assert math.isinf(found.before.epsilon)
