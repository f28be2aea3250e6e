"""From rows with a protected attribute at four sites to a gate's verdict: the sites' own counts and noise, and the centre's own reading."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from functools import cache

import fairlearn.metrics as fl
import numpy as np
import pyarrow as pa
import pytest

from client.data import Table, table_from
from protos.contract import Contract
from protos.documents import read_document
from protos.gates import Evidence, Subject, Verdict, judge
from protos.panels_told import require_panels
from protos.plan import Plan
from simulation.unmasked import UnmaskedRun
from strategies.analytics.comparisons import Metric
from strategies.analytics.fairness import Fairness, fairness_of
from strategies.analytics.group_rates import Rate
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import NOT_GIVEN
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName, run_id, site_name
from strategies.sampling import held_out

SITES = tuple(map(site_name, ("east", "north", "south", "west")))
CONTRACT = read_document(
    """\
covenant: contract/v1
name: loans
version: 1
key: id
target: {column: status, positive: bad, negative: good}
columns:
  debt: {type: number, unit: USD, range: [0, 10]}
  band: {type: category, vocabulary: [young, old, rare]}
protected: [band]
""",
    Contract,
    "loans.yaml",
)
PLAN = """\
covenant: plan/v1
name: fair
purpose: study
contract: loans@1
features: [debt]
protected: [band]
sites: {members: study@1, invite: [east, north, south, west], minimum: 3, join_within: 1m}
model: {kind: logistic}
training:
  TRAINING
  rounds: 2
  round_deadline: 1m
  seed: 1
aggregation: {mode: secure}
privacy: PRIVACY
evaluation:
  every: 2
  score_bins: 8
  holdout: {by: id, share: 0.5, salt: "1"}
  fairness: {decline_at: 0.5, minimum_group: 50, bins: 4}
gates:
  - {metric: adverse_impact_ratio, group: band, only: [young], reference: old, at_least: 0.5}
  - {metric: equalised_odds, group: band, at_most: 0.5}
