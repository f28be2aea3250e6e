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
from coordinator.db.console_schema import ConsoleDraft
from coordinator.db.engine import reading
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
    assert "Your session had ended before this was sent" in page.text
    assert 'value="site west" selected' in page.text
    assert HOSTILE not in page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;</textarea>" in page.text
    assert 'value="halt"' not in page.text
    draft = re.search(r'name="draft" value="([^"]+)"', page.text)
    assert draft is not None
    before = kept(served)
    unconfirmed = browser.post("/halt", {**TYPED, "confirmed": "", "draft": draft[1]})
    assert (unconfirmed.status_code, kept(served)) == (400, before)
    done = browser.post("/halt", {**TYPED, "draft": draft[1]})
    assert "site west is halted" in done.text
    assert kept(served) == before - 1
    assert browser.get(path).status_code == 400


def test_another_officer_who_signs_in_there_does_not_see_it(served: Pages, clock: Shifted) -> None:
    browser, path = interrupted(served, clock)
    served.signed_in(browser, "risk-1")
    answered = browser.get(path)
    assert answered.status_code == 400
    assert "not yours" in answered.text
    assert "site west" not in browser.get(f"/halt?draft={path.rpartition('/')[2]}").text.partition("<table")[
        0
    ].replace('value="site west">', "")
    browser.post(path, {}, on="/account")
    served.signed_in(browser, "privacy-1")
    assert browser.get(path).url.path == "/halt"


def test_a_draft_waits_on_the_account_page_and_is_thrown_away_there(served: Pages, clock: Shifted) -> None:
    browser, path = interrupted(served, clock, "auditor-1")
    served.signed_in(browser, "auditor-1")
    assert path in browser.get("/account").text
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


def test_a_form_without_a_page_of_its_own_is_shown_on_one(served: Pages, clock: Shifted) -> None:
    browser = served.browser("author-1")
    token = token_on(browser, "/account")
    clock.ahead += timedelta(minutes=31)
    path = "/drafts/00000000-0000-0000-0000-000000000000"
    answered = sent(browser, served, path, {"token": token, "words": HOSTILE, "confirmed": "yes"})
    served.signed_in(browser, "author-1")
    page = browser.get(parse_qs(httpx.URL(answered.headers["location"]).query.decode())["next"][0])
    assert "What you typed" in page.text
    assert f'action="{path}"' in page.text
    assert HOSTILE not in page.text
    assert re.search(r'name="confirmed" value="" required', page.text)


def test_ten_drafts_are_kept_for_half_a_day(served: Pages, clock: Shifted) -> None:
    browser = served.browser("admin-1")
    token = token_on(browser, "/halt")
    clock.ahead += timedelta(minutes=31)
    for _ in range(12):
        sent(browser, served, "/halt", {"token": token, **TYPED})
    engine, now = served.centre.engine, served.centre.clock()
    found = drafts.of(engine, "admin-1", now)
    assert len(found) == 10
    later = now + drafts.KEPT + timedelta(minutes=1)
    assert not drafts.of(engine, "admin-1", later)
    assert drafts.find(engine, found[0].id, "admin-1", later) is None


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
