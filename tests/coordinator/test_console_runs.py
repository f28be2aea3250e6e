"""Runs in the console, over federations that have really run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator

import pytest

from coordinator.db.engine import writing
from coordinator.db.schema import Run, RunState
from coordinator.rounds.exchange import Answered
from protos.membership import Role
from tests.coordinator.api_for_tests import BY_ROLE, new_id
from tests.coordinator.console_for_tests import Browser
from tests.coordinator.runs_console_for_tests import (
    DONE,
    FAILED,
    GOING,
    HOSTILE,
    PUBLIC,
    REFUSED,
    Ran,
    ran,
)
from tests.coordinator.secure_for_tests import EAST, FOUR

NOW, COURSE = f"/runs/{GOING}/now", f"/runs/{PUBLIC}/course"


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ran(tmp_path_factory.mktemp("runs")) as found:
        yield found


def rows_of(browser: Browser, path: str) -> list[dict[str, str]]:
    answered = browser.get(path)
    assert answered.status_code == 200, answered.text
    assert answered.headers["content-type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(answered.text)))


def test_runs_are_listed_filtered_and_handed_out(console: Ran) -> None:
    browser = console.browser("auditor-1")

    everything = rows_of(browser, "/runs?format=csv")
    assert {row["Run"] for row in everything} == {DONE, PUBLIC, REFUSED, FAILED, GOING}
    assert [row["Run"] for row in rows_of(browser, "/runs?format=csv&state=going")] == [GOING]
    assert {row["Run"] for row in rows_of(browser, "/runs?format=csv&state=failed")} == {REFUSED, FAILED}
    assert [row["Run"] for row in rows_of(browser, "/runs?format=csv&plan=private")] == [DONE]
    assert "No run is like that." in browser.get("/runs?plan=nobody").text
    assert browser.get("/runs?state=odd").status_code == 400
    assert browser.get("/runs?after=odd").status_code == 400


def test_a_run_shows_its_course(console: Ran) -> None:
    browser = console.browser("author-1")
    page = browser.get(f"/runs/{PUBLIC}").text

    assert "8 of 8 rounds committed" in page
    assert 'href="/models/secure@1"' in page
    curves = page.split('id="auc"')[1].split('type="application/json">')[1].split("</script>")[0]
    drawn = {each["name"]: each["points"] for each in json.loads(curves)["series"]}
    assert [point[0] for point in drawn["AUC"]] == list(range(1, 9))
    rounds = {row["Round"]: row for row in rows_of(browser, f"/runs/{PUBLIC}?format=csv&table=rounds")}
    assert rounds["2"]["Dropped out"] == "west"
    assert float(rounds["8"]["AUC"]) == pytest.approx(drawn["AUC"][-1][1])


def test_bytes_and_seconds_are_there_by_round_and_site(console: Ran) -> None:
    browser = console.browser("author-1")
    rows = rows_of(browser, f"/runs/{PUBLIC}?format=csv&table=exchanges")
    trained = {(row["Round"], row["Site"]): row for row in rows if row["Stage"] == "train"}

    assert {site for _, site in trained} == set(FOUR)
    assert all(int(row["Sent to it in bytes"]) > 0 for row in trained.values())
    assert float(trained["1", "west"]["Answered in seconds"]) > float(
        trained["1", "north"]["Answered in seconds"]
    )
    totals = {row["Site"]: row for row in rows_of(browser, f"/runs/{PUBLIC}?format=csv&table=sites")}
    assert int(totals["west"]["Sent to it"]) == sum(
        int(row["Sent to it in bytes"]) for row in rows if row["Site"] == "west"
    )


def test_refusals_come_with_their_words_and_what_to_do(console: Ran) -> None:
    browser = console.browser("author-1")
    rows = rows_of(browser, f"/runs/{REFUSED}?format=csv&table=refusals")

    assert {row["Site"] for row in rows} == set(FOUR)
    assert all("policy.accept.components" in row["In its words"] for row in rows)
    assert all("covenant-agent history --run" in row["Next"] for row in rows)
    diagnosed = browser.get(f"/runs/{REFUSED}/diagnosis").text
    assert "policy does not admit the plan" in diagnosed
    assert f"covenant-agent history --run {REFUSED}" in diagnosed
    assert rows_of(browser, f"/runs/{REFUSED}/diagnosis?format=csv")[0]["Cause"] == "policy"


def test_what_a_run_spends_is_for_readers_of_accounts(console: Ran) -> None:
    spent = rows_of(console.browser("privacy-1"), f"/runs/{DONE}?format=csv&table=privacy")
    assert {row["Account"].split("/")[0] for row in spent} == set(FOUR)
    assert all(row["If nothing else were ever released"].startswith("epsilon ") for row in spent)
    assert all(int(row["Opened"]) > 0 for row in spent)

    operator = console.browser("operator-1")
    assert operator.get(f"/runs/{DONE}?format=csv&table=privacy").status_code == 400
    page = operator.get(f"/runs/{DONE}").text
    assert "Privacy that this run spends" not in page
    assert "/models/" not in page.split('<main id="main"')[1]


def test_the_server_processes_log_is_for_those_who_may_stop_a_run(console: Ran) -> None:
    logs = console.pages.centre.settings.logs
    logs.mkdir(exist_ok=True)
    event = {
        "run": FAILED,
        "event": "sites missing",
        "stage": "PREPARE",
        "round": 0,
        "sites": {"west": "is not online"},
    }
    (logs / "serverapp.log").write_text(f"noise\n{json.dumps(event)}\n")

    assert "west is not online" in console.browser("admin-1").get(f"/runs/{FAILED}/diagnosis").text
    other = console.browser("operator-1").get(f"/runs/{FAILED}/diagnosis").text
    assert "west is not online" not in other
    assert "not part of it for your role" in other


def test_whom_a_round_waits_for_is_shown_while_it_waits(console: Ran) -> None:
    browser = console.browser("author-1")
    before = browser.get(NOW).text
    assert "waiting for 3 of 4 sites, asked for its masked input" in before
    assert "every 2s" in before

    console.going.heard(EAST, Answered(b"y" * 1000), None)
    console.going.flush()
    after = {row["Site"]: row for row in rows_of(browser, f"/runs/{GOING}?format=csv&table=stage")}
    assert after["east"]["State"] == "answered"
    assert after["east"]["Came from it"] == "1000"
    assert after["south"]["In its words"] == "refused (later)"
    assert after["west"]["State"] == "asked, not answered yet"
    assert "every 2s" not in browser.get(f"/runs/{DONE}/now").text


def test_no_text_of_a_site_becomes_markup(console: Ran) -> None:
    browser = console.browser("author-1")
    for path in (
        "/runs",
        f"/runs/{FAILED}",
        f"/runs/{FAILED}/now",
        f"/runs/{FAILED}/course",
        f"/runs/{FAILED}/diagnosis",
        "/sites",
        "/sites/west",
    ):
        page = browser.get(path).text
        assert "&lt;script&gt;alert(1)" in page, path
        assert "<script>alert" not in page, path
        assert "<img src=x" not in page, path
    assert HOSTILE in browser.get(f"/runs/{FAILED}?format=csv&table=refusals").text.replace('""', '"')


@pytest.mark.parametrize("role", list(Role))
def test_who_may_not_stop_or_resume_is_not_offered_it_and_is_refused(console: Ran, role: Role) -> None:
    browser = console.browser(BY_ROLE[role])
    going, failed = browser.get(f"/runs/{GOING}").text, browser.get(f"/runs/{FAILED}").text
    may_stop = role in {Role.ML_ENGINEER, Role.PRIVACY_OFFICER, Role.MODEL_RISK, Role.ADMIN}

    assert (f"/runs/{GOING}/stop" in going) == may_stop
    assert (f"/runs/{FAILED}/resume" in failed) == (role == Role.ML_ENGINEER)
    if not may_stop:
        assert browser.post(f"/runs/{GOING}/stop", {"confirmed": "stop"}, on="/halt").status_code == 403
    if role != Role.ML_ENGINEER:
        shown = {"shown": "failed 0"}
        assert browser.post(f"/runs/{FAILED}/resume", shown, on="/halt").status_code == 403
    with writing(console.federation.engine, "looking") as session:
        assert session.get_one(Run, GOING).state == RunState.RUNNING
        assert session.get_one(Run, FAILED).state == RunState.FAILED


def test_stopping_takes_a_tick_and_is_done_once(console: Ran) -> None:
    browser = console.browser("author-1")
    path, page = f"/runs/{GOING}/stop", f"/runs/{GOING}"
    assert browser.post(path, {}, on=page).status_code == 400
    request = new_id()

    done = browser.post(path, {"confirmed": "stop", "request_id": request}, on=page)
    assert "is stopped; what it committed stays" in done.text
    assert "stopped by author-1" in done.text
    again = browser.post(path, {"confirmed": "stop", "request_id": request}, on=page)
    assert f"nothing was stopped: since this page was shown, {GOING} is stopped" in again.text

    changed = browser.post(f"/runs/{GOING}/resume", {"shown": "failed 0"}, on=page)
    assert "nothing was resumed: since this page was shown" in changed.text
    resumed = browser.post(f"/runs/{GOING}/resume", {"shown": "stopped 0"}, on=page)
    assert "goes on after round 0" in resumed.text
    with writing(console.federation.engine, "looking") as session:
        assert session.get_one(Run, GOING).state == RunState.SUBMITTED


def test_stopping_a_run_that_has_ended_says_how_it_ended(console: Ran) -> None:
    browser = console.browser("admin-1")
    told = browser.post(f"/runs/{DONE}/stop", {"confirmed": "stop"}, on="/halt").text

    assert (
        f"nothing was stopped: since this page was shown, {DONE} is completed, with 6 of 6 rounds committed"
        in told
    )


def test_a_run_that_there_is_not_says_so(console: Ran) -> None:
    browser = console.browser("auditor-1")
    for path in ("/runs/run-ffffffffffffffff", "/runs/odd", "/runs/run-ffffffffffffffff/diagnosis"):
        assert browser.get(path).status_code == 400
    assert browser.get(f"/runs/{DONE}?below=-1").status_code == 400
    assert browser.get(f"/runs/{DONE}?format=xml").status_code == 400
    assert browser.get(f"/runs/{DONE}?format=csv&table=odd").status_code == 400


def test_rounds_are_paged_by_number(console: Ran) -> None:
    browser = console.browser("auditor-1")
    page = browser.get(f"/runs/{PUBLIC}/course?below=4").text
    assert 'rel="prev"' in page
    assert 'rel="next"' not in page  # 3, 2 and 1 are all that is left


def test_a_poll_without_news_sends_nothing(console: Ran) -> None:
    browser = console.browser("auditor-1")
    page = browser.get(f"/runs/{DONE}").text
    shown = page.split(f"/runs/{DONE}/now?shown=")[1].split('"')[0]

    assert browser.get(f"/runs/{DONE}/now?shown={shown}").status_code == 204
    assert browser.get(f"/runs/{DONE}/now?shown=other").status_code == 200
    assert browser.get(f"/runs/{GOING}/now?shown={shown}").status_code == 200