approvals: {privacy_officer: 0, model_risk: 0}
"""
PRIVATE = PLAN.replace(
    "TRAINING",
    "component: tabular/2\n  algorithm: dp-fedsgd\n  expected_batch: 64\n  nominal_rows: 1000\n  server_optimiser: {kind: fedavgm, learning_rate: 3.0, momentum: 0.9}",
).replace(
    "PRIVACY",
    "{mode: distributed, unit: {kind: record}, limit: {epsilon: 20.0, delta: 1.0e-5}, noise: {preparation: 4.0, training: 1.0, evaluation: 4.0}, retries: 0}",
)
EXACT = PLAN.replace(
    "TRAINING",
    "component: tabular/1\n  algorithm: fedavg\n  local_epochs: 2\n  batch_size: 32\n  learning_rate: 0.5",
).replace("PRIVACY", "{mode: none}")
SHARES = {"young": 0.2, "old": 0.75, None: 0.05}
BAD = {"young": 0.35, "old": 0.1, None: 0.2, "rare": 0.3}


@cache
def rows() -> pa.Table:
    """Young applicants have more debt and turn out bad more often; three are of a group of their own."""
    draw = np.random.default_rng(3)
    band = [*draw.choice(np.array(list(SHARES), dtype=object), 8000, p=list(SHARES.values())), *["rare"] * 3]
    bad = draw.random(len(band)) < np.array([BAD[each] for each in band])
    debt = np.clip(draw.normal(4.0 + 2.5 * bad + np.array([each == "young" for each in band]), 1.5), 0, 10)
    return pa.table(
        {
            "id": [f"a{each}" for each in range(len(band))],
            "status": np.where(bad, "bad", "good"),
            "debt": debt,
            "band": pa.array(band, pa.string()),
        }
    )


@cache
def tables() -> dict[SiteName, Table]:
    parts = np.array_split(np.random.default_rng(1).permutation(rows().num_rows), len(SITES))
    return {
        site: table_from(rows().take(part), CONTRACT, renamed={}, named=site, protected=("band",))
        for site, part in zip(SITES, parts, strict=True)
    }


def run(text: str, seed: int) -> tuple[Plan, ScoreMetrics, Vector, Scaling]:
    plan = read_document(text, Plan, "plan.yaml")
    made = UnmaskedRun(plan, CONTRACT, tables(), np.random.default_rng(seed).bytes)
    model, scaling = made.train()
    return plan, made.evaluate(model, scaling), model, scaling


def said(metrics: ScoreMetrics) -> Fairness:
    assert metrics.panels is not None
    (panel,) = metrics.panels.groups
    return fairness_of(panel, metrics.panels.noise_std, reference="old")


def judged(plan: Plan, metrics: ScoreMetrics) -> Verdict:
    subject = Subject(
        ref="fair@1", digest="ab" * 32, run=run_id("run-0123456789abcdef"), plan=plan, contract=CONTRACT
    )
    return judge(subject, Evidence(metrics=json.loads(json.dumps(asdict(metrics)))))


def test_exact_counts_of_four_sites_are_fairlearns_of_all_rows() -> None:
    plan, metrics, model, scaling = run(EXACT, 1)
    found = said(metrics)
    frame = rows().to_pandas()
    frame = frame[held_out(frame["id"].tolist(), "1", 0.5)]
    spec = CONTRACT.feature_spec(plan.features)
    columns = {"debt": frame["debt"].to_numpy()}
    scores = plan.dense_model(spec.width).probabilities(model, spec.encode(columns, scaling))
    two = frame["band"].isin(["young", "old"]).to_numpy()
    good, approved = (frame["status"] == "good").to_numpy()[two], (scores < 0.5)[two]
    bands = frame["band"].to_numpy()[two]
    young = next(each for each in found.groups if each.group == "young")
    for metric, function in (
        (Metric.DEMOGRAPHIC_PARITY, fl.demographic_parity_difference),
        (Metric.DEMOGRAPHIC_PARITY_RATIO, fl.demographic_parity_ratio),
        (Metric.EQUAL_OPPORTUNITY, fl.equal_opportunity_difference),
        (Metric.EQUALISED_ODDS, fl.equalized_odds_difference),
    ):
        interval = young.against[metric].interval
        assert interval is not None
        theirs = function(good, approved, sensitive_features=bands)
        assert abs(interval.value) == pytest.approx(theirs, abs=1e-12), metric


def test_group_of_three_and_those_that_would_give_it_away_are_told_in_words_only() -> None:
    plan, metrics, *_ = run(EXACT, 1)
    found = said(metrics)
    assert "rare" in found.suppressed
    assert len(found.suppressed) > 1, "the total would tell the one that is hidden"
    require_panels(plan, CONTRACT, json.loads(json.dumps(asdict(metrics))))
    named, all_groups = judged(plan, metrics).gates
    assert named.passed
    assert not all_groups.passed
    assert "rare" in all_groups.reason
    assert all_groups.value is None


def test_private_counts_say_who_is_treated_how() -> None:
    plan, metrics, *_ = run(PRIVATE, 5)
    found = said(metrics)
    assert found.noise_std > 0.0
    assert "rare" in found.suppressed
    require_panels(plan, CONTRACT, json.loads(json.dumps(asdict(metrics))))
    young = next(each for each in found.groups if each.group == "young")
    difference = young.against[Metric.BASE_RATE].interval
    assert difference is not None
    assert 0.0 < difference.low <= BAD["young"] - BAD["old"] <= difference.high
    verdict = judged(plan, metrics)
    assert Verdict.from_canonical(verdict.canonical).is_like(verdict)
    assert all(each.noise_std is None for each in verdict.gates)


def test_suppressed_counts_in_a_log_that_are_told_after_all_are_refused() -> None:
    plan, metrics, *_ = run(PRIVATE, 5)
    assert metrics.panels is not None
    (panel,) = metrics.panels.groups
    told = {**panel.counts, "rare": ((1, 1, 1, 0), (0, 0, 0, 0))}
    hidden = tuple(each for each in panel.suppressed if each != "rare")
    leaking = replace(
        metrics,
        panels=replace(metrics.panels, groups=(replace(panel, counts=told, suppressed=hidden),)),
    )
    with pytest.raises(Exception, match="panels of another shape"):
        require_panels(plan, CONTRACT, json.loads(json.dumps(asdict(leaking))))


@pytest.mark.slow
def test_intervals_of_private_runs_hold_the_truth_of_all_rows() -> None:
    frame = rows().to_pandas()
    truth = {
        name: float((frame["status"][frame["band"] == name] == "bad").mean()) for name in ("young", "old")
    }
    tries, held = 60, dict.fromkeys(truth, 0)
    for seed in range(tries):
        metrics = run(PRIVATE.replace('salt: "1"', f'salt: "{seed}"'), seed)[1]
        for each in said(metrics).groups:
            if each.group in truth:
                interval = each.rates[Rate.BASE].interval
                assert interval is not None
                held[each.group] += interval.low <= truth[each.group] <= interval.high
    assert min(held.values()) >= 0.95 * tries - 4 * (tries * 0.05 * 0.95) ** 0.5


def test_rows_without_a_value_are_their_own_group() -> None:
    found = said(run(PRIVATE, 9)[1])
    assert NOT_GIVEN in {*found.suppressed, *(each.group for each in found.groups)}
    assert not any(each.against for each in found.groups if each.group == NOT_GIVEN)
