"""Whoever drops out and whoever colludes: what is opened has at least the noise that is charged for."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from coordinator.rounds.asking import TooFewSurvivors
from coordinator.rounds.driver import Driver
from protos.frames import Stage
from strategies.dp import mechanisms
from strategies.dp.mechanisms import NoisySum
from strategies.dp.noise import NoiseSeed
from strategies.ids import SiteName
from strategies.sampling import held_out
from strategies.secagg.messages import MaskedInput
from tests.coordinator.private_for_tests import (
    MODES,
    Make,
    make,
    planned,
    private_plan,
    templates,
)
from tests.coordinator.secure_for_tests import FOUR, SOUTH, WEST, _loans
from tests.coordinator.sums_for_tests import at

__all__ = ["make", "templates"]


WIDE = {
    "model: {kind: logistic}": "model: {kind: mlp, hidden: [400]}",
    "features: [amount, income, term]": "features: [amount]",
}
"""So many coordinates that a variance is known to a few per cent."""


def without_training_rows() -> list[Any]:
    """Rows of each site that are all held out: gradients of nobody, so that what is opened is noise and nothing else."""
    tables = []
    for place in range(4):
        rows = _loans(place)
        keys = [str(key) for key in rows["loan_id"].to_pylist()]
        tables.append(rows.filter(held_out(keys, "1", 0.5)))
    return tables


def spread(total: np.ndarray) -> float:
    return float(np.square(total.astype(np.float64)).mean())


def too_little(variance: float, release: Any) -> bool:
    """Whether a sum's noise is significantly, by five standard errors, less than what is charged for."""
    return variance < release.variance * (1 - 5 * np.sqrt(2 / release.dimension))


@pytest.mark.parametrize("mode", ["distributed", "central"])
@pytest.mark.parametrize(
    "lost", [(), *[(site,) for site in FOUR]], ids=lambda lost: "-".join(lost) or "nobody"
)
def test_whoever_drops_out_the_opened_sum_has_at_least_the_noise_that_is_charged(
    make: Make, mode: str, lost: tuple[SiteName, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    federation = make(
        {**MODES[mode], **WIDE, "rounds: 2": "rounds: 1", "every: 2": "every: 1"},
        tables=without_training_rows(),
    )
    federation.wire.reply_lost = at(Stage.TRAIN, 1, MaskedInput, lost)
    monkeypatch.setattr(Driver, "_evaluate", lambda *_: None)
    noisy: list[np.ndarray] = []
    at_centre = NoisySum.at_centre

    def look(summed: NoisySum, opened: np.ndarray, draw: Any) -> np.ndarray:
        noisy.append(at_centre(summed, opened, draw))
        return noisy[-1]

    monkeypatch.setattr(NoisySum, "at_centre", look)
    assert federation.drive().metrics is None
    release = planned(federation.plan).train
    assert release.dimension == 400 * 2 + 401 == len(noisy[-1])
    survivors = [site for site in FOUR if site not in lost]
    assert [each[0] for each in federation.settled() if each[1] == "train"] == survivors
    assert not too_little(spread(noisy[-1]), release)
    expected = release.variance * (len(survivors) / release.shares if mode == "distributed" else 1)
    assert spread(noisy[-1]) == pytest.approx(expected, rel=5 * np.sqrt(2 / release.dimension))


def noises(dimension: int = 40_000) -> tuple[Any, dict[SiteName, np.ndarray]]:
    """What each site adds to a sum of zeros, and the release that is charged."""
    release = replace(planned(private_plan()).train, dimension=dimension)
    summed = NoisySum(release=release, cohort=4, levels=1 << 20)
    zeros = np.zeros(dimension, dtype=np.int64)
    return release, {site: summed.at_site(zeros, lambda: NoiseSeed(os.urandom(32))) for site in FOUR}


def patterns() -> list[tuple[tuple[SiteName, ...], tuple[SiteName, ...]]]:
    """Every set of survivors that a round accepts, with every set of colluding sites that the plan bears."""
    return [
        (survivors, colluding)
        for size in (3, 4)
        for survivors in combinations(FOUR, size)
        for count in (0, 1)
        for colluding in combinations(survivors, count)
    ]


def hidden_by(found: dict[SiteName, np.ndarray], survivors: Any, colluding: Any) -> float:
    """The variance of the noise that colluding sites, who know their own, cannot take off."""
    return spread(np.sum([found[site] for site in survivors if site not in colluding], axis=0))


def test_for_every_dropout_pattern_and_collusion_the_noise_left_is_at_least_what_is_charged() -> None:
    release, found = noises()
    assert len(patterns()) == 4 * 4 + 5
    short = [each for each in patterns() if too_little(hidden_by(found, *each), release)]
    assert short == []
    # And it is not more than it must be: where a dropout and a colluding site come together, it is just that.
    least = min(hidden_by(found, *each) for each in patterns())
    assert least == pytest.approx(release.variance, rel=5 * np.sqrt(2 / release.dimension))


def test_shares_of_everybody_who_is_invited_would_leave_too_little(monkeypatch: pytest.MonkeyPatch) -> None:
    """The control, a bug planted: a share is the variance over the number invited."""
    monkeypatch.setattr(mechanisms, "site_variance", lambda release: release.variance / 4)
    release, found = noises()
    short = {each for each in patterns() if too_little(hidden_by(found, *each), release)}
    assert len(short) == len([each for each in patterns() if len(each[0]) - len(each[1]) < 4])


def test_fewer_survivors_than_the_noise_counts_on_open_nothing(make: Make) -> None:
    federation = make()
    lost = at(Stage.TRAIN, 1, MaskedInput, [SOUTH, WEST], attempt=None)
    federation.wire.reply_lost = lost
    with pytest.raises(TooFewSurvivors):
        federation.drive()
    assert {ask.stage for ask in federation.wire.opening_asks()} == {Stage.PREPARE}
    assert "train" not in {each[1] for each in federation.settled()}
