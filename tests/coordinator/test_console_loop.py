"""The loop in the console: the ring of each model, drafts, and what waits for whom."""

from __future__ import annotations

from dataclasses import asdict
from datetime import timedelta
from html import escape

import numpy as np
import pytest
from sqlalchemy import select

from coordinator.db import writing
from coordinator.db.schema import Model
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.receiving import receive
from coordinator.deploy.monitoring.retraining.drafting import draft_due
from tests.coordinator.cli_for_tests import open_accounts
from tests.coordinator.console_deployed_for_tests import Desk, at
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.loop_for_tests import leave_weights, loop_events, row_of, shifted
from tests.coordinator.monitor_for_tests import RULES, Population, Watch, metrics_of
from tests.protos.test_gates import EXACT

__all__ = ["at"]


@pytest.fixture
def drafted(at: Desk) -> str:
    """A model that serves and has drifted; the draft's id."""
    rng, population, centre = np.random.default_rng(5), Population.usual(), at.works.centre
    at.works.approved(1, metrics_of(population, rng))
    with at.works.serving():
        at.works.start(1, "branch")
        at.works.drive("branch")
    leave_weights(centre)
    open_accounts(centre)
    watch = Watch.of(at.works, population, rng, RULES)
    place = watch.place()
    place.begins = place.begins - timedelta(days=30)
    assert receive(centre, place.decisions(shifted())).alarm is not None
    (draft,) = draft_due(centre)
    return draft


def test_the_loop_shows_each_model_as_a_ring_and_a_table(at: Desk, drafted: str) -> None:
    page = at.pages.browser("author-1").get("/loop").text
    assert f'id="ring-{NAME}"' in page
    assert page.count('class="spot') == 8
    assert 'class="spot warn here"' in page
    assert f"/loop/{drafted}" in page
    assert "Draft: waits" in page, "a state that people have to see to is told by colour and in words"
    csv = at.pages.browser("auditor-1").get(f"/loop?format=csv&table=loop-{NAME}")
    assert csv.text.splitlines()[0] == "Step,State,What is known,Since"
    assert at.pages.browser("admin-1").get("/loop").status_code == 403


def test_without_models_the_page_says_so(at: Desk) -> None:
    assert (
        "No model is registered yet: a run that completes registers one."
        in at.pages.browser("author-1").get("/loop").text
    )


def test_the_overview_tells_engineers_of_the_draft_and_of_the_alarm(at: Desk, drafted: str) -> None:
    page = at.pages.browser("author-1").get("/").text
    assert f"A plan to retrain {NAME} is drafted for you" in page
    assert f"{NAME}@1 has drifted at branch" in page
    others = at.pages.browser("auditor-1").get("/").text
    assert "is drafted for you" not in others
    assert f"A plan to retrain {NAME} is drafted" in others
    assert drafted not in at.pages.browser("admin-1").get("/").text


def test_an_engineer_reads_and_dismisses_a_draft_with_a_reason(at: Desk, drafted: str) -> None:
    browser, path = at.pages.browser("author-1"), f"/loop/{drafted}"
    page = browser.get(path).text
    assert "covenant: &#34;plan/v1&#34;" in page
    assert "drafted by the coordinator. Nobody has signed it.</p>" in page
    assert f'href="/models/{NAME}@1/windows"' in page
    answer = browser.post(f"{path}/dismiss", {"why": "<b>not now</b>"}, on=path)
    assert answer.status_code in {200, 303}
    row = row_of(at.works.centre, drafted)
    assert (row.state, row.decided_by, row.why) == ("dismissed", "author-1", "<b>not now</b>")
    page = browser.get(path).text
    assert "&lt;b&gt;not now&lt;/b&gt;" in page
    assert "<b>not now</b>" not in page
    assert f"{path}/dismiss" not in page
    assert "drafted by the coordinator.</p>" in page, (
        "whether anybody has signed a draft that is decided is not known here"
    )


def test_an_engineer_adopts_a_draft_and_others_are_offered_less(at: Desk, drafted: str) -> None:
    path = f"/loop/{drafted}"
    assert f"{path}/adopt" not in at.pages.browser("risk-1").get(path).text
    assert f"{path}/dismiss" in at.pages.browser("risk-1").get(path).text
    assert f"{path}/dismiss" not in at.pages.browser("auditor-1").get(path).text
    at.pages.browser("author-1").post(f"{path}/adopt", {"why": "we retrain"}, on=path)
    assert row_of(at.works.centre, drafted).state == "adopted"
    assert len(loop_events(at.works.centre)) == 2


