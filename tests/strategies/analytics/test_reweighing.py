"""Reweighing: with its weights, group and label are independent."""

from __future__ import annotations

import pytest

from strategies.analytics.panels import GroupPanel
from strategies.analytics.reweighing import LARGEST_WEIGHT, reweighing
from strategies.errors import UsageError
from tests.strategies.analytics.fairness_for_tests import EDGES, panel, rows

SIZES = {"old": 4000, "mid": 3000, "young": 900}


def test_weighted_shares_of_labels_are_the_same_in_every_group() -> None:
    found = panel(rows(1, SIZES, {"old": 0.1, "mid": 0.12, "young": 0.4}))
    weights = reweighing(found)
    shares, sizes = set(), 0.0
    for name, (good, bad) in found.counts.items():
        negative, positive = sum(good) * weights[name].negative, sum(bad) * weights[name].positive
        shares.add(round(positive / (positive + negative), 3))
        sizes += positive + negative
        assert positive + negative == pytest.approx(SIZES[name], rel=1e-3)
    assert len(shares) == 1
    assert sizes == pytest.approx(sum(SIZES.values()), rel=1e-3)


def test_weights_of_noisy_counts_are_bounded() -> None:
    noisy = GroupPanel(
        attribute="band",
        edges=EDGES[:3],
        declines=1,
        counts={"a": ((900, 900), (-5, 2)), "b": ((500, 500), (300, 300))},
    )
    weights = reweighing(noisy)
    assert weights["a"].positive == LARGEST_WEIGHT
    assert 0.0 < weights["b"].positive < 1.0


def test_nothing_but_suppressed_groups_gives_no_weights() -> None:
    found = panel(rows(1, {"a": 10}, {"a": 0.5}), suppressed=["a"])
    with pytest.raises(UsageError, match="no group of band is told of"):
        reweighing(found)
