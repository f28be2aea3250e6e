"""Rollouts move as the table has it, and are judged by their figures alone."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import product
from typing import Any

import pytest

from protos.rollouts import (
    MOVES,
    Canary,
    Figures,
    Full,
    GoOn,
    RolloutRules,
    Shadow,
    State,
    TakeBack,
    Wait,
    judge,
    kept_as,
    psi,
    require_move,
    standing_of,
)
from strategies.errors import Refused

RULES = RolloutRules(steps=(0.1, 0.5), min_rows=100)
WELL = Figures(requests=200, rows=200, errors=0, latency_sum_ms=400.0, scores=(100, 60, 40))


@pytest.mark.parametrize(("before", "after"), list(product(State, State)))
def test_there_are_the_moves_of_the_table_and_no_others(before: State, after: State) -> None:
    moving = standing_of(before, 0.1), standing_of(after, 0.2)
    if after in MOVES[before]:
        require_move("it", *moving)
    else:
        with pytest.raises(Refused, match=f"is {before} and cannot become {after}"):
            require_move("it", *moving)


@pytest.mark.parametrize("state", State)
def test_a_state_is_kept_and_read_again(state: State) -> None:
    share = kept_as(standing_of(state, 0.3))[1]
    assert kept_as(standing_of(state, share)) == (state, share)


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_a_share_only_grows(share: float) -> None:
    with pytest.raises(Refused, match="a further share is larger"):
        require_move("it", Canary(0.3), Canary(share))


@pytest.mark.parametrize(
    ("now", "step"),
    [(Shadow(), Canary(0.1)), (Canary(0.1), Canary(0.5)), (Canary(0.3), Canary(0.5)), (Canary(0.5), Full())],
)
def test_what_is_well_goes_on_to_the_next_step(now: Shadow | Canary, step: object) -> None:
    decision = judge(RULES, now, WELL, WELL)
    assert isinstance(decision, GoOn)
    assert decision.step == step


@pytest.mark.parametrize(
    ("stable", "challenger", "kind"),
    [
        (WELL, replace(WELL, requests=99, rows=99), Wait),
        (replace(WELL, rows=99), WELL, Wait),
        (WELL, replace(WELL, errors=3), TakeBack),
        (WELL, replace(WELL, errors=2), GoOn),
        (replace(WELL, rows=0), replace(WELL, errors=200, rows=0), TakeBack),
        # One that scores nothing at all has no request that was scored.
        (WELL, replace(WELL, requests=0, rows=0, errors=100, latency_sum_ms=0.0, scores=(0, 0, 0)), TakeBack),
        (WELL, replace(WELL, requests=0, rows=0, errors=99, latency_sum_ms=0.0, scores=(0, 0, 0)), Wait),
        (WELL, replace(WELL, latency_sum_ms=1201.0), TakeBack),
        (WELL, replace(WELL, latency_sum_ms=1200.0), GoOn),
        (WELL, replace(WELL, scores=(10, 40, 150)), TakeBack),
        (replace(WELL, scores=(0, 0, 0)), WELL, TakeBack),
        (WELL, replace(WELL, latency_sum_ms=math.nan), TakeBack),
    ],
)
def test_errors_latency_and_shifted_scores_take_it_back(
    stable: Figures, challenger: Figures, kind: type
) -> None:
    assert isinstance(judge(RULES, Shadow(), stable, challenger), kind)


def test_psi_is_that_of_its_definition() -> None:
    assert psi((50, 50), (50, 50)) == 0.0
    assert psi((50, 50), (5, 5)) == 0.0
    expected = (0.5 - 0.8) * math.log(0.5 / 0.8) + (0.5 - 0.2) * math.log(0.5 / 0.2)
    assert psi((50, 50), (80, 20)) == pytest.approx(expected)
    assert psi((50, 50, 0), (80, 20, 0)) == pytest.approx(expected)
    assert psi((100, 0), (50, 50)) < math.inf
    assert psi((0, 0), (1, 1)) == math.inf
    with pytest.raises(ValueError, match="2 bins cannot be compared with 3"):
        psi((1, 1), (1, 1, 1))


@pytest.mark.parametrize("steps", [(0.5, 0.1), (0.1, 0.1), (0.0,), (1.0,)])
def test_steps_rise_between_0_and_1(steps: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="share"):
        RolloutRules(steps=steps)


@pytest.mark.parametrize(
    "broken",
    [
        {"latency_sum_ms": math.nan},
        {"latency_sum_ms": math.inf},
        {"latency_sum_ms": -1.0},
        {"scores": (-5, 155, 50)},
    ],
)
def test_figures_that_cannot_be_take_it_back(broken: dict[str, Any]) -> None:
    for stable, challenger in ((replace(WELL, **broken), WELL), (WELL, replace(WELL, **broken))):
        assert isinstance(judge(RolloutRules(min_rows=100), Shadow(), stable, challenger), TakeBack)


def test_a_negative_count_of_errors_takes_it_back() -> None:
    broken = replace(WELL, errors=-50, requests=250)
    assert isinstance(judge(RolloutRules(min_rows=100), Shadow(), WELL, broken), TakeBack)
