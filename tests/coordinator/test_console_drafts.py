"""What was typed when a session ended is kept for the same officer, and for nobody else."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from urllib.parse import parse_qs

import httpx
import pytest
from sqlalchemy import func, select

from coordinator.console import drafts
from coordinator.console.links import PATH, make_link
from coordinator.console.seals import seal
from coordinator.db.console_schema import ConsoleDraft
from coordinator.db.engine import reading, writing
from tests.coordinator.api_for_tests import new_id
from tests.coordinator.console_for_tests import Browser, Pages, Shifted, Ticking, copied, pages

HOSTILE = '"><img src=x onerror=alert(1)> <script>alert(1)</script>'
TYPED = {"scope": "site west", "reason": HOSTILE, "confirmed": "halt"}


@pytest.fixture(scope="module")
def clock() -> Shifted:
    return Shifted()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, clock: Shifted) -> Iterator[Pages]:
    for bank in copied(tmp_path_factory.mktemp("console")):
        bank.centre = replace(bank.centre, clock=clock, monotonic=Ticking())
        with pages(bank) as found:
            yield found


@pytest.fixture(autouse=True)
def back(clock: Shifted) -> Iterator[None]:
    yield
    clock.ahead = timedelta(0)


def kept(served: Pages) -> int:
    with reading(served.centre.engine, "counting") as session:
        return session.scalar(select(func.count()).select_from(ConsoleDraft)) or 0


def token_on(browser: Browser, path: str) -> str:
    found = re.search(r'name="token" value="([^"]+)"', browser.get(path).text)
    assert found is not None
    return found[1]


def sent(
    browser: Browser, served: Pages, path: str, fields: dict[str, str], **headers: str
) -> httpx.Response:
    return browser.client.post(
        path, data=fields, headers={"Origin": served.address, **headers}, follow_redirects=False
    )


def draft_in(page: httpx.Response) -> str:
    found = re.search(r'name="kept" value="([^"]+)"', page.text)
    assert found is not None
    return found[1]


def interrupted(served: Pages, clock: Shifted, officer: str = "privacy-1") -> tuple[Browser, str]:
    """A form sent after its session had ended; returns where the console leads from there after signing in."""
    browser = served.browser(officer)
    token = token_on(browser, "/halt")
    clock.ahead += timedelta(minutes=31)
    answered = sent(browser, served, "/halt", {"token": token, **TYPED})
    assert answered.status_code == 303
    address = httpx.URL(answered.headers["location"])
    assert address.path == "/signin"
    assert "what you typed is kept" in browser.get(str(address)).text
    return browser, parse_qs(address.query.decode())["next"][0]


def test_what_was_typed_is_in_its_form_again_and_is_sent_when_it_is_confirmed(
    served: Pages, clock: Shifted
) -> None:
    browser, path = interrupted(served, clock)
    assert not served.bank.told("halted")
    served.signed_in(browser, "privacy-1")
    page = browser.get(path)
    assert page.url.path == "/halt"
    assert "What you sent was not done" in page.text
    assert 'value="site west" selected' in page.text
    assert HOSTILE not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</textarea>" in page.text
    assert 'value="halt"' not in page.text
    before, draft = kept(served), {"kept": draft_in(page)}
    unconfirmed = browser.post("/halt", {**TYPED, **draft, "confirmed": ""})
    assert (unconfirmed.status_code, kept(served)) == (400, before)
    back = re.search(r'href="(/drafts/[^"]+)"', unconfirmed.text)
    assert back is not None
    again = browser.get(path := back[1])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</textarea>" in again.text
    done = browser.post("/halt", {**TYPED, "kept": draft_in(again)})
    assert "site west is halted" in done.text
    assert kept(served) == before - 1
    assert browser.get(path).status_code == 400


def test_another_officer_who_signs_in_there_does_not_see_it(served: Pages, clock: Shifted) -> None:
    browser, path = interrupted(served, clock)
    served.signed_in(browser, "risk-1")
    answered = browser.get(path)
    assert answered.status_code == 400
    assert "not yours" in answered.text
    assert "site west" not in browser.get(f"/halt?kept={path.rpartition('/')[2]}").text.partition("<table")[
        0
    ].replace('value="site west">', "")
    browser.post(path, {}, on="/account")
    served.signed_in(browser, "privacy-1")
    assert browser.get(path).url.path == "/halt"


def test_a_draft_waits_on_the_account_page_and_is_thrown_away_there(served: Pages, clock: Shifted) -> None:
    browser, path = interrupted(served, clock, "auditor-1")
    served.signed_in(browser, "auditor-1")
    account = browser.get("/account").text
    assert path in account
    assert "&lt;img src=x onerror=alert(1)&gt;" in account  # by its words somebody knows it again
    assert HOSTILE not in account
    browser.post(path, {}, on="/account")
    assert path not in browser.get("/account").text


@pytest.mark.parametrize("defect", ["token", "origin", "cookie", "secret", "size"])
def test_nothing_is_kept_of_a_form_that_is_not_the_sessions_own(
    served: Pages, clock: Shifted, defect: str
) -> None:
    browser, other = served.browser("privacy-1"), served.browser("privacy-2")
    fields = {"token": token_on(browser, "/halt"), **TYPED}
    match defect:
        case "token":
            fields["token"] = token_on(other, "/halt")
        case "cookie":
            browser.client.cookies.clear()
        case "secret":
            fields["password"] = "correct horse battery staple"
        case "size":
            fields["reason"] = "x" * (300 << 10)
    clock.ahead += timedelta(minutes=31)
    before = kept(served)
    origin = "https://elsewhere.example" if defect == "origin" else served.address
    answered = sent(browser, served, "/halt", fields, Origin=origin)
    assert kept(served) == before
    if defect == "origin":
        assert answered.status_code == 403
    else:
        assert answered.headers["location"] == "/signin?next=%2F"


def test_a_form_that_the_page_does_not_have_any_more_leaves_its_words(served: Pages, clock: Shifted) -> None:
    """Somebody else has decided meanwhile, or the role is gone."""
    browser = served.browser("author-1")
    token = token_on(browser, "/halt")
    clock.ahead += timedelta(minutes=31)
    fields = {"token": token, "why": HOSTILE, "confirmed": "recall"}
    draft = keep_for(served, clock, "author-1", "/models/gone@1/recall", fields)
    served.signed_in(browser, "author-1")
    page = browser.get(f"/halt?kept={draft}").text  # any page does for this: it has no such form
    assert "a form that this page does not have any more" in page
    assert HOSTILE not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def keep_for(served: Pages, clock: Shifted, officer: str, path: str, fields: dict[str, str]) -> str:
    """A draft, as it lies in the database."""
    draft = new_id()
    row = ConsoleDraft(id=draft, officer=officer, path=path, fields=json.dumps(fields), kept_at=clock())
    seal(served.vault, row)
    with writing(served.centre.engine, "keeping a draft") as session:
        session.add(row)
    return draft


def test_who_has_signed_in_beside_an_old_page_loses_nothing_of_it(served: Pages, clock: Shifted) -> None:
    """Another tab has a new session by then: the form is of the one that is over."""
    browser = served.browser("privacy-1")
    token = token_on(browser, "/halt")
    clock.ahead += timedelta(minutes=31)
    link = make_link(served.centre.engine, served.vault, "privacy-1", served.centre.clock())
    assert "risk-1" not in browser.post(PATH, {"link": link}).text
    refused = sent(browser, served, "/halt", {"token": token, **TYPED})
    assert refused.status_code == 403
    back = re.search(r'href="(/drafts/[^"]+)"', refused.text)
    assert back is not None
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</textarea>" in browser.get(back[1]).text
    for other in (served.browser("risk-1"), served.browser("privacy-1")):
        fields = {
            "token": token_on(other, "/halt"),
            **TYPED,
        }  # of a session that goes on, or of somebody else's
        assert "/drafts/" not in sent(browser, served, "/halt", fields).text


def test_ten_drafts_are_kept_for_half_a_day(served: Pages, clock: Shifted) -> None:
    browser = served.browser("admin-1")
    token = token_on(browser, "/halt")
    clock.ahead += timedelta(minutes=31)
    for _ in range(12):
        sent(browser, served, "/halt", {"token": token, **TYPED})
    engine, now = served.centre.engine, served.centre.clock()
    found = drafts.of(engine, served.vault, "admin-1", now)
    assert len(found) == 10
    later = now + drafts.KEPT + timedelta(minutes=1)
    assert not drafts.of(engine, served.vault, "admin-1", later)
    assert drafts.find(engine, served.vault, found[0].id, "admin-1", later) is None


def test_a_part_of_a_page_leads_the_whole_page_to_the_sign_in(served: Pages, clock: Shifted) -> None:
    browser = served.browser("author-2")
    token = token_on(browser, "/halt")
    clock.ahead += timedelta(minutes=31)
    part = {"HX-Request": "true", "HX-Current-URL": f"{served.address}/halt?scope=all"}
    read = browser.client.get("/", headers=part, follow_redirects=False)
    over = json.loads(read.headers["hx-trigger"])  # the script does not go where something was typed
    assert (read.status_code, over) == (204, {"covenant:over": {"address": "/signin?next=%2Fhalt"}})
    wrote = sent(browser, served, "/halt", {"token": token, **TYPED}, **part)
    assert wrote.headers["hx-redirect"].startswith("/signin?next=%2Fdrafts%2F")
