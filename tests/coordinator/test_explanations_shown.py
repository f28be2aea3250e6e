"""Explanations as people read them: the command, the evidence and the console say the same figures, and the same about what cannot be said."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, replace
from html import unescape
from typing import Any

import pytest
from sqlalchemy import select

from coordinator.db import writing
from coordinator.db.schema import Model, Round
from coordinator.governance.evidence.documents import EvidenceKind, document
from coordinator.governance.evidence.forms import Form
from coordinator.governance.evidence.story import Story, Told
from coordinator.registry.explanations import Explained, explained, facts_of, sentences
from protos.log_run_events import RoundEvaluated
from strategies.analytics.histograms import ScoreMetrics
from strategies.analytics.panels import Panels
from tests.coordinator.cli_for_tests import Command
from tests.coordinator.console_deployed_for_tests import Desk, at, covenant
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.test_evidence import Evidenced, plain, shown_by, unprotected
from tests.protos.test_gates import EXACT
from tests.strategies.analytics.explanations_for_tests import contributions, panel

pytestmark = pytest.mark.slow

__all__ = ["at", "covenant", "unprotected"]
NOISE = 5.0
NAMES = ("debt", "<b>income</b>", "term", "age")
PANEL = panel(
    [contributions(seed, 4000, (0.8, 0.4, 0.38, 0.0), (0.2, 0.0, -0.1, 0.0)) for seed in (1, 2)],
    noise_std=NOISE,
    features=NAMES,
)
FACTS = json.loads(json.dumps(asdict(Panels(noise_std=NOISE, attributions=PANEL))))
PANELS = Panels(noise_std=NOISE, attributions=PANEL)
METRICS = replace(EXACT, panels=PANELS)
BINS = 8


def expected(rounds: int = 0) -> Explained:
    return explained(PANELS, dict.fromkeys(range(1, rounds + 1), PANELS), BINS)


def with_panels(at: Desk, panels: Mapping[str, Any] | None = FACTS) -> int:
    """A version whose metrics have them; how many rounds of its run are evaluated, which then have them too."""
    at.registered(1)
    with writing(at.works.centre.engine, "a test") as session:
        row = session.scalars(select(Model).where(Model.name == NAME)).one()
        row.metrics = {**(row.metrics or {}), "panels": panels}
        rounds = [
            each
            for each in session.scalars(select(Round).where(Round.run_id == row.run_id))
            if each.metrics is not None
        ]
        for each in rounds:
            each.metrics = {**each.metrics, "panels": panels}
        return len(rounds)


# --- the command ------------------------------------------------------------------------------------------------------------


def test_command_says_figures_order_agreement_and_direction(at: Desk, covenant: Command) -> None:
    rounds = with_panels(at)
    left, out, err = covenant("model", "explain", f"{NAME}@1", "--json")
    assert left == 0, err
    told = json.loads(out)
    facts = facts_of(expected(rounds))
    assert told["features"] == facts["features"]
    assert told["parts"] == facts["parts"]
    assert len(told["rounds"]) == max(0, rounds - 1)
    debt = told["features"][0]
    assert (debt["feature"], debt["ranks"], debt["on_balance"]) == ("debt", [1, 1], "raises")
    assert debt["absolute"]["low"] < debt["absolute"]["value"] < debt["absolute"]["high"]
    assert told["features"][-1]["seen"] is False
    assert {each["direction"] for each in told["directions"]} <= {
        "raises",
        "lowers",
        "raises and lowers",
        "neither",
        None,
    }
    assert told["directions"]


def test_command_prints_the_same_for_people_without_markup_of_others(at: Desk, covenant: Command) -> None:
    with_panels(at)
    left, out, err = covenant("model", "explain", f"{NAME}@1")
    assert (left, out) == (0, "")
    shown = " ".join(err.split())
    for each in (
        "debt moves scores most: by ",
        "the order of ",
        "<b>income</b>",
        "how many rows that shortened is not",
        "a higher ",
    ):
        assert each in shown


def test_command_says_that_nothing_was_released(at: Desk, covenant: Command) -> None:
    with_panels(at, None)
    left, out, _ = covenant("model", "explain", f"{NAME}@1", "--json")
    assert left == 0
    told = json.loads(out)
    assert "no contributions of features were released" in told["cannot"]
    assert told["features"] == []
    assert told["directions"], "the model itself needs no release"


# --- in words ---------------------------------------------------------------------------------------------------------------


def test_words_name_the_first_and_what_is_open() -> None:
    said = list(sentences(expected()))
    assert said[0].startswith("debt moves scores most: by ")
    assert (
        "on balance over these rows, against the reference applicant, scores are moved up by debt, and down by term"
        in said
    )
    assert any("rank correlation of" in each for each in said)


def test_words_do_not_name_a_first_that_is_open() -> None:
    even = panel([contributions(1, 2000, (0.4, 0.4, 0.4, 0.0))], noise_std=NOISE, features=NAMES)
    found = explained(Panels(noise_std=NOISE, attributions=even), {}, BINS)
    first = next(sentences(found))
    assert first.startswith("which of ")
    assert "moves scores most is open" in first


def test_words_say_that_noise_hides_all() -> None:
    hidden = panel([contributions(1, 2000, (0.01,) * 4)], noise_std=90.0, features=NAMES)
    found = explained(Panels(noise_std=90.0, attributions=hidden), {}, BINS)
    assert next(sentences(found)).startswith("what moves scores cannot be said: noise")


# --- evidence ---------------------------------------------------------------------------------------------------------------


def with_attributions(story: Story) -> Story:
    """The same log, in which each evaluation released contributions."""
    told = list[Told]()
    for each in story.told:
        what = each.what
        if isinstance(what, RoundEvaluated) and what.metrics is not None:
            what = what.model_copy(update={"metrics": {**what.metrics, "panels": FACTS}})
        told.append(replace(each, what=what))
    return replace(story, told=tuple(told))


def test_evidence_has_every_figure_in_all_forms(unprotected: Evidenced) -> None:
    story = with_attributions(unprotected.story)
    one = document(story, EvidenceKind.CARD)
    facts = {each.name: each for each in one.facts()}
    found = expected().explanation
    assert found is not None
    for each in found.features:
        assert facts[f"explanations.{each.feature}.absolute"].value == each.absolute.value
        assert facts[f"explanations.{each.feature}.signed"].value == each.signed.value
    told = {each.seq for each in story.told if isinstance(each.what, RoundEvaluated)}
    assert len(told) == 3
    assert set(facts["explanations.debt.rank"].entries) == told
    keys = ("rank", "absolute", "absolute.interval", "share", "share.interval", "signed", "signed.interval")
    names = [f"explanations.{feature}.{key}" for feature in NAMES for key in keys]
    names += [f"explanations.agreement.{each}.correlation" for each in (1, 2, 3)]
    for form in Form:
        text = shown_by(one, form)
        assert "What moves scores" in text, form
        assert "debt moves scores most: by" in text
        for name in names:
            assert plain(facts[name].shown) in text, (form, name)
    assert "How much each feature moves scores" not in {each.what for each in one.missing()}


def test_evidence_without_contributions_says_what_would_supply_them(unprotected: Evidenced) -> None:
    lacks = {each.what: each.supply for each in document(unprotected.story, EvidenceKind.DOSSIER).missing()}
    assert "evaluation.explanations in the plan" in lacks["How much each feature moves scores"]


# --- the console ------------------------------------------------------------------------------------------------------------


def test_console_shows_sentences_picture_and_a_table_as_csv(at: Desk) -> None:
    with_panels(at)
    browser = at.pages.browser("auditor-1")
    page = browser.get(f"/models/{NAME}@1")
    assert page.status_code == 200
    assert "debt moves scores most: by" in unescape(page.text)
    assert "&lt;b&gt;income&lt;/b&gt;" in page.text
    assert "<b>income" not in page.text
    assert 'id="explanations-chart"' in page.text
    told = browser.get(f"/models/{NAME}@1?table=explanations&format=csv")
    lines = {each["Feature"]: each for each in csv.DictReader(io.StringIO(told.text))}
    found = expected().explanation
    assert found is not None
    assert set(lines) == set(NAMES)
    for each in found.features:
        assert float(lines[each.feature]["Logits a row"]) == pytest.approx(each.absolute.value)
    agreement = browser.get(f"/models/{NAME}@1?table=explanations-agreement&format=csv")
    assert "first half of the rows and second half of the rows" in agreement.text


def test_console_without_contributions_has_no_such_part(at: Desk) -> None:
    with_panels(at, None)
    assert "What moves scores" not in at.pages.browser("auditor-1").get(f"/models/{NAME}@1").text


def test_recorded_metrics_are_read_back() -> None:
    kept = ScoreMetrics.from_facts(json.loads(json.dumps(asdict(METRICS))))
    assert explained(kept.panels, {}, BINS) == expected()
