"""Fairness by group: equal to fairlearn's on exact counts, honest about noise, and a sentence where nothing can be said."""

from __future__ import annotations

import fairlearn.metrics as fl
import numpy as np
import pytest
from sklearn.metrics import precision_score

from strategies.analytics.comparisons import Metric
from strategies.analytics.fairness import Fairness, fairness_of
from strategies.analytics.group_rates import Figure, Rate
from strategies.analytics.panels import NOT_GIVEN, GroupPanel
from strategies.errors import UsageError
from tests.strategies.analytics.fairness_for_tests import DECLINES, EDGES, Rows, panel, rows

TWO = rows(1, {"old": 3000, "young": 900}, {"old": 0.1, "young": 0.25})


def figure(found: Fairness, group: str, metric: Metric) -> Figure:
    (one,) = (each for each in found.groups if each.group == group)
    return one.against[metric]


def value(found: Fairness, group: str, metric: Metric) -> float:
    interval = figure(found, group, metric).interval
    assert interval is not None, figure(found, group, metric).cannot
    assert interval.low <= interval.value <= interval.high
    return interval.value


# --- another library's figures on the same rows --------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(5))
def test_figures_of_two_groups_are_fairlearns(seed: int) -> None:
    groups, labels, scores = rows(seed, {"old": 2000, "young": 500}, {"old": 0.1, "young": 0.3})
    found = fairness_of(panel((groups, labels, scores)), 0.0)
    good, approved = labels == 0, scores < EDGES[DECLINES]
    frame = fl.MetricFrame(
        metrics={
            "approved": fl.selection_rate,
            "of_good": fl.true_positive_rate,
            "of_bad": fl.false_positive_rate,
            "precision": precision_score,
        },
        y_true=good,
        y_pred=approved,
        sensitive_features=groups,
    )
    by = frame.by_group
    for name in ("old", "young"):
        (one,) = (each for each in found.groups if each.group == name)
        for rate, column in (
            (Rate.APPROVAL, "approved"),
            (Rate.APPROVAL_GOOD, "of_good"),
            (Rate.APPROVAL_BAD, "of_bad"),
            (Rate.PRECISION, "precision"),
        ):
            interval = one.rates[rate].interval
            assert interval is not None
            assert interval.value == pytest.approx(by.loc[name, column], abs=1e-12)
    assert found.reference == "old"

    def theirs(function: object) -> float:
        return float(function(good, approved, sensitive_features=groups))  # type: ignore[operator]

    def ours(metric: Metric) -> float:
        return value(found, "young", metric)

    assert abs(ours(Metric.DEMOGRAPHIC_PARITY)) == pytest.approx(
        theirs(fl.demographic_parity_difference), abs=1e-12
    )
    assert ours(Metric.DEMOGRAPHIC_PARITY_RATIO) == pytest.approx(
        theirs(fl.demographic_parity_ratio), abs=1e-12
    )
    assert abs(ours(Metric.EQUAL_OPPORTUNITY)) == pytest.approx(
        theirs(fl.equal_opportunity_difference), abs=1e-12
    )
    assert ours(Metric.EQUALISED_ODDS) == pytest.approx(theirs(fl.equalized_odds_difference), abs=1e-12)
    precision = by["precision"]
    assert ours(Metric.PREDICTIVE_PARITY) == pytest.approx(precision["young"] - precision["old"], abs=1e-12)
    approval = by["approved"]
    assert ours(Metric.ADVERSE_IMPACT_RATIO) == pytest.approx(approval["young"] / approval["old"], abs=1e-12)


def test_calibration_by_group_is_that_of_a_metric_frame_by_score_bin() -> None:
    groups, labels, scores = rows(
        3, {"old": 4000, "young": 1500, "mid": 2500}, {"old": 0.1, "young": 0.4, "mid": 0.2}
    )
    found = fairness_of(panel((groups, labels, scores)), 0.0)
    bins = np.clip(np.digitize(scores, EDGES) - 1, 0, len(EDGES) - 2)

    def observed(y_true: np.ndarray, _: np.ndarray) -> float:
        return float(y_true.mean())

    def mean_by(sensitive: np.ndarray) -> object:
        frame = fl.MetricFrame(
            metrics=observed,
            y_true=labels,
            y_pred=labels,
            sensitive_features=sensitive,
            control_features=bins,
        )
        return frame.by_group

    everybody = mean_by(np.full(len(labels), "all"))
    by = mean_by(groups)
    for name in ("young", "mid"):
        ours = bins[groups == name]
        large = [each for each in range(8) if (ours == each).sum() >= 0.05 * len(ours)]
        gap = max(abs(by[(each, name)] - everybody[(each, "all")]) for each in large)
        assert value(found, name, Metric.GROUP_CALIBRATION) == pytest.approx(gap, abs=1e-12)


