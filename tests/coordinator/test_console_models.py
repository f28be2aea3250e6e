"""Models in the console: what is shown of them and to whom, and what is done about them with what was seen."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import replace
from datetime import UTC, datetime
from html import unescape
from itertools import pairwise

import httpx
import pytest

from coordinator.console.pages import model_figures as figures
from coordinator.console.reads import models as reads
from coordinator.registry.versions import get_version
from protos.log_office import CallDenied
from protos.model_notes import NoteKind
from protos.model_stages import Stage
from strategies.analytics.histograms import ScoreMetrics
from tests.coordinator.conftest import RUN
from tests.coordinator.console_deployed_for_tests import HOSTILE, Desk, at, scored, told
from tests.coordinator.console_for_tests import Pages, pages
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.gate_for_tests import passed
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.registry_for_tests import GATED, Registry

__all__ = ["at", "templates"]
_SHOWN = re.compile(r'name="shown" value="([^"]*)"')


def stage(at: Desk, version: int) -> Stage:
    return get_version(at.works.centre.engine, NAME, version).stage


def sight(page: httpx.Response) -> str:
    found = _SHOWN.search(page.text)
    assert found
    return unescape(found[1])


def rows_of(answered: httpx.Response) -> list[dict[str, str]]:
    assert answered.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answered.text)))


def test_without_models_the_page_says_what_to_do(at: Desk) -> None:
    assert "No model is registered yet" in at.pages.browser("auditor-1").get("/models").text


def test_the_list_says_how_far_each_has_come(at: Desk) -> None:
    at.registered(1)
    at.approved(2)
    browser = at.pages.browser("auditor-1")

    rows = rows_of(browser.get("/models?format=csv"))
    assert [(row["Model"], row["Stage"], row["Gate"]) for row in rows] == [
        (f"{NAME}@2", "approved", "passed"),
        (f"{NAME}@1", "candidate", ""),
    ]
    assert rows[0]["Approved by"] == "privacy-1, risk-1"
    assert rows[0]["Good until"] > datetime.now(UTC).isoformat()
    only = browser.get("/models?stage=candidate").text
    assert f"/models/{NAME}@1" in only
    assert f"/models/{NAME}@2" not in only
    assert browser.get("/models?stage=perfect").status_code == 400
    assert browser.get("/models?after=nothing").status_code == 400


def test_a_list_is_paged_by_key(at: Desk) -> None:
    for seed in (1, 2, 3):
        at.registered(seed)
    engine, seen = at.works.centre.engine, list[str]()
    page = reads.page(engine, limit=1)
    assert page.newer is None
    while page.older is not None:
        seen += [each.ref for each in page.rows]
        before, page = page, reads.page(engine, limit=1, after=page.older)
        back = reads.page(engine, limit=1, before=page.newer)
        assert [each.ref for each in back.rows] == [each.ref for each in before.rows]
    assert [*seen, *(each.ref for each in page.rows)] == [f"{NAME}@{number}" for number in (3, 2, 1)]


def test_approvals_from_before_a_quarantine_do_not_show(at: Desk) -> None:
    at.approved(1)
    for to in (Stage.QUARANTINED, Stage.CANDIDATE):
        at.works.move(1, to)
    passed(at.works.centre, NAME, 1)

    (row,) = reads.page(at.works.centre.engine).rows
    assert (row.stage, row.said) == (Stage.VALIDATED, ())


def test_an_alias_and_a_bare_name_lead_to_the_version(at: Desk) -> None:
    at.registered(1)
    at.registered(2)
    browser = at.pages.browser("author-1")
    page = browser.get(f"/models/{NAME}@1")
    browser.post(f"/models/{NAME}@1/name", {"alias": "stable", "shown": sight(page)}, on=f"/models/{NAME}@1")

    assert browser.get(f"/models/{NAME}@stable").url.path == f"/models/{NAME}@1"
    assert browser.get(f"/models/{NAME}").url.path == f"/models/{NAME}@2"
    assert browser.get(f"/models/{NAME}@9").status_code == 400
    page = browser.get(f"/models/{NAME}@1")
    browser.post(
        f"/models/{NAME}@1/name",
        {"alias": "stable", "off": "1", "shown": sight(page)},
        on=f"/models/{NAME}@1",
    )
    assert get_version(at.works.centre.engine, NAME, 1).aliases == ()


def test_every_table_of_a_version_is_a_file(at: Desk) -> None:
    at.approved(1)
    browser = at.pages.browser("risk-1")
    page = browser.get(f"/models/{NAME}@1").text

    names = set(re.findall(r"format=csv&amp;table=([a-z]+)", page))
    assert {"metrics", "verdict", "approvals", "files", "moves"} <= names
    for name in names:
        assert rows_of(browser.get(f"/models/{NAME}@1?format=csv&table={name}"))
    assert browser.get(f"/models/{NAME}@1?format=csv&table=secrets").status_code == 400


def test_a_validated_version_names_who_is_awaited_and_leads_to_the_desk(at: Desk) -> None:
    at.registered(1)
    passed(at.works.centre, NAME, 1)
    page = at.pages.browser("risk-1").get(f"/models/{NAME}@1").text

    assert f'href="http://127.0.0.1:9096/models/{NAME}@1"' in page
    assert "privacy officer: privacy-1" in page
    assert "Open at your desk" not in at.pages.browser("author-1").get(f"/models/{NAME}@1").text


def test_the_verdict_says_what_to_do_rule_by_rule(at: Desk) -> None:
    at.registered(1)
    browser = at.pages.browser("risk-1")
    page = browser.get(f"/models/{NAME}@1")
    assert "The gate has not judged this version" in page.text
    done = browser.post(
        f"/models/{NAME}@1/validate",
        {"why": "the quarter is over", "shown": sight(page)},
        on=f"/models/{NAME}@1",
    )

    assert f"the gate passed {NAME}@1" in done.text
    assert stage(at, 1) is Stage.VALIDATED
    (row,) = rows_of(browser.get(f"/models/{NAME}@1?format=csv&table=verdict"))
    assert (row["Rule"], row["Outcome"]) == ("epsilon at most 20", "passes")


def test_who_may_not_read_models_gets_no_page(at: Desk) -> None:
    at.registered(1)
    for officer in ("operator-1", "admin-1"):
        browser = at.pages.browser(officer)
        for path in ("/models", f"/models/{NAME}@1", "/models/compare", f"/models/from/run/{RUN}"):
            assert browser.get(path).status_code == 403, (officer, path)


def test_only_who_approves_is_offered_to_quarantine_and_only_they_can(at: Desk) -> None:
    at.registered(1)
    engineer, path = at.pages.browser("author-1"), f"/models/{NAME}@1"
    page = engineer.get(path)
    refused = engineer.post(
        f"{path}/move",
        {"to": "quarantined", "confirmed": "quarantine", "why": "x", "shown": sight(page)},
        on=path,
    )

    assert "Quarantine it" not in page.text
    assert "Quarantine it" in at.pages.browser("privacy-1").get(path).text
    assert refused.status_code == 403
    assert stage(at, 1) is Stage.CANDIDATE


def test_a_refused_action_is_told_to_the_log(at: Desk) -> None:
    at.approved(1)
    browser, path = at.pages.browser("author-1"), f"/models/{NAME}@1"
    refused = browser.post(f"{path}/name", {"alias": "champion", "shown": sight(browser.get(path))}, on=path)

    assert refused.status_code == 409
    assert any(isinstance(each, CallDenied) and each.officer == "author-1" for each in told(at.works))


def test_a_quarantine_needs_its_word_and_recalls(at: Desk) -> None:
    at.approved(1)
    with at.works.serving():
        at.works.start(1, "branch")
        at.works.drive("branch")
        browser, path = at.pages.browser("privacy-1"), f"/models/{NAME}@1"
        page = browser.get(path)
        assert "It is recalled at once from <strong>branch</strong>" in page.text
        what = {"to": "quarantined", "why": HOSTILE, "shown": sight(page)}
        unconfirmed = browser.post(f"{path}/move", what, on=path)
        assert (unconfirmed.status_code, stage(at, 1)) == (400, Stage.DEPLOYED)
        done = browser.post(f"{path}/move", {**what, "confirmed": "quarantine"}, on=path)

    assert stage(at, 1) is Stage.QUARANTINED
    assert "<script>alert" not in done.text
    assert "&lt;script&gt;alert" in done.text
    recalls = browser.get("/deployments").text
    assert "waits for the target" in recalls
    assert "<img" not in recalls


def test_a_recall_needs_its_word(at: Desk) -> None:
    at.approved(1)
    with at.works.serving():
        at.works.start(1, "branch")
        at.works.drive("branch")
        browser, path = at.pages.browser("author-1"), f"/models/{NAME}@1"
        what = {"why": "a defect", "target": "branch", "shown": sight(browser.get(path))}
        assert browser.post(f"{path}/recall", what, on=path).status_code == 400
        done = browser.post(f"{path}/recall", {**what, "confirmed": "recall"}, on=path)

    assert "is recalled from branch" in done.text


def test_what_changed_meanwhile_is_shown_and_nothing_is_done(at: Desk) -> None:
    at.approved(1)
    browser, path = at.pages.browser("risk-1"), f"/models/{NAME}@1"
    seen = sight(browser.get(path))
    at.works.move(1, Stage.QUARANTINED)
    answered = browser.post(
        f"{path}/move", {"to": "retired", "confirmed": "retire", "why": "too <old>", "shown": seen}, on=path
    )

    assert answered.status_code == 409
    assert "It was approved and is quarantined now." in answered.text
    assert "too &lt;old&gt;</textarea>" in answered.text
    assert stage(at, 1) is Stage.QUARANTINED


@pytest.mark.parametrize(
    "shown", ["", "{", "[]", '{"stage": 1}', '{"stage":"approved","targets":"x","aliases":[]}']
)
def test_a_form_that_does_not_say_what_was_seen_does_nothing(at: Desk, shown: str) -> None:
    at.registered(1)
    browser, path = at.pages.browser("risk-1"), f"/models/{NAME}@1"
    answered = browser.post(
        f"{path}/move", {"to": "retired", "confirmed": "retire", "why": "x", "shown": shown}, on=path
    )
    assert (answered.status_code, stage(at, 1)) == (400, Stage.CANDIDATE)


def test_no_text_of_others_becomes_markup(at: Desk) -> None:
    found = at.registered(1)
    at.states(found, NoteKind.LIMITATIONS, HOSTILE)
    at.states(found, NoteKind.PURPOSE, "=HYPERLINK(1)")
    at.works.move(1, Stage.RETIRED, HOSTILE)
    browser = at.pages.browser("risk-1")

    page = browser.get(f"/models/{NAME}@1").text
    assert page.count(HOSTILE) == 0
    assert page.count("&lt;script&gt;alert(1)") == 2
    rows = rows_of(browser.get(f"/models/{NAME}@1?format=csv&table=statements"))
    assert {row["What was said"] for row in rows} == {HOSTILE, "'=HYPERLINK(1)"}
    for path in (
        f"/models?name={HOSTILE}",
        f"/models/{HOSTILE}",
        f"/models/compare?first={HOSTILE}&second=x",
        "/models/from/plan/<b>",
        "/models/from/site/<b>",
    ):
        assert "<script>alert" not in browser.get(path).text
        assert "<b>" not in browser.get(path).text


def test_two_versions_are_compared(at: Desk) -> None:
    first = at.registered(1)
    at.registered(2, champion=first)
    browser = at.pages.browser("auditor-1")
    assert "Side by side" in browser.get("/models/compare").text
    page = browser.get(f"/models/compare?first={NAME}@1&second={NAME}@2")

    assert "They come of the same plan" in page.text
    assert 'id="beside"' in page.text
    rows = {row["Metric"]: row for row in rows_of(browser.get(f"{page.url.raw_path.decode()}&format=csv"))}
    assert float(rows["AUC"]["Difference"]) == pytest.approx(scored(2)["auc"] - scored(1)["auc"])


def graph_of(page: str) -> dict[str, dict[str, str]]:
    found = re.search(r'data-lineage>.*?<script type="application/json">(.*?)</script>', page, re.DOTALL)
    assert found
    return {each["id"]: each for each in json.loads(found[1])["nodes"]}


def test_a_version_leads_back_to_its_sites_and_on_to_its_targets(at: Desk) -> None:
    at.approved(1)
    with at.works.serving():
        at.works.start(1, "branch")
        at.works.drive("branch")
        nodes = graph_of(at.pages.browser("auditor-1").get(f"/models/{NAME}@1").text)

    assert {"site midwest", "site south", "site west", "plan", "run", "contract"} <= nodes.keys()
    assert nodes["target branch"]["href"] == "/deployments/branch"


def test_a_site_a_run_and_a_plan_lead_on_to_what_came_of_them(at: Desk) -> None:
    found = at.registered(1)
    browser = at.pages.browser("auditor-1")
    plan = graph_of(browser.get(f"/models/{found.ref}").text)["plan"]["href"]

    for path in (
        "/models/from/site/west",
        f"/models/from/run/{RUN}",
        plan,
        "/models/from/plan/lending-default",
    ):
        assert f"model {found.ref}" in graph_of(browser.get(path).text), path
    for path in (
        "/models/from/site/wes",
        "/models/from/site/%25",
        "/models/from/run/run-0",
        "/models/from/plan/f",
    ):
        assert "No registered version came of it" in browser.get(path).text, path


def test_what_noise_gives_a_figure_is_its_interval() -> None:
    exact = ScoreMetrics.from_facts(scored(1))
    noisy = replace(
        exact,
        noise_std=dict.fromkeys(("auc", "ks", "brier", "log_loss", "group"), 0.01),
        auc_interval=(0.7, 0.8),
    )

    cells = {row[0].value: row[2].value for row in figures.metrics_table(noisy, None).rows}
    assert cells["AUC"] == "0.7000 to 0.8000, for noise and sampling of rows"
    assert cells["KS"] == f"{exact.ks - 0.0196:.4f} to {exact.ks + 0.0196:.4f}, for noise"
    assert {row[2].value for row in figures.metrics_table(exact, None).rows} == {"exact on these rows"}


def test_a_roc_curve_is_drawn_only_of_all_groups() -> None:
    whole = ScoreMetrics.from_facts(scored(3))
    hidden = replace(whole, calibration=whole.calibration[1:])

    (curve,) = [each for each in figures.charts(whole) if each.name == "roc"]
    points = [(float(x), float(y or 0.0)) for x, y in curve.series[0].points]
    area = sum((x1 - x0) * (y0 + y1) / 2 for (x0, y0), (x1, y1) in pairwise(points))
    assert area == pytest.approx(whole.auc, abs=0.02)
    assert [each.name for each in figures.charts(hidden)] == ["calibration", "scores"]
    assert figures.charts(None) == ()


@pytest.mark.slow
def test_evidence_is_read_here_and_kept(templates: Templates) -> None:
    registry = Registry.of(templates.copy(GATED))
    registry.approved()
    centre = registry.federation.centre = replace(registry.federation.centre, clock=lambda: datetime.now(UTC))
    config = centre.settings.home / "covenant.yaml"
    config.write_text(f"covenant: coordinator/v1\nfederation: {centre.settings.config.federation}\n")
    with pages(registry.federation) as served:  # type: ignore[arg-type]  (it has the centre that pages are of)
        _read_and_keep(served)
    registry.federation.close()


def _read_and_keep(served: Pages) -> None:
    browser, path = served.browser("risk-1"), "/models/private@1"
    here = browser.post(f"{path}/evidence", {"kind": "validation-dossier", "form": "here"}, on=path)
    assert here.status_code == 200
    assert "Validation dossier: private@1" in here.text
    assert "style=" not in here.text
    beginnings = {"pdf": b"%PDF", "html": b"<!doctype", "json": b"{", "md": b"#"}
    for form, begins in beginnings.items():
        kept = browser.post(f"{path}/evidence", {"kind": "model-card", "form": form}, on=path)
        assert kept.content.lstrip()[: len(begins)].lower() == begins.lower(), form
        assert kept.headers["content-disposition"] == f'attachment; filename="private-1-model-card.{form}"'
    for wrong in ({"kind": "x", "form": "pdf"}, {"kind": "model-card", "form": "exe"}):
        assert browser.post(f"{path}/evidence", wrong, on=path).status_code == 400
