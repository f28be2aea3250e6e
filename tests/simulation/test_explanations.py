"""From rows at four sites to what moves scores: the sums of a federation are captum's integrated gradients, clipped, and the private ones are near."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import cache

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pytest

from client.data import Table, table_from
from coordinator.deploy.scoring.offline import integrated_gradients
from coordinator.registry.explanations import Explained, explained
from protos.contract import Contract
from protos.documents import read_document
from protos.explanation_gates import agreement_of_parts
from protos.panels_told import require_panels
from protos.plan import Plan
from simulation.unmasked import UnmaskedRun
from strategies.analytics.contributions import by_feature, reference_of
from strategies.analytics.directions import Direction, directions
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.shares import Interval
from strategies.encoding import Vector
from strategies.features import Scaling
from strategies.ids import SiteName, site_name
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
  income: {type: number, unit: USD, range: [0, 10], missing: indicator}
  term: {type: category, vocabulary: [short, long]}
  age: {type: number, unit: years, range: [18, 90]}
""",
    Contract,
    "loans.yaml",
)
CLIP = 2.0
EXACT = f"""\
covenant: plan/v1
name: explained
purpose: study
contract: loans@1
features: [debt, income, term, age]
sites: {{members: study@1, invite: [east, north, south, west], minimum: 3, join_within: 1m}}
model: MODEL
training:
  component: tabular/1
  algorithm: fedavg
  local_epochs: 3
  batch_size: 32
  learning_rate: 0.2
  rounds: 3
  round_deadline: 1m
  seed: 1
aggregation: {{mode: secure}}
privacy: {{mode: none}}
evaluation:
  every: 3
  score_bins: 8
  holdout: {{by: id, share: 0.5, salt: "1"}}
  explanations: {{clip: {CLIP}, parts: PARTS}}
gates:
  - {{metric: explanation_stability, at_least: 0.2}}
approvals: {{privacy_officer: 0, model_risk: 0}}
"""
TRAINING = EXACT[EXACT.index("  component") : EXACT.index("  rounds")]
PRIVATE = EXACT.replace(
    TRAINING,
    "  component: tabular/2\n  algorithm: dp-fedsgd\n  expected_batch: 64\n  nominal_rows: 250\n  server_optimiser: {kind: fedavgm, learning_rate: 3.0, momentum: 0.9}\n",
).replace(
    "{mode: none}",
    "{mode: distributed, unit: {kind: record}, limit: {epsilon: 49.0, delta: 1.0e-5}, noise: {preparation: 4.0, training: 1.0, evaluation: 1.0}, retries: 0}",
)
LOGISTIC, NETWORK = "{kind: logistic}", "{kind: mlp, hidden: [6]}"


@cache
def rows(turned: bool = False) -> pa.Table:
    """A higher debt raises the risk, a higher income lowers it, and age does nothing. Debt varies much and income little, or where `turned` the other way round."""
    draw = np.random.default_rng(5 if turned else 4)
    count = 500
    wide, narrow = draw.normal(5.0, 1.5, count), draw.normal(5.0, 0.3, count)
    debt, income = (narrow, wide) if turned else (wide, narrow)
    term = draw.choice(np.array(["short", "long"]), count)
    logit = 1.2 * (debt - 5.0) - 1.0 * (income - 5.0) + 0.4 * (term == "long") - 0.5
    known = draw.random(count) > 0.1
    return pa.table(
        {
            "id": [f"a{each}" for each in range(count)],
            "status": np.where(draw.random(count) < 1.0 / (1.0 + np.exp(-logit)), "bad", "good"),
            "debt": np.clip(debt, 0, 10),
            "income": pa.array(np.clip(income, 0, 10), mask=~known),
            "term": term,
            "age": draw.uniform(18, 90, count),
        }
    )


@cache
def tables(turned: tuple[str, ...] = ()) -> dict[SiteName, Table]:
    """Every site has all of its kind's rows, under ids of its own."""
    found = {}
    for site in SITES:
        made = rows(site in turned)
        made = made.set_column(0, "id", pa.array([f"{site}{each}" for each in made["id"].to_pylist()]))
        found[site] = table_from(made, CONTRACT, renamed={}, named=site)
    return found


def planned(text: str, model: str = LOGISTIC, parts: str = "rows") -> Plan:
    text = text.replace("MODEL", model).replace("PARTS", parts)
    if parts == "none":
        text = text[: text.index("gates:")] + text[text.index("approvals:") :]
    return read_document(text, Plan, "plan.yaml")


