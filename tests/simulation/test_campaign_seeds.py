"""Schedules of faults, many of them: what must always hold does."""

from __future__ import annotations

import pytest

from simulation.campaign.campaign import be_quiet, campaign, last_steps

SEEDS = 200


@pytest.fixture(autouse=True)
def _quiet() -> None:
    be_quiet()


@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2, 3))])
def test_200_seeds_hold(part: int) -> None:
    failure = campaign(range(part * SEEDS // 4, (part + 1) * SEEDS // 4))
    assert failure is None, (failure.shrunk.command, failure.shrunk.sentence, last_steps(failure.shrunk))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_thousand_further_seeds_hold() -> None:
    failure = campaign(range(SEEDS, 1200), jobs=2)
    assert failure is None, (failure.shrunk.command, failure.shrunk.sentence)
