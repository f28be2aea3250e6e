"""Panels in a plan: what goes together, what is refused in words, and that a plan without them is what it was."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest

from protos.approvals import PlanEvidence
from protos.documents import DocumentError, read_document
from protos.panels_told import panels_of, require_panels
from protos.plan import Plan
from protos.plan_costs import guarantee_of
from protos.plan_draft import kind_of, written
from protos.plan_explanation import explain
from protos.plan_fit import check_contract, check_plan
from protos.plan_panels import MOST_CELLS, evaluation_cells, part_of_site
from protos.plan_privacy import Privacy
from protos.plan_releases import releases_of
from protos.policy_facts import plan_facts
from strategies.analytics.histograms import ScoreMetrics, metrics_from
from strategies.analytics.panels import NOT_GIVEN, Panels
from strategies.errors import Refused, UsageError
from strategies.ids import site_name
from tests.client.panels_for_tests import CONTRACT, panelled
from tests.client.private_for_tests import private_plan
from tests.protos.private_for_tests import CUSTOMERS, LOCAL, contract_for, plan_of

RECORDED = {
    "distributed": (
        (),
        "6a1586a2d97c7f83c3da96050e7057633af30c093c1dab8be877862842f8e74b",
        "96d4edf747dc80a1f8328ed6eef832f971ced7062797cd548a3e7ee3a920984b",
    ),
    "local": (
        LOCAL,
        "7498e306c54d3e33a2f634284a2d6721fd1a2db8bac210123479f3cfbe2f0f28",
        "4684a0003b2a5e3611069530b8db6fad471f83809fc6321b0525d430fdca1bcb",
    ),
    "customers": (
        CUSTOMERS,
        "fbc430277a628c2f525961e318f70c8d21bdd92fe5af050f2700b6b5ef940288",
        "2c47f6d5a33542bbe50e314e4e90a91e4fcf5fc7828f8ba1cd81a5311b6d243a",
    ),
}
"""Digests of plans and of their evaluation releases, from before there were panels."""


@pytest.mark.parametrize(("changes", "plan_digest", "release_digest"), RECORDED.values(), ids=RECORDED.keys())
def test_a_plan_without_panels_has_the_digest_and_the_release_that_it_had(
    changes: tuple[tuple[str, str], ...], plan_digest: str, release_digest: str
) -> None:
    plan = plan_of(*changes)
    releases = releases_of(plan, contract_for(plan))
    assert releases is not None
    assert (plan.digest, releases.evaluate.digest) == (plan_digest, release_digest)


def test_panels_cost_nothing_and_every_count_has_more_noise() -> None:
    plan, plain = panelled("rows"), private_plan({"epsilon: 9.0": "epsilon: 49.0"})
    found, bare = releases_of(plan, CONTRACT), releases_of(plain, CONTRACT)
    assert found is not None
    assert bare is not None
    assert isinstance(plan.privacy, Privacy)
    unit = plan.privacy.unit.unit
    costs = [guarantee_of({each.evaluate: 1}, plan.privacy.limit, unit).epsilon for each in (found, bare)]
    assert costs[0] == pytest.approx(
        costs[1], rel=1e-5
    )  # more samplers' distance from their law, which delta has room for
    deviations = [each.evaluate.variance**0.5 for each in (found, bare)]
    assert deviations[0] / deviations[1] == pytest.approx(256 * (4 * 5 + 3) ** 0.5)
    assert found.evaluate.what == "evaluation counts with groups and attributions and profile"
    check_plan(plan, CONTRACT)


def test_the_dimension_is_that_of_all_blocks() -> None:
    cells = evaluation_cells(panelled("rows"), CONTRACT)
    assert cells.dimension == 2 * 8 + (3 + 3) * 2 * 4 + 2 + 2 * 2 * 3 + (6 + 6 + 3)
    assert cells.groups == (3, 3)


FAIRNESS = "fairness: {decline_at: 0.5, minimum_group: 10, bins: 4}, "
REFUSED: dict[str, tuple[dict[str, str], str]] = {
    "protected without fairness": ({FAIRNESS: ""}, "write both, or neither"),
    "fairness without protected": ({"\nprotected: [sex, veteran]": ""}, "write both, or neither"),
    "protected as a feature": (
        {"features: [amount, income, term]": "features: [amount, income, sex]"},
        "sex is a feature too",
    ),
    "an odd number of bins": ({"bins: 4": "bins: 5"}, "use an even number"),
    "too small a group": ({"minimum_group: 10": "minimum_group: 9"}, "minimum_group"),
    "a threshold beyond the bins": ({"decline_at: 0.5": "decline_at: 0.001"}, "decline_at"),
    "groups of sites in mode central": (
        {"mode: distributed": "mode: central", "parts: none": "parts: sites"},
        "use privacy mode distributed or local",
    ),
    "groups of sites without noise": (
        {
            "evaluation: 2.0}": "training: 1.5}",
            "training: 1.5, ": "",
            "  retries: 2": "  retries: 2\n  exempt: [evaluation]",
            "parts: none": "parts: sites",
        },
        "use privacy mode distributed or local",
    ),
    "groups of three sites": (
        {"[east, north, south, west]": "[north, south, west]", "parts: none": "parts: sites"},
        "invite at least 4",
    ),
    "a weight beyond reason": (
        {"  seed: 1": "  seed: 1\n  reweigh: {attribute: sex, weights: {f: {negative: 11.0}}}"},
        "negative",
    ),
}


@pytest.mark.parametrize(("changes", "words"), REFUSED.values(), ids=REFUSED.keys())
def test_panels_that_do_not_go_together_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(DocumentError, match=words):
        changed_plan(changes)


def changed_plan(changes: dict[str, str]) -> Plan:
    """The plan with all panels and no parts, with some of its text replaced."""
    from tests.client.panels_for_tests import PANELS
    from tests.client.private_for_tests import TEXT

    text = TEXT
    for old, new in (PANELS | {"epsilon: 9.0": "epsilon: 49.0", "PARTS": "none"} | changes).items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return read_document(text, Plan, "plan.yaml")


UNFIT: dict[str, tuple[dict[str, str], str]] = {
    "an attribute that is not protected": ({"[sex, veteran]": "[sex, amount]", "features: [amount, income, term]": "features: [income, term]"}, "amount is no protected attribute"),
    "no column at all": ({"[sex, veteran]": "[sex, shoe]"}, "shoe is no protected attribute"),
    "a number": ({"[sex, veteran]": "[sex, birth]"}, "birth is a number in loans@1, which has no groups"),
    "a group that is none": (
        {"  seed: 1": "  seed: 1\n  reweigh: {attribute: sex, weights: {q: {negative: 2.0}}}"},
        "reweighs group 'q' of sex",
    ),
    "reweighing by a feature": (
        {"  seed: 1": "  seed: 1\n  reweigh: {attribute: nothing, weights: {q: {negative: 2.0}}}"},
        "nothing is no protected attribute",
    ),
    "a model too large for exact attributions": (
        {"{kind: logistic}": "{kind: mlp, hidden: [256, 256]}"},
        "asks for explanations of a model with hidden layers",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "words"), UNFIT.values(), ids=UNFIT.keys())
def test_panels_that_the_contract_has_not_are_refused(changes: dict[str, str], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_contract(changed_plan(changes), CONTRACT)


def test_too_many_cells_are_refused() -> None:
    words = [f"w{each}" for each in range(1000)]
    column = CONTRACT.columns["sex"].model_copy(update={"vocabulary": tuple(words)})
    large = type(CONTRACT).from_canonical(
        CONTRACT.model_copy(update={"columns": {**CONTRACT.columns, "sex": column}}).canonical
    )
    with pytest.raises(UsageError, match=rf"at most {MOST_CELLS} are summed up"):
        check_contract(changed_plan({"bins: 4": "bins: 12"}), large)
    check_contract(changed_plan({}), large)


def test_the_plan_says_in_words_and_facts_what_is_read_and_released() -> None:
    plan = panelled("rows")
    (evaluated,) = [
        each for each in explain(plan, CONTRACT, in_full=False).stages if each.stage == "evaluate"
    ]
    for words in ("by group of sex, veteran", "clipped to 1.5, for each half", "in 5 bins"):
        assert words in evaluated.what
    facts = plan_facts(plan, CONTRACT, PlanEvidence())
    assert facts["plan.protected"] == ["sex", "veteran"]
    assert facts["plan.explanations"] is facts["plan.profile"] is True
    assert facts["plan.columns"] == ["amount", "income", "term"]


def test_groups_of_sites_are_of_two_at_least_and_public() -> None:
    parts = [part_of_site(panelled("sites"), site_name(each)) for each in ("east", "north", "south", "west")]
    assert parts == [0, 1, 0, 1]


# --- what is told ------------------------------------------------------------------------------------------------------


def noise_of(plan: Plan) -> float:
    """Of a count, where the fewest honest sites are left."""
    releases = releases_of(plan, CONTRACT)
    return (
        0.0
        if releases is None
        else math.sqrt(releases.evaluate.variance) / evaluation_cells(plan, CONTRACT).steps
    )


def told(plan: Plan, seed: int = 1, noise: float | None = None) -> Panels:
    cells = evaluation_cells(plan, CONTRACT)
    total = np.random.default_rng(seed).integers(100, 400, cells.dimension) * cells.steps
    panels = panels_of(
        plan, CONTRACT, cells.blocks(total), (noise_of(plan) if noise is None else noise) * cells.steps
    )
    assert panels is not None
    return panels


def metrics(panels: Panels | None) -> ScoreMetrics:
    return replace(metrics_from(np.full((2, 8), 50)), panels=panels)


def test_panels_are_read_in_counts_and_logits_and_back_through_json() -> None:
    plan = panelled("rows")
    cells = evaluation_cells(plan, CONTRACT)
    total = np.zeros(cells.dimension, dtype=np.int64)
    blocks = cells.blocks(total)
    blocks.groups[0][:] = 20 * 512 + 3
    blocks.attributions[1, 1, 2] = -256
    blocks.part_rows[:] = 70 * 512
    blocks.profile[0][0] = 4 * 256
    found = panels_of(plan, CONTRACT, blocks, 1024.0)
    assert found is not None
    assert found.noise_std == 2.0
    assert found.groups[0].counts["f"] == ((20, 20, 20, 20), (20, 20, 20, 20))
    assert found.groups[1].suppressed == ("false", "true", NOT_GIVEN)
    assert found.groups[1].counts == {}
    assert found.attributions is not None
    assert found.attributions.signed[1] == (0.0, 0.0, -0.75)
    assert found.attributions.noise_std == 3.0
    assert found.attributions.rows == (70, 70)
    assert found.profile is not None
    assert found.profile.counts["amount"][0] == 4
    assert found.profile.noise_std == 4.0
    again = ScoreMetrics.from_facts(json.loads(json.dumps(asdict(metrics(found)))))
    assert again == metrics(found)
    older = asdict(metrics(None))
    del older["panels"]
    assert ScoreMetrics.from_facts(older) == metrics(None)


def test_recorded_panels_are_held_to_the_plan() -> None:
    plan = panelled("rows")
    good = json.loads(json.dumps(asdict(metrics(told(plan)))))
    require_panels(plan, CONTRACT, good)
    noise = noise_of(plan)
    for share in (1.0, math.sqrt(2.0)):  # two of four sites are honest survivors
        require_panels(plan, CONTRACT, asdict(metrics(told(plan, noise=share * noise))))
    for lie in (0.0, 0.99 * noise, 1.5 * noise):
        with pytest.raises(Refused, match="the panels say that their sums have noise"):
            require_panels(plan, CONTRACT, asdict(metrics(told(plan, noise=lie))))
    require_panels(private_plan(), CONTRACT, asdict(metrics(None)))
    require_panels(private_plan(), CONTRACT, {"auc": 0.7})
    with pytest.raises(Refused, match="has panels, and plan private asks for none"):
        require_panels(private_plan(), CONTRACT, good)
    with pytest.raises(Refused, match="has no panels"):
        require_panels(plan, CONTRACT, asdict(metrics(None)))
    with pytest.raises(Refused, match="a champion has panels"):
        require_panels(plan, CONTRACT, good | {"champion": good})


def _set(*path: Any, value: Any) -> Any:
    def change(panels: dict[str, Any]) -> None:
        at: Any = panels
        for key in path[:-1]:
            at = at[key]
        at[path[-1]] = value

    return change


BROKEN = {
    "another attribute": _set("groups", 0, "attribute", value="income"),
    "a group that the contract does not have": _set("groups", 0, "counts", "q", value=[[1] * 4] * 2),
    "another threshold": _set("groups", 0, "declines", value=1),
    "other edges": _set("groups", 0, "edges", 1, value=0.2),
    "a small group that is told": _set("groups", 0, "counts", "f", value=[[1, 0, 0, 0], [1, 0, 0, 0]]),
    "too few bins": _set("groups", 0, "counts", "f", value=[[400] * 3] * 2),
    "words for counts": _set("groups", 0, "counts", "f", value=[["many"] * 4] * 2),
    "no noise said": _set("noise_std", value=-1.0),
    "another clip": _set("attributions", "clip", value=2.0),
    "other features": _set("attributions", "features", value=["amount", "income", "sex"]),
    "no part": _set("attributions", "rows", value=[10]),
    "a noise of its own": _set("attributions", "noise_std", value=4.0),
    "a profile's noise of its own": _set("profile", "noise_std", value=1.0),
    "other labels": _set("profile", "labels", "term", value=["a", "b", "c"]),
    "a further key": _set("rows", value=[[1, 2, 3]]),
    "nothing at all": _set("groups", value=None),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_panels_of_another_shape_are_refused(change: Any) -> None:
    plan = panelled("rows")
    facts = json.loads(json.dumps(asdict(metrics(told(plan)))))
    change(facts["panels"])
    with pytest.raises(Refused, match="panels of another shape"):
        require_panels(plan, CONTRACT, facts)


@pytest.mark.parametrize("mode", ["none", "local", "distributed"])
def test_a_drafted_plan_takes_no_protected_attribute_and_its_comments_are_what_a_plan_may_say(
    mode: str,
) -> None:
    text = written(
        kind_of(mode), CONTRACT, name="x", purpose="y", members="demo@1", sites=("a", "b", "c", "d")
    )
    drafted = read_document(text, Plan, "plan.yaml")
    assert drafted.features == ("amount", "income", "term")
    check_contract(drafted, CONTRACT)
    said = text.replace("  # explanations", "  explanations").replace("  # profile", "  profile")
    said = said.replace("  # fairness", "  fairness").replace(
        "\nsites:", '\nprotected: ["sex", "veteran"]\nsites:', 1
    )
    check_contract(read_document(said, Plan, "plan.yaml"), CONTRACT)