def run(plan: Plan, seed: int, turned: tuple[str, ...] = ()) -> tuple[ScoreMetrics, Vector, Scaling]:
    made = UnmaskedRun(plan, CONTRACT, tables(turned), np.random.default_rng(seed).bytes)
    model, scaling = made.train()
    return made.evaluate(model, scaling), model, scaling


def by_captum(plan: Plan, model: Vector, scaling: Scaling) -> npt.NDArray[np.float64]:
    """The contributions of all held-out rows, (n, features) in logits, clipped as the plan says and not rounded."""
    spec = CONTRACT.feature_spec(plan.features)
    layers = plan.dense_model(spec.width).split(model)
    found = []
    for table in tables().values():
        kept = table.rows(np.asarray(held_out(table.keys, "1", 0.5)))
        encoded = spec.encode(kept.columns, scaling).astype(np.float32)
        found.append(by_feature(spec, integrated_gradients(layers, encoded, reference_of(spec), 100)))
    every = np.concatenate(found) / CLIP
    norm = np.sqrt(2.0 * (every**2).sum(axis=1, keepdims=True))
    return np.asarray(CLIP * every / np.maximum(norm, 1.0))


def said(metrics: ScoreMetrics) -> Explained:
    return explained(metrics.panels, {}, 24)


@pytest.mark.slow
@pytest.mark.parametrize("model", [LOGISTIC, NETWORK])
@pytest.mark.parametrize("parts", ["none", "rows"])
def test_exact_sums_are_those_of_captum_but_for_rounding(model: str, parts: str) -> None:
    plan = planned(EXACT, model, parts)
    metrics, weights, scaling = run(plan, 1)
    expected = by_captum(plan, weights, scaling)
    assert metrics.panels is not None
    panel = metrics.panels.attributions
    assert panel is not None
    assert sum(panel.rows) == len(expected)
    # A step is 1/256 of the clip for each row, and captum's quadrature of a network is off by less than that.
    least = len(expected) * CLIP / 256
    absolute, signed = (np.sum(each, axis=0) for each in (panel.absolute, panel.signed))
    np.testing.assert_allclose(signed, expected.sum(axis=0), rtol=0, atol=1.1 * least)
    short = np.abs(expected).sum(axis=0) - absolute
    assert ((-0.1 * least < short) & (short < 1.1 * least)).all()
    found = said(metrics).explanation
    assert found is not None
    for each in found.features:
        mean = float(np.abs(expected[:, plan.features.index(each.feature)]).mean())
        assert each.absolute.low <= mean <= each.absolute.high
    assert found.features[0].feature == "debt"


@pytest.mark.slow
def test_private_sums_find_the_first_and_the_last_and_fit_their_plan() -> None:
    plan = planned(PRIVATE)
    metrics, weights, scaling = run(plan, 2)
    require_panels(plan, CONTRACT, json.loads(json.dumps(asdict(metrics))))
    found = said(metrics)
    assert found.explanation is not None
    names = {each.feature: each for each in found.explanation.features}
    assert (names["debt"].best, names["debt"].worst) == (1, 1)
    expected = by_captum(plan, weights, scaling)
    for name, each in names.items():
        mean = float(np.abs(expected[:, plan.features.index(name)]).mean())
        assert each.absolute.low <= mean <= each.absolute.high, name
    assert isinstance(agreement_of_parts(metrics.panels), Interval)


@pytest.mark.slow
def test_sites_whose_rows_differ_are_found_by_their_parts_and_halves_of_rows_are_not() -> None:
    """At the sites of the second group debt varies as little as income does elsewhere, and the other way round: one model, two explanations."""
    narrow = ("north", "west")
    halves, groups = (
        agreement_of_parts(run(planned(PRIVATE, parts=parts), 3, narrow)[0].panels)
        for parts in ("rows", "sites")
    )
    assert isinstance(halves, Interval)
    assert isinstance(groups, Interval)
    assert groups.high < 1.0, "a pair is in opposite orders, whatever noise and sampling were"
    assert (halves.value, halves.high) == (1.0, 1.0)


@pytest.mark.slow
def test_directions_are_those_that_the_rows_were_made_with() -> None:
    plan = planned(EXACT)
    _, weights, _ = run(plan, 1)
    spec = CONTRACT.feature_spec(plan.features)
    found = {
        each.feature: each
        for each in directions(plan.dense_model(spec.width).split(weights), spec, reference_of(spec))
    }
    assert found["debt"].direction == Direction.RAISES
    assert found["income"].direction == Direction.LOWERS
    assert (found["term"].lowest, found["term"].highest) == ("short", "long")
    assert found["debt"].by > 4 * abs(found["age"].by)
