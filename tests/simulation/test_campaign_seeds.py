"""Schedules of faults, many of them: what must always hold does."""

from __future__ import annotations

import pytest

from simulation.campaign.campaign import be_quiet, campaign, last_steps

SEEDS = 200


@pytest.fixture(autouse=True)
def _quiet() -> None:
    be_quiet()


@pytest.mark.parametrize("half", [0, 1])
def test_200_seeds_hold(half: int) -> None:
    failure = campaign(range(half * SEEDS // 2, (half + 1) * SEEDS // 2))
    assert failure is None, (failure.shrunk.command, failure.shrunk.sentence, last_steps(failure.shrunk))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_further_seeds_hold() -> None:
    failure = campaign(range(SEEDS, 1200), jobs=2)
    assert failure is None, (failure.shrunk.command, failure.shrunk.sentence)
