"""Sites that drop out of a sum under secure aggregation: above the threshold it opens without them, below it nothing does."""

from __future__ import annotations

import numpy as np
import pytest

from coordinator.rounds.asking import TooFewSurvivors
from protos.frames import Stage
from strategies.analytics.histograms import metrics_from
from strategies.analytics.moments import scaling_from
from strategies.ids import SiteName
from strategies.secagg.messages import Advertisement, Body, Confirmation, Envelopes, MaskedInput, Shares
from tests.coordinator.secure_for_tests import ASKED_BY, EAST, FOUR, NORTH, SEVEN, SOUTH, WEST, secure_plan
from tests.coordinator.sums_for_tests import (
    ACTIVE,
    KINDS,
    LOSSES,
    SET_UP,
    STEPS,
    UNANSWERED,
    VOIDING,
    Make,
    at,
    close_to_the_mean,
    require_fresh_keys,
)


@pytest.mark.parametrize("way", ["the request is lost", "the reply is lost"])
@pytest.mark.parametrize(("adversary", "kind"), LOSSES)
def test_above_the_threshold_a_round_opens_the_weighted_mean_of_those_whose_input_came(
    make: Make, adversary: str, kind: type[Body], way: str
) -> None:
    federation = make(secure_plan(adversary=adversary), begun=True)
    lost = at(Stage.TRAIN, 1, kind, [WEST])
    if way == "the request is lost":
        federation.wire.request_lost = lost
    else:
        federation.wire.reply_lost = lost
    federation.drive()
    (row,) = federation.rounds()
    survivors = FOUR if kind in {Confirmation, Shares} else (EAST, NORTH, SOUTH)
    assert (row.state, row.attempt, row.survivors) == ("committed", 1, list(survivors))
    assert federation.wire.kinds(Stage.TRAIN, 1) == SET_UP + STEPS[adversary]
    # Who has not come as far as the roster is not weighed when the grid is chosen.
    roster = survivors if kind in {Advertisement, Envelopes} else FOUR
    assert close_to_the_mean(federation, 1, survivors, roster=roster)


@pytest.mark.parametrize("kind", KINDS["active"])
def test_the_scaling_and_the_metrics_are_of_those_whose_input_came(make: Make, kind: type[Body]) -> None:
    federation = make(secure_plan())
    preparing = at(Stage.PREPARE, 0, kind, [NORTH])
    evaluating = at(Stage.EVALUATE, 1, kind, [SOUTH])
    federation.wire.request_lost = lambda site, ask: preparing(site, ask) or evaluating(site, ask)
    finished = federation.drive()
    late = kind in {Confirmation, Shares}
    prepared, evaluated = federation.attempts()
    assert prepared.survivors == [s for s in FOUR if late or s != NORTH]
    exact = scaling_from(federation.moments(map(SiteName, prepared.survivors)))
    assert np.allclose(federation.scaling().mean, exact.mean, rtol=0, atol=1e-7)
    assert np.allclose(federation.scaling().std, exact.std, rtol=0, atol=1e-6)
    # Keys for this attempt were made ahead, so a site that gives none in the attempt itself is asked for none.
    here = late or kind in {Advertisement, Envelopes}
    assert evaluated.survivors == [s for s in FOUR if here or s != SOUTH]
    assert finished.metrics == metrics_from(federation.counts(map(SiteName, evaluated.survivors)))


@pytest.mark.parametrize(("adversary", "kind"), VOIDING)
def test_below_the_threshold_an_attempt_is_void_asks_for_no_shares_and_the_next_has_fresh_keys(
    make: Make, adversary: str, kind: type[Body]
) -> None:
    federation = make(secure_plan(adversary=adversary), begun=True)
    federation.wire.reply_lost = at(Stage.TRAIN, 1, kind, [SOUTH, WEST])
    federation.drive()
    void, good = federation.rounds()
    assert (void.attempt, void.state, void.survivors, void.opening) == (1, "voided", None, None)
    assert void.reason is not None
    assert "3 are needed" in void.reason
    assert f"south {UNANSWERED}; west {UNANSWERED}" in void.reason
    assert (good.attempt, good.state, good.survivors) == (2, "committed", list(FOUR))
    steps = SET_UP + STEPS[adversary]
    assert federation.wire.kinds(Stage.TRAIN, 1, 1) == steps[: steps.index(ASKED_BY[kind]) + 1]
    assert federation.wire.kinds(Stage.TRAIN, 1, 2) == steps
    assert [ask.attempt.attempt for ask in federation.wire.opening_asks() if ask.stage is Stage.TRAIN] == [2]
    require_fresh_keys(federation)
    assert close_to_the_mean(federation, 1, FOUR)


