"""The gates of a plan, as they are written, and the verdict on what is recorded."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest

from protos.documents import DocumentError, read_document
from protos.gates import Evidence, PolicyFinding, Subject, Verdict, judge
from protos.plan import Plan
from protos.plan_diff import changes, values_of
from protos.plan_gates import Gate
from protos.plan_releases import forecast, releases_of
from strategies.analytics.histograms import CalibrationBin, ScoreMetrics
from strategies.analytics.noisy import noisy_metrics
from strategies.errors import UsageError
from strategies.ids import run_id
from tests.client.loans_for_tests import CONTRACT
from tests.client.private_for_tests import TEXT
from tests.client.test_champion_scores import PART

CHAMPION = json.dumps(PART.model_dump(mode="json", exclude_none=True))
Z = NormalDist().inv_cdf(0.95)
STD = {"auc": 0.01, "ks": 0.02, "brier": 0.001, "log_loss": 0.01, "calibration": 0.02, "group": 1.0}
CALIBRATION = (CalibrationBin(0.1, 0.12, 500), CalibrationBin(0.5, 0.42, 480), CalibrationBin(0.9, 0.1, 5))
EXACT = ScoreMetrics(
    rows=985, positives=200, auc=0.75, log_loss=0.4, ks=0.4, brier=0.12, calibration=CALIBRATION
)
NOISY = replace(EXACT, noise_std=STD, auc_interval=(0.7, 0.8))


def plan_with(gates: str, *, champion: bool = True, text: str = TEXT) -> Plan:
    if champion:
        text = text.replace('salt: "1"}}', f'salt: "1"}}, champion: {CHAMPION}}}')
    return read_document(text + f"gates: {gates}\n", Plan, "plan.yaml")


MANY_BINS = TEXT.replace("score_bins: 8", "score_bins: 32")
EXACTLY = (
    TEXT.replace("component: tabular/2", "component: tabular/1")
    .replace("algorithm: dp-fedsgd", "algorithm: fedavg")
    .replace("  expected_batch: 16\n  nominal_rows: 32\n", "  batch_size: 8\n  learning_rate: 0.1\n")
)
EXACTLY = (
    EXACTLY[: EXACTLY.index("privacy:")]
    + 'privacy: {mode: none}\nevaluation: {every: 1, score_bins: 8, holdout: {by: loan_id, share: 0.3, salt: "1"}}\n'
    + "approvals: {privacy_officer: 0, model_risk: 0}\n"
)


def verdict(
    gates: str,
    metrics: ScoreMetrics | None,
    aucs: tuple[float, ...] = (),
    *policies: PolicyFinding,
    text: str = TEXT,
) -> Verdict:
    plan = plan_with(gates, text=text)
    subject = Subject(
        ref="private@1", digest="ab" * 32, run=run_id("run-0123456789abcdef"), plan=plan, contract=CONTRACT
    )
    kept = None if metrics is None else json.loads(json.dumps(asdict(metrics)))
    return judge(subject, Evidence(metrics=kept, aucs=aucs), policies)


# --- as they are written --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gates", "sentence"),
    [
        ("[{metric: auc, at_most: 0.7}]", "auc is better where it is higher; give the gate at_least"),
        ("[{metric: brier, at_least: 0.7}]", "brier is better where it is lower; give the gate at_most"),
        ("[{metric: auc}]", "auc is better where it is higher; give the gate at_least"),
        ("[{metric: auc, at_least: 0.5, at_most: 0.7}]", "give the gate at_least, and nothing else"),
        ("[{metric: auc, at_least: 1.5}]", "auc lies from 0 to 1 here, so 1.5 decides nothing"),
        ("[{metric: ks, over: champion, at_least: -1.5}]", "ks lies from -1 to 1 here"),
        (
            "[{metric: calibration, over: champion, at_most: 0.1}]",
            "calibration of a champion is not measured",
        ),
        ("[{metric: auc, at_least: .nan}]", "is NaN, but it should be a finite number"),
        (
            "[{metric: auc, at_least: 0.5}, {metric: auc, at_least: 0.6}]",
            "two gates are about the same figure",
        ),
        ("[{metric: stability, at_most: 0.1}]", "stability compares rounds, and the plan evaluates once"),
        ("[]", "at least 1"),
        ("[{metric: gini, at_least: 0.5}]", "gini"),
        ("[{metric: auc, at_least: 0.5, about: 1}]", "about"),
    ],
)
def test_a_gate_that_decides_nothing_is_refused(gates: str, sentence: str) -> None:
    with pytest.raises(DocumentError, match=sentence):
        plan_with(gates)


def test_a_gate_over_a_champion_takes_one() -> None:
    with pytest.raises(DocumentError, match="a gate compares with a champion that the plan does not name"):
        plan_with("[{metric: auc, over: champion, at_least: 0}]", champion=False)


def test_an_epsilon_takes_privacy() -> None:
    with pytest.raises(DocumentError, match="epsilon is about a privacy mode, and the plan has none"):
        plan_with("[{metric: epsilon, at_most: 8}]", text=EXACTLY)


def test_plans_without_gates_and_champion_keep_their_digests() -> None:
    plan = read_document(TEXT, Plan, "plan.yaml")
    assert "gates" not in json.loads(plan.canonical)
    assert "champion" not in json.loads(plan.canonical)["evaluation"]
    assert plan_with("[{metric: auc, at_least: 0.7}]", champion=False).digest != plan.digest


@pytest.mark.parametrize(
    ("old", "new", "loosens"),
    [
        ("[{metric: auc, at_least: 0.7}]", "[{metric: auc, at_least: 0.6}]", True),
        ("[{metric: auc, at_least: 0.6}]", "[{metric: auc, at_least: 0.7}]", False),
        ("[{metric: brier, at_most: 0.1}]", "[{metric: brier, at_most: 0.2}]", True),
        (
            "[{metric: auc, at_least: 0.7}, {metric: ks, at_least: 0.2}]",
            "[{metric: auc, at_least: 0.7}]",
            True,
        ),
        (
            "[{metric: auc, at_least: 0.7}]",
            "[{metric: auc, at_least: 0.7}, {metric: ks, at_least: 0.2}]",
            False,
        ),
    ],
)
def test_a_gate_that_is_gone_or_asks_for_less_is_told_as_loosening(old: str, new: str, loosens: bool) -> None:
    (found,) = changes(values_of(plan_with(old)), values_of(plan_with(new)))
    assert (found.field, found.loosens) == ("gates", loosens)
    assert "at least" in found.sentence or "at most" in found.sentence


def test_a_champion_that_is_added_releases_more() -> None:
    gates = "[{metric: auc, at_least: 0.7}]"
    found = {
        each.field: each.loosens
        for each in changes(values_of(plan_with(gates, champion=False)), values_of(plan_with(gates)))
    }
    assert found["evaluation.champion.model"]
    assert found["evaluation.champion.features"]


# --- the verdict ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gate", "value", "passes"),
    [
        ("{metric: auc, at_least: 0.75}", 0.75, True),
        ("{metric: auc, at_least: 0.7500001}", 0.75, False),
        ("{metric: ks, at_least: 0.4}", 0.4, True),
        ("{metric: brier, at_most: 0.12}", 0.12, True),
        ("{metric: brier, at_most: 0.11}", 0.12, False),
        ("{metric: log_loss, at_most: 0.4}", 0.4, True),
        # The third group is too small to show a gap of 0.8.
        ("{metric: calibration, at_most: 0.09}", 0.08, True),
        ("{metric: calibration, at_most: 0.07}", 0.08, False),
    ],
)
def test_an_exact_figure_is_judged_as_it_is(gate: str, value: float, passes: bool) -> None:
    found = verdict(f"[{gate}]", EXACT)
    assert found.gates[0].value == pytest.approx(value)
    assert found.gates[0].judged == found.gates[0].value
    assert found.passed == passes


@pytest.mark.parametrize(
    ("gate", "end"),
    [
        ("{metric: auc, at_least: 0.5}", 0.75 - Z * 0.01),
        ("{metric: log_loss, at_most: 1}", 0.4 + Z * 0.01),
        ("{metric: ks, at_least: 0}", 0.4 - NormalDist().inv_cdf(1 - 0.05 / 8) * 0.02),
        ("{metric: calibration, at_most: 1}", 0.08 + NormalDist().inv_cdf(1 - 0.05 / 7) * 0.02),
    ],
)
def test_a_noisy_figure_is_judged_by_its_bad_end(gate: str, end: float) -> None:
    assert verdict(f"[{gate}]", NOISY).gates[0].judged == pytest.approx(end, rel=1e-12)


def test_a_difference_has_the_noise_of_both() -> None:
    champion = replace(NOISY, auc=0.74, ks=0.3, noise_std=STD | {"auc": 0.02})
    found = verdict(
        "[{metric: auc, over: champion, at_least: -0.03}, {metric: ks, over: champion, at_least: -1}]",
        replace(NOISY, champion=champion),
    )
    auc, ks = found.gates
    assert auc.value == pytest.approx(0.01)
    assert auc.judged == pytest.approx(0.01 - Z * math.hypot(0.01, 0.02))
    assert auc.passed
    assert ks.judged == pytest.approx(0.1 - NormalDist().inv_cdf(1 - 0.05 / 16) * 0.04)


def test_a_better_figure_that_noise_may_have_made_does_not_beat_the_champion() -> None:
    champion = replace(NOISY, auc=0.74)
    found = verdict("[{metric: auc, over: champion, at_least: 0.0}]", replace(NOISY, champion=champion))
    assert found.gates[0].value > 0
    assert not found.passed
    assert (
        "auc over the champion's at least 0: it is 0.01, and with 95% confidence at least -0.0132617"
        in found.failures[0]
    )
    without_noise = verdict(
        "[{metric: auc, over: champion, at_least: 0.0}]", replace(EXACT, champion=replace(EXACT, auc=0.74))
    )
    assert without_noise.passed


@pytest.mark.parametrize(
    ("gate", "metrics", "reason"),
    [
        ("{metric: auc, at_least: 0.1}", None, "the last evaluation gave no metrics, so there is no auc"),
        ("{metric: calibration, at_most: 1}", None, "gave no metrics"),
        ("{metric: auc, over: champion, at_least: -1}", EXACT, "gave no metrics of the champion"),
        ("{metric: auc, over: champion, at_least: -1}", None, "gave no metrics"),
        ("{metric: calibration, at_most: 1}", replace(EXACT, calibration=()), "no group of held-out rows"),
        (
            "{metric: calibration, at_most: 1}",
            replace(NOISY, noise_std=STD | {"group": 6.0}),
            "noise hides groups that may have 2% of the held-out rows, and so any gap",
        ),
    ],
)
def test_what_is_not_there_does_not_pass(gate: str, metrics: ScoreMetrics | None, reason: str) -> None:
    found = verdict(f"[{gate}]", metrics)
    assert not found.passed
    assert found.gates[0].value is None
    assert reason in found.failures[0]


def test_a_figure_that_is_no_number_does_not_pass() -> None:
    found = verdict("[{metric: log_loss, at_most: 1}]", replace(EXACT, log_loss=1e300))
    assert not found.passed


def test_a_plan_without_gates_validates_nothing() -> None:
    plan = read_document(TEXT, Plan, "plan.yaml")
    subject = Subject(
        ref="private@1", digest="ab" * 32, run=run_id("run-0123456789abcdef"), plan=plan, contract=CONTRACT
    )
    found = judge(subject, Evidence(metrics=json.loads(json.dumps(asdict(EXACT)))))
    assert not found.passed
    assert "the plan has no gates" in found.failures[0]


def test_a_rule_that_blocks_does_so_whatever_the_figures_are() -> None:
    rules = (
        PolicyFinding(rule="documented", holds=True),
        PolicyFinding(rule="owner", holds=False, words="name one"),
    )
    found = verdict("[{metric: auc, at_least: 0.1}]", EXACT, (), *rules)
    assert found.gates[0].passed
    assert not found.passed
    assert found.failures == ("rule owner does not hold: name one",)
    assert verdict("[{metric: auc, at_least: 0.1}]", EXACT, (), rules[0]).passed


@pytest.mark.parametrize(
    ("aucs", "spread"), [((0.5, 0.7, 0.72, 0.71), 0.02), ((0.7, 0.74), 0.04), ((0.7,), None), ((), None)]
)
def test_stability_is_about_the_last_three_evaluations(aucs: tuple[float, ...], spread: float | None) -> None:
    found = verdict("[{metric: stability, at_most: 0.03}]", EXACT, aucs, text=EXACTLY)
    assert found.gates[0].value == (None if spread is None else pytest.approx(spread))
    assert found.passed == (spread is not None and spread <= 0.03)


def test_earlier_rounds_do_not_stand_for_a_model_without_metrics() -> None:
    found = verdict("[{metric: stability, at_most: 0.03}]", None, (0.7, 0.7, 0.71), text=EXACTLY)
    assert not found.passed
    assert "the last evaluation gave no metrics, so there is no stability" in found.failures[0]


def test_a_group_that_may_be_large_enough_but_for_noise_shows_its_gap() -> None:
    nearly = replace(NOISY, calibration=(*CALIBRATION[:2], CalibrationBin(0.9, 0.1, 18)), rows=998)
    assert verdict("[{metric: calibration, at_most: 1}]", nearly).gates[0].value == pytest.approx(0.8)


def test_noise_does_not_hide_the_worst_group_from_the_gate() -> None:
    """Scores that say nothing, whose highest group has 2.5 % of the rows and a gap of nearly one half: noise hides it most of the time."""
    rows = np.zeros((2, 32), dtype=np.int64)
    rows[:, 14:18], rows[:, 30] = 150, 15
    rng, wrong = np.random.default_rng(7), 0
    exact = noisy_metrics(rows, 0.0)
    gap = max(abs(each.mean_score - each.observed) for each in exact.calibration)
    for _ in range(100):
        seen = noisy_metrics(rows + np.rint(rng.normal(0.0, 10.0, rows.shape)).astype(np.int64), 10.0)
        judged = verdict("[{metric: calibration, at_most: 1}]", seen, text=MANY_BINS).gates[0].judged
        wrong += judged is not None and judged < gap
    assert wrong <= 5


def test_epsilon_is_what_the_whole_plan_costs() -> None:
    found = verdict("[{metric: epsilon, at_most: 9}]", EXACT)
    plan = plan_with("[{metric: epsilon, at_most: 9}]")
    planned = releases_of(plan, CONTRACT)
    assert planned is not None
    assert found.gates[0].value == forecast(planned, plan.privacy).epsilon
    assert found.passed
    assert not verdict("[{metric: epsilon, at_most: 1}]", EXACT).passed


def test_an_exempt_stage_has_no_epsilon() -> None:
    text = TEXT.replace("training: 1.5, evaluation: 2.0}", "training: 1.5}\n  exempt: [evaluation]")
    found = verdict("[{metric: epsilon, at_most: 50}]", EXACT, text=text)
    assert "released without noise, so no epsilon is finite" in found.failures[0]


def test_a_verdict_survives_the_log_and_is_told_from_another() -> None:
    found = verdict("[{metric: auc, at_least: 0.7}, {metric: epsilon, at_most: 9}]", NOISY)
    again = Verdict.from_canonical(found.canonical)
    assert again.is_like(found)
    last_bits = _with(
        found, lambda facts: facts["gates"][1].update(value=facts["gates"][1]["value"] * (1 + 1e-13))
    )
    assert last_bits.is_like(found)
    for change in (
        lambda facts: facts.update(passed=False),
        lambda facts: facts["gates"][0].update(value=0.76),
        lambda facts: facts["gates"].pop(),
        lambda facts: facts["evidence"].update(aucs=[0.7]),
        lambda facts: facts.update(plan="cd" * 32),
    ):
        assert not _with(found, change).is_like(found)


def _with(found: Verdict, change: Any) -> Verdict:
    facts = json.loads(found.canonical)
    change(facts)
    return Verdict.model_validate_json(json.dumps(facts), strict=True)


@pytest.mark.parametrize(
    "metrics",
    [
        {"auc": 0.5},
        asdict(EXACT) | {"auc": "high"},
        asdict(EXACT) | {"auc": None},
        asdict(EXACT) | {"champion": 5},
        asdict(EXACT) | {"noise_std": {}},
        asdict(EXACT) | {"noise_std": 0.1},
        asdict(EXACT) | {"auc": 10**400},
    ],
)
def test_metrics_that_cannot_be_read_are_said_so(metrics: dict[str, Any]) -> None:
    plan = plan_with("[{metric: auc, at_least: 0.7}]")
    subject = Subject(
        ref="private@1", digest="ab" * 32, run=run_id("run-0123456789abcdef"), plan=plan, contract=CONTRACT
    )
    with pytest.raises(UsageError, match="the recorded metrics of private@1 cannot be read"):
        judge(subject, Evidence(metrics=metrics))


@pytest.mark.parametrize("metrics", [{}, {"auc": "high"}, {"auc": None}])
def test_rounds_that_cannot_be_read_are_said_so(metrics: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="the recorded metrics of a round cannot be read"):
        Evidence.of_rounds({1: metrics, 2: asdict(EXACT)}, 2)


def test_a_gate_says_itself_in_words() -> None:
    assert Gate(metric="auc", over="champion", at_least=0.0).words == "auc over the champion's at least 0"
    assert Gate(metric="log_loss", at_most=0.5).words == "log_loss at most 0.5"