def test_base_rates_are_shares_of_label_one() -> None:
    groups, labels, _ = TWO
    found = fairness_of(panel(TWO), 0.0)
    for each in found.groups:
        interval = each.rates[Rate.BASE].interval
        assert interval is not None
        assert interval.value == pytest.approx(labels[groups == each.group].mean())
    assert value(found, "young", Metric.BASE_RATE) == pytest.approx(
        labels[groups == "young"].mean() - labels[groups == "old"].mean()
    )


# --- intervals ------------------------------------------------------------------------------------------------------------

TRUTH = {"old": (0.1, 6000), "young": (0.25, 1500)}
"""Share of label 1, and rows."""
CELLS = np.array([[0.3, 0.25, 0.2, 0.1, 0.07, 0.05, 0.02, 0.01], [0.02, 0.05, 0.1, 0.13, 0.2, 0.2, 0.2, 0.1]])
"""Of each label, the share of each score bin: the same in both groups, so opportunity is equal and calibration is not."""


def drawn(draw: np.random.Generator, noise_std: float) -> GroupPanel:
    counts = {}
    for name, (bad, size) in TRUTH.items():
        chance = np.concatenate((CELLS[0] * (1 - bad), CELLS[1] * bad))
        exact = draw.multinomial(size, chance)
        noisy = np.rint(exact + draw.normal(0.0, noise_std, 16)).astype(int).reshape(2, 8)
        counts[name] = (tuple(noisy[0].tolist()), tuple(noisy[1].tolist()))
    return GroupPanel(attribute="band", edges=EDGES, declines=DECLINES, counts=counts)


def true_values() -> dict[Metric, float]:
    of_good, of_bad = CELLS[0, :DECLINES].sum(), CELLS[1, :DECLINES].sum()
    approval = {name: (1 - bad) * of_good + bad * of_bad for name, (bad, _) in TRUTH.items()}
    precision = {name: (1 - bad) * of_good / approval[name] for name, (bad, _) in TRUTH.items()}
    joint = {name: np.stack((CELLS[0] * (1 - bad), CELLS[1] * bad)) for name, (bad, _) in TRUTH.items()}
    everybody = sum(joint[name] * size for name, (_, size) in TRUTH.items())
    young = joint["young"]
    large = young.sum(axis=0) >= 0.05
    gaps = np.abs(young[1] / young.sum(axis=0) - everybody[1] / everybody.sum(axis=0))
    ratio = approval["young"] / approval["old"]
    return {
        Metric.BASE_RATE: TRUTH["young"][0] - TRUTH["old"][0],
        Metric.ADVERSE_IMPACT_RATIO: ratio,
        Metric.DEMOGRAPHIC_PARITY: approval["young"] - approval["old"],
        Metric.DEMOGRAPHIC_PARITY_RATIO: ratio,
        Metric.EQUAL_OPPORTUNITY: 0.0,
        Metric.EQUALISED_ODDS: 0.0,
        Metric.PREDICTIVE_PARITY: precision["young"] - precision["old"],
        Metric.GROUP_CALIBRATION: float(gaps[large].max()),
    }


@pytest.mark.parametrize("noise_std", [0.0, 8.0, 25.0])
def test_intervals_hold_the_truth_as_often_as_they_say(noise_std: float) -> None:
    draw, truth, tries = np.random.default_rng(7), true_values(), 200
    held, told = dict.fromkeys(Metric, 0), dict.fromkeys(Metric, 0)
    for _ in range(tries):
        found = fairness_of(drawn(draw, noise_std), noise_std)
        for metric in Metric:
            interval = figure(found, "young", metric).interval
            if interval is not None:
                told[metric] += 1
                held[metric] += interval.low <= truth[metric] <= interval.high
    for metric in Metric:
        # Noise of 25 hides the smaller score bins of the smaller group.
        assert told[metric] >= 0.95 * tries or (noise_std == 25.0 and metric is Metric.GROUP_CALIBRATION)
        # 95 %, and four standard deviations of the tries less at the worst.
        assert held[metric] >= (0.95 - 4 * np.sqrt(0.05 * 0.95 / tries)) * told[metric], metric


def test_intervals_are_no_wider_than_they_need_to_be() -> None:
    draw, truth, held = np.random.default_rng(8), true_values(), 0
    for _ in range(400):
        interval = figure(fairness_of(drawn(draw, 8.0), 8.0), "young", Metric.ADVERSE_IMPACT_RATIO).interval
        assert interval is not None
        held += interval.low <= truth[Metric.ADVERSE_IMPACT_RATIO] <= interval.high
    assert held < 0.99 * 400


