"""The console's pages about plans: who sees them, what they say, and that nothing changed meanwhile is acted on."""

from __future__ import annotations

import hashlib
import html
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.office import comments, plans
from coordinator.office import policies as packs
from coordinator.office.actors import here
from protos.log_office import PlanProposed
from protos.membership import Role
from tests.coordinator.api_for_tests import approval, authored, plan_of
from tests.coordinator.console_for_tests import Browser, Pages, copied, pages
from tests.policies_for_tests import pack, rule, signed

EVIL = '<script>alert(1)</script>"><img src=x onerror=alert(1)>'


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Pages]:
    for bank in copied(tmp_path / "bank"):
        with pages(bank) as found:
            yield found


def propose(served: Pages, seed: int = 1, *, approve: bool = False) -> str:
    """Propose a plan, and approve it; the address of its page."""
    what = plan_of(seed)
    plans.propose(served.centre, here(), what.plan, what.contract, authored(what))
    if approve:
        for name, role in (("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK)):
            plans.approve(served.centre, here(), approval(what, name, role))
    return f"/plans/{what.plan.digest}"


def shown(browser: Browser, page: str) -> dict[str, str]:
    """What the launch form of a page carries."""
    found = re.search(r'name="shown" value="([^"]*)"', browser.get(page).text)
    assert found is not None
    return {"shown": html.unescape(found[1])}


def test_without_a_plan_the_list_says_what_to_do(served: Pages) -> None:
    assert "No plan was proposed yet" in served.browser("auditor-1").get("/plans").text


def test_who_reads_no_plans_reads_none_here(served: Pages) -> None:
    page = propose(served)
    for name in ("admin-1", "operator-1"):
        browser = served.browser(name)
        assert browser.get("/plans").status_code == browser.get(page).status_code == 403
        assert browser.post(f"{page}/comments", {"text": "x"}, on="/account").status_code == 403


def test_the_list_says_who_must_still_sign(served: Pages) -> None:
    propose(served, approve=True)
    propose(served, 2)
    browser = served.browser("privacy-1")
    text = browser.get("/plans").text
    csv = browser.get("/plans?format=csv")

    assert text.index("waits for approval") < text.index(">approved<")
    assert "1 privacy officer: privacy-1 or privacy-2" in text
    assert csv.headers["content-type"].startswith("text/csv")
    assert len(csv.text.splitlines()) == 3


def test_a_plan_is_told_in_words_with_what_changed_and_what_it_costs(served: Pages) -> None:
    propose(served, approve=True)
    page = propose(served, 2)
    browser = served.browser("risk-1")
    text = browser.get(page).text

    assert "What is not protected" in text
    assert "which is approved" in text
    assert "seed" in text
    assert "west/lending-club" in text or "per record" in text
    assert "What the policies in effect say" in text
    for name in ("changes", "forecast", "statements"):
        lines = browser.get(f"{page}?format=csv&table={name}").text.splitlines()
        assert len(lines) > 1, name


def test_the_canonical_text_is_the_one_that_the_log_names(served: Pages) -> None:
    page = propose(served)
    text = served.browser("auditor-1").get(page).text
    canonical = re.search(r"data-canonical[^>]*>([^<]*)</pre>", text)
    entry = re.search(r"data-entry>(.*?)</script>", text, re.DOTALL)
    assert canonical is not None
    assert entry is not None
    digest = hashlib.sha256(html.unescape(canonical[1]).encode()).hexdigest()

    assert json.loads(json.loads(entry[1])["body"])["what"]["statement"]["plan"] == digest
    (told,) = served.bank.told("proposed")
    assert isinstance(told, PlanProposed)
    assert told.statement.plan == digest
    assert "does not protect against the server" in text


def test_comments_are_kept_and_shown_as_they_were_typed(served: Pages) -> None:
    page = propose(served)
    said = served.browser("auditor-1").post(f"{page}/comments", {"text": f"=1+1 {EVIL}"}, on=page)
    empty = served.browser("auditor-1").post(f"{page}/comments", {"text": ""}, on=page)

    assert "Your comment is kept" in said.text
    assert EVIL not in said.text
    assert "&lt;script&gt;alert(1)" in said.text
    assert empty.status_code == 400
    csv = served.browser("auditor-1").get(f"{page}?format=csv&table=comments").text
    assert "'=1+1" in csv
    assert [each.officer for each in comments.list_comments(served.centre, page[7:], "", 0, 9)] == [
        "auditor-1"
    ]


def test_many_comments_come_page_by_page(served: Pages) -> None:
    page = propose(served)
    for number in range(51):
        comments.comment(served.centre, here(), page[7:], "", f"comment number {number}.")
    browser = served.browser("auditor-1")
    first, last = browser.get(page).text, browser.get(f"{page}?comments=50").text

    assert "comments=50" in first
    assert "comment number 49." in first
    assert "comment number 50." not in first
    assert "comment number 50." in last
    assert browser.get(f"{page}?format=csv&table=comments").text.count("comment number") == 51
    for odd in ("-1", "x", "9" * 400, "1e3"):
        assert browser.get(f"{page}?comments={odd}").status_code == 200


def test_what_a_policy_says_and_who_must_act(served: Pages) -> None:
    page = propose(served, approve=True)
    blocking = rule(expression="plan.rounds <= 10", remedy=f"Plan fewer. {EVIL}")
    packs.publish(served.centre, here(), signed(pack(blocking), served.centre.clock()))
    text = served.browser("author-1").get(page).text
    csv = served.browser("author-1").get(f"{page}?format=csv&table=verdicts").text

    assert "A policy in effect stands in the way." in text
    assert "house@1" in text
    assert EVIL not in text
    assert "Plan fewer. &lt;script&gt;" in text
    assert "few-rounds,blocking,fails,ml_engineer" in csv


def test_an_engineer_launches_what_was_shown(served: Pages) -> None:
    page = propose(served, approve=True)
    browser = served.browser("author-2")
    done = browser.client.post  # the run's own page is another test's
    fields = shown(browser, page)
    token = re.search(r'name="token" value="([^"]+)"', browser.get(page).text)
    assert token is not None
    answered = done(
        f"{page}/launch",
        data={"token": token[1], "request_id": "6f1c0f2e-8f3b-4d1a-9a51-2f6f5a3f3f10", **fields},
        headers={"Origin": served.address},
        follow_redirects=False,
    )

    assert answered.status_code == 303, answered.text
    assert answered.headers["location"] == f"/runs/{served.bank.transport.started[0]}"
    assert "Launch this plan" not in served.browser("privacy-1").get(page).text


def test_a_plan_that_changed_meanwhile_shows_the_difference_and_is_not_launched(served: Pages) -> None:
    page = propose(served, approve=True)
    browser = served.browser("author-1")
    before = shown(browser, page)
    propose(served, 2)
    answered = browser.post(f"{page}/launch", before, on=page)
    again = browser.post(f"{page}/launch", shown(browser, page), on=page)

    assert answered.status_code == 409
    assert "A newer plan of this name was proposed" in answered.text
    assert "no longer what you were shown" in answered.text
    assert again.status_code == 409
    assert "Type the word `older`" in again.text
    assert served.bank.transport.started == []


def test_approvals_that_changed_meanwhile_are_told(served: Pages) -> None:
    page = propose(served, approve=True)
    browser = served.browser("author-1")
    before = shown(browser, page)
    plans.approve(served.centre, here(), approval(plan_of(), "privacy-2", Role.PRIVACY_OFFICER))
    answered = browser.post(f"{page}/launch", before, on=page)

    assert answered.status_code == 409
    assert "This approval is new: privacy-2 as privacy_officer" in answered.text
    for broken in ("", "[]", "{", "null"):
        assert browser.post(f"{page}/launch", {"shown": broken}, on=page).status_code == 400
    assert served.bank.transport.started == []


def test_a_plan_that_is_not_there_is_said(served: Pages) -> None:
    browser = served.browser("auditor-1")
    for digest in ("0" * 64, "%3Cscript%3E", "abc"):
        answered = browser.get(f"/plans/{digest}")
        assert answered.status_code == 400
        assert "<script>abc" not in answered.text