def test_a_draft_that_is_not_there_is_said(at: Desk) -> None:
    assert "there is no draft" in at.pages.browser("author-1").get("/loop/draft-1").text


# --- windows ------------------------------------------------------------------------------------------------------------------


def test_windows_and_the_alarm_are_shown_with_their_evidence(at: Desk, drafted: str) -> None:
    path = f"/models/{NAME}@1/windows"
    with writing(at.works.centre.engine, "metrics that a page shows") as session:
        row = session.scalars(select(Model).where(Model.name == NAME)).one()
        row.metrics = {**asdict(EXACT), "panels": (row.metrics or {})["panels"]}
    for start in ("/loop", "/", f"/models/{NAME}@1"):
        assert path in at.pages.browser("author-1").get(start).text
    page = at.pages.browser("auditor-1").get(path).text
    alarm = views.alarms(at.works.centre.engine)[0]
    for each in (alarm["id"], alarm["cause"], *alarm["evidence"]):
        assert escape(each) in page
    assert "PSI by window at branch" in page
    assert "/windows/acknowledge" not in page
    csv = at.pages.browser("auditor-1").get(f"{path}?format=csv&table=windows-1").text.splitlines()
    assert csv[0] == 'Window,From,To,Rows,"Largest PSI, or AUC",State,What it says'
    assert "PSI 0.6" in csv[1] or "PSI 0.5" in csv[1], csv[1]
    assert ",moved,moved: " in csv[1]
    assert at.pages.browser("admin-1").get(path).status_code == 403


def test_an_engineer_acknowledges_an_alarm(at: Desk, drafted: str) -> None:
    browser, path = at.pages.browser("author-1"), f"/models/{NAME}@1/windows"
    alarm = views.alarms(at.works.centre.engine)[0]["id"]
    browser.post(f"{path}/acknowledge", {"alarm": alarm, "why": "<i>we retrain</i>"}, on=path)
    (seen,) = views.alarms(at.works.centre.engine)
    assert (seen["acknowledged_by"], seen["why"]) == ("author-1", "<i>we retrain</i>")
    page = browser.get(path).text
    assert "&lt;i&gt;we retrain&lt;/i&gt;" in page
    assert f"{path}/acknowledge" not in page


def test_a_version_without_windows_and_one_that_nobody_watches_are_told_apart(at: Desk) -> None:
    rng, population = np.random.default_rng(5), Population.usual()
    at.works.approved(1, metrics_of(population, rng))
    browser, path = at.pages.browser("author-1"), f"/models/{NAME}@1/windows"
    assert "is not watched" in browser.get(path).text
    Watch.of(at.works, population, rng, RULES)
    assert "No window has come yet" in browser.get(path).text


# --- a session that ends in between -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", ["adopt", "dismiss"])
def test_why_a_draft_is_decided_is_in_its_form_again(at: Desk, drafted: str, act: str) -> None:
    page = f"/loop/{drafted}"
    late = at.pages.sent_too_late("author-1", page, f"{page}/{act}", {"why": "<b>because</b>"})
    assert "<b>because</b>" not in late.page.text
    assert late.form(f"{page}/{act}")["why"] == "<b>because</b>"
    assert row_of(at.works.centre, drafted).state == "open"
    late.send(f"{page}/{act}", {})
    row = row_of(at.works.centre, drafted)
    assert (row.state, row.why) == ("adopted" if act == "adopt" else "dismissed", "<b>because</b>")


def test_why_an_alarm_is_seen_is_in_its_form_again(at: Desk, drafted: str) -> None:
    page, (alarm,) = f"/models/{NAME}@1/windows", views.alarms(at.works.centre.engine)
    fields = {"alarm": alarm["id"], "why": "<b>because</b>"}
    late = at.pages.sent_too_late("author-1", page, f"{page}/acknowledge", fields)
    assert late.form(f"{page}/acknowledge")["why"] == "<b>because</b>"
    assert views.alarms(at.works.centre.engine, only_open=True)
    late.send(f"{page}/acknowledge", {})
    assert not views.alarms(at.works.centre.engine, only_open=True)