def test_noise_widens_every_interval() -> None:
    exact, noisy = (fairness_of(panel(TWO), each) for each in (0.0, 10.0))
    for metric in Metric:
        one, other = (figure(each, "young", metric).interval for each in (exact, noisy))
        assert one is not None
        assert other is None or other.high - other.low > one.high - one.low


# --- bad input: what can be said and what cannot ---------------------------------------------------------------------------


def test_group_of_three_members_is_told_of_in_words_only() -> None:
    few = rows(2, {"old": 3000, "young": 900, "rare": 3}, {"old": 0.1, "young": 0.2, "rare": 0.5})
    found = fairness_of(panel(few), 0.0, minimum=100)
    assert found.suppressed == ("rare",)
    assert "rare" not in {each.group for each in found.groups}
    assert any(each.startswith("rare: fewer rows than are told of") for each in found.cautions)
    assert found.rows.value == 3900


def test_group_that_the_release_suppressed_is_told_of_in_words_only() -> None:
    found = fairness_of(panel(TWO, suppressed=["young"]), 0.0)
    assert [each.group for each in found.groups] == ["old"]
    assert found.cautions == (
        "young: fewer rows than are told of, so its counts are suppressed and nothing is said of it",
        "only old can be told of, so nothing is compared",
    )


def test_noise_as_large_as_a_group_hides_its_rates() -> None:
    few = rows(2, {"old": 3000, "rare": 3}, {"old": 0.1, "rare": 0.5})
    found = fairness_of(panel(few, noise_std=20.0), 20.0)
    for metric in Metric:
        assert figure(found, "rare", metric).interval is None
        assert figure(found, "rare", metric).cannot
    assert (
        figure(found, "rare", Metric.DEMOGRAPHIC_PARITY).cannot
        == "rare has too few rows to be told from none with noise of 20 on each count"
    )


def test_attribute_that_is_missing_for_half_the_rows_is_said_to_be() -> None:
    half = rows(4, {"old": 1500, "young": 700, NOT_GIVEN: 2300}, {"old": 0.1, "young": 0.2, NOT_GIVEN: 0.15})
    found = fairness_of(panel(half), 0.0)
    assert found.reference == "old"
    (missing,) = (each for each in found.groups if each.group == NOT_GIVEN)
    assert not missing.against
    assert missing.rates[Rate.APPROVAL].interval is not None
    assert found.not_given is not None
    assert found.not_given.value == pytest.approx(2300 / 4500)
    assert any("band is not given for 51% of the rows" in each for each in found.cautions)


def test_nothing_but_suppressed_groups_is_a_caution() -> None:
    found = fairness_of(panel(TWO, suppressed=["young", "old"]), 0.0)
    assert not found.groups
    assert found.reference is None
    assert found.cautions[-1] == "no group of band can be told of, so nothing is compared"


def test_group_that_approves_nobody_gives_no_ratio() -> None:
    nobody = GroupPanel(
        attribute="band",
        edges=EDGES,
        declines=4,
        counts={
            "a": ((0, 0, 0, 0, 90, 90, 90, 90), (0, 0, 0, 0, 9, 9, 9, 9)),
            "b": ((50, 0, 0, 0, 9, 9, 9, 9), (0, 0, 0, 0, 3, 3, 3, 3)),
        },
    )
    found = fairness_of(nobody, 0.0, reference="a")
    assert "nobody of a is seen to be approved" in figure(found, "b", Metric.ADVERSE_IMPACT_RATIO).cannot
    assert figure(found, "b", Metric.PREDICTIVE_PARITY).cannot == "a has no approved rows"
    assert value(found, "b", Metric.DEMOGRAPHIC_PARITY) > 0.0


def test_named_reference_is_compared_with() -> None:
    found = fairness_of(panel(TWO), 0.0, reference="young")
    assert value(found, "old", Metric.BASE_RATE) < 0.0


def test_reference_that_is_suppressed_leaves_words() -> None:
    found = fairness_of(panel(TWO, suppressed=["old"]), 0.0, reference="old")
    assert (
        figure(found, "young", Metric.EQUALISED_ODDS).cannot
        == "old, the group to compare with, is suppressed"
    )


@pytest.mark.parametrize("unknown", ["elder", NOT_GIVEN])
def test_unknown_reference_is_refused(unknown: str) -> None:
    with pytest.raises(UsageError, match=f"band has no group '{unknown}' to compare with; it has old, young"):
        fairness_of(panel(TWO), 0.0, reference=unknown)


def test_threshold_outside_the_bins_is_refused() -> None:
    told: Rows = TWO
    bad = panel(told)
    with pytest.raises(UsageError, match="all rows are decided alike"):
        fairness_of(GroupPanel(attribute="band", edges=EDGES, declines=8, counts=bad.counts), 0.0)
