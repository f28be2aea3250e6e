"""Schedules of faults, many of them: what must always hold does."""

from __future__ import annotations

from itertools import pairwise

import pytest

from simulation.campaign.campaign import campaign, last_steps
from simulation.quiet import silence_logs

FIRST = 10
"""So many seeds are played by `make test`, and the others, in parts that share the machine, by `make test-long`."""
ALL = 260


@pytest.fixture(autouse=True)
def _quiet() -> None:
    silence_logs()


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "seeds",
    [
        pytest.param(range(first, end), marks=[pytest.mark.slow] * (first > 0), id=f"{first}-{end - 1}")
        for first, end in pairwise((0, *range(FIRST, ALL + 1, 50)))
    ],
)
def test_every_invariant_holds(seeds: range) -> None:
    failure = campaign(seeds)
    assert failure is None, (failure.shrunk.command, failure.shrunk.sentence, last_steps(failure.shrunk))