@pytest.mark.parametrize("kind", [Envelopes, MaskedInput, Confirmation])
def test_the_threshold_and_not_the_plans_minimum_decides_in_active_mode(make: Make, kind: type[Body]) -> None:
    """Of six sites five are needed, so four void an attempt although the plan's minimum is four."""
    six = SEVEN[:6]
    federation = make(secure_plan(six, minimum=4), begun=True)
    two, one = at(Stage.TRAIN, 1, kind, six[4:]), at(Stage.TRAIN, 1, kind, six[5:], attempt=2)
    federation.wire.reply_lost = lambda site, ask: two(site, ask) or one(site, ask)
    federation.drive()
    void, good = federation.rounds()
    assert "4 sites have" in (void.reason or "")
    assert "5 are needed" in (void.reason or "")
    assert (void.state, good.state) == ("voided", "committed")
    survivors = six if kind is Confirmation else six[:5]
    assert good.survivors == list(survivors)
    assert close_to_the_mean(federation, 1, survivors, roster=six[:5] if kind is Envelopes else six)
    require_fresh_keys(federation)


@pytest.mark.parametrize("stage", [Stage.PREPARE, Stage.EVALUATE])
@pytest.mark.parametrize("kind", [MaskedInput, Confirmation])
def test_below_the_threshold_an_attempt_to_prepare_or_evaluate_is_void_too(
    make: Make, stage: Stage, kind: type[Body]
) -> None:
    federation = make(secure_plan())
    number = 0 if stage is Stage.PREPARE else 1
    federation.wire.reply_lost = at(stage, number, kind, [SOUTH, WEST])
    federation.drive()
    void, good = [row for row in federation.attempts() if row.stage == stage.name.lower()]
    assert (void.attempt, void.survivors, void.opening) == (1, None, None)
    assert (good.attempt, good.survivors) == (2, list(FOUR))
    assert [ask.attempt.attempt for ask in federation.wire.opening_asks() if ask.stage is stage] == [2]
    assert federation.wire.kinds(stage, number, 2) == SET_UP + ACTIVE
    require_fresh_keys(federation)


def test_a_run_whose_attempts_are_all_void_ends_with_the_reason_and_has_opened_nothing(make: Make) -> None:
    federation = make(secure_plan(), begun=True)
    federation.wire.request_lost = at(Stage.TRAIN, 1, Confirmation, [SOUTH, WEST], attempt=None)
    with pytest.raises(TooFewSurvivors, match=f"2 sites have confirmed.*west {UNANSWERED}"):
        federation.drive()
    assert [(row.attempt, row.state) for row in federation.rounds()] == [(n, "voided") for n in (1, 2, 3)]
    assert federation.wire.opening_asks() == []
    assert federation.committed().number == 0
    require_fresh_keys(federation)


def test_fewer_survivors_than_it_takes_to_open_their_sum_are_not_settled_in_semi_honest_mode(
    make: Make,
) -> None:
    """Seven sites share so that four shares give a secret; the plan's minimum is three."""
    federation = make(secure_plan(SEVEN, adversary="semi-honest"), begun=True)
    federation.wire.request_lost = at(Stage.TRAIN, 1, MaskedInput, SEVEN[3:])
    federation.drive()
    assert [(row.attempt, row.state) for row in federation.rounds()] == [(1, "voided"), (2, "committed")]
    assert [ask.attempt.attempt for ask in federation.wire.opening_asks() if ask.stage is Stage.TRAIN] == [2]
