"""A gate on the stability of explanations: the lower end of the rank correlation between parts decides, and what cannot be said does not pass."""

from __future__ import annotations

import json
from dataclasses import asdict, replace

import pytest
from pydantic import ValidationError

from protos.documents import DocumentError, read_document
from protos.gates import Evidence, GateResult, Subject, judge
from protos.plan import Plan
from protos.plan_fields import _further_back
from protos.plan_gates import Gate
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import AttributionPanel, Panels
from strategies.ids import Digest, run_id
from tests.client.loans_for_tests import CONTRACT
from tests.client.private_for_tests import TEXT
from tests.protos.test_gates import EXACT, plan_with
from tests.strategies.analytics.explanations_for_tests import contributions, panel

SCALES = (0.8, 0.4, 0.15, 0.0)


def parts(second: tuple[float, ...] = SCALES, noise: float = 0.0) -> AttributionPanel:
    return panel([contributions(1, 4000, SCALES), contributions(2, 4000, second)], noise_std=noise, seed=1)


def of(found: AttributionPanel | None) -> ScoreMetrics:
    std = 0.0 if found is None else found.noise_std / found.clip
    return replace(EXACT, panels=Panels(noise_std=std, attributions=found))


def judged(bound: float, metrics: ScoreMetrics | None) -> GateResult:
    one = Gate(metric="explanation_stability", at_least=bound)
    plan = plan_with("[{metric: auc, at_least: 0.1}]").model_copy(update={"gates": (one,)})
    subject = Subject(
        ref="private@1",
        digest=Digest("ab" * 32),
        run=run_id("run-0123456789abcdef"),
        plan=plan,
        contract=CONTRACT,
    )
    facts = None if metrics is None else json.loads(json.dumps(asdict(metrics)))
    (result,) = judge(subject, Evidence(metrics=facts)).gates
    return result


@pytest.mark.parametrize("noise", [0.0, 5.0])
def test_stable_parts_pass_and_planted_instability_does_not(noise: float) -> None:
    stable = judged(0.9, of(parts(noise=noise)))
    assert (stable.passed, stable.value, stable.judged) == (True, 1.0, 1.0)
    turned = judged(0.0, of(parts((0.15, 0.4, 0.8, 0.0), noise)))
    assert (turned.passed, turned.value, turned.judged) == (False, -1.0, -1.0)
    assert turned.reason.startswith("explanation_stability at least 0: it is -1")


def test_a_pair_whose_order_is_open_counts_as_disagreement() -> None:
    """Three pairs of three features, one of them open."""
    found = judged(0.5, of(panel([contributions(each, 4000, (0.8, 0.4, 0.4, 0.0)) for each in (1, 2)])))
    assert found.judged == pytest.approx(1 / 3)
    assert not found.passed
    assert "with 95% confidence at least 0.333333" in found.reason


@pytest.mark.parametrize(
    ("metrics", "reason"),
    [
        (None, "gave no metrics"),
        (EXACT, "gave no contributions in parts"),
        (of(None), "gave no contributions in parts"),
        (of(panel([contributions(1, 4000, SCALES)])), "gave no contributions in parts"),
        (of(parts(noise=500.0)), "it cannot be said: "),
    ],
)
def test_what_cannot_be_said_does_not_pass(metrics: ScoreMetrics | None, reason: str) -> None:
    found = judged(-1.0, metrics)
    assert (found.passed, found.value) == (False, None)
    assert reason in found.reason


def test_agreement_on_two_features_is_none_where_many_are_hidden() -> None:
    """Two strong features are seen, and thirty together as strong are not."""
    scales = (0.4, 0.3, *(0.02,) * 30)
    names = tuple(f"f{each}" for each in range(len(scales)))
    noisy = panel(
        [contributions(each, 3000, scales) for each in (1, 2)], noise_std=25.0, features=names, seed=3
    )
    found = judged(-1.0, of(noisy))
    assert not found.passed
    assert "noise hides features that may have" in found.reason


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"at_most": 0.5}, "better where it is higher"),
        ({"at_least": -1.1}, "explanation_stability lies from -1 to 1 here"),
        ({"at_least": 1.1}, "explanation_stability lies from -1 to 1 here"),
        ({"at_least": 0.5, "over": "champion"}, "of a champion is not measured"),
        ({"at_least": 0.5, "group": "band"}, "is about all rows; leave `group` out"),
    ],
)
def test_gate_that_decides_nothing_is_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        Gate.model_validate({"metric": "explanation_stability", **fields})


@pytest.mark.parametrize(
    ("explained", "known"), [("rows", True), ("sites", True), ("none", False), (None, False)]
)
def test_gate_takes_explanations_in_parts(explained: str | None, known: bool) -> None:
    asked = "" if explained is None else f", explanations: {{clip: 2.0, parts: {explained}}}"
    text = TEXT.replace('share: 0.3, salt: "1"}}', f'share: 0.3, salt: "1"}}{asked}}}')
    text += "gates: [{metric: explanation_stability, at_least: 0.5}]\n"
    if known:
        assert read_document(text, Plan, "plan.yaml").gates
        return
    with pytest.raises(
        DocumentError, match="compares two parts of explanations, which the plan does not have"
    ):
        read_document(text, Plan, "plan.yaml")


@pytest.mark.parametrize(("old", "new", "loosens"), [(0.5, 0.4, True), (0.4, 0.5, False)])
def test_gate_that_asks_for_less_is_told_as_loosening(old: float, new: float, loosens: bool) -> None:
    gates = [Gate(metric="explanation_stability", at_least=each).model_dump() for each in (old, new)]
    assert _further_back((gates[0],), (gates[1],)) is loosens
