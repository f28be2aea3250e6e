"""The console's ways in and its frame: TLS, sessions, forms, headers, halts."""

from __future__ import annotations

import gc
import html
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import select

from coordinator.console.links import PATH, make_link
from coordinator.console.routes import ANYBODY, all_routes
from coordinator.console.server import ConsoleServer
from coordinator.console.sessions import COOKIE
from coordinator.db.engine import writing
from coordinator.db.halt_schema import HaltRow
from strategies.errors import CovenantError
from tests.coordinator.api_for_tests import BY_ROLE, Bank, new_id, template
from tests.coordinator.console_for_tests import Pages, copied, pages, with_console


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder: Path = tmp_path_factory.mktemp("console")
    for bank in copied(folder):
        with pages(bank) as found:
            yield found


def test_what_was_loaded_is_not_looked_through_while_pages_are_served(tmp_path: Path) -> None:
    for bank in copied(tmp_path):
        with pages(bank):
            assert gc.get_freeze_count() > 10_000
        assert gc.get_freeze_count() == 0


def test_a_port_that_is_taken_is_told_and_one_that_was_used_is_not(tmp_path: Path) -> None:
    for bank in copied(tmp_path):
        centre = with_console(bank)
        section = centre.settings.config.console
        assert section is not None
        with socket.create_server((section.host, section.port)):
            taken = ConsoleServer(centre)
            with pytest.raises(CovenantError, match=r"cannot listen on 127\.0\.0\.1:\d+: .*console\.port"):
                taken.__enter__()
        for _ in range(2):
            with ConsoleServer(centre), socket.create_connection((section.host, section.port), 5):
                pass


def test_nobody_is_led_to_the_sign_in(served: Pages) -> None:
    answered = served.browser().get("/account")

    assert "Sign in" in answered.text
    assert answered.url.path == "/signin"


def test_a_link_signs_in_once(served: Pages) -> None:
    secret = make_link(served.centre.engine, served.vault, "privacy-1", served.centre.clock())
    first, second = served.browser(), served.browser()

    assert "Overview" in first.post(PATH, {"link": secret}).text
    again = second.post(PATH, {"link": secret})
    assert again.status_code == 409
    assert "used already" in again.text


def test_a_session_is_a_new_one_at_every_sign_in(served: Pages) -> None:
    browser = served.browser()
    browser.client.cookies.set(COOKIE, "a-session-that-an-attacker-knows", domain="127.0.0.1", path="/")
    secret = make_link(served.centre.engine, served.vault, "privacy-1", served.centre.clock())
    browser.post(PATH, {"link": secret})

    assert "a-session-that-an-attacker-knows" not in [each.value for each in browser.client.cookies.jar]


def test_a_form_without_its_token_or_of_another_site_is_refused(served: Pages) -> None:
    browser = served.browser("privacy-1")

    without = browser.client.post("/halt", data={"scope": "all"}, headers={"Origin": served.address})
    foreign = browser.post("/halt", {"scope": "all"}, Origin="https://elsewhere.example")

    assert without.status_code == foreign.status_code == 403
    assert not served.bank.told("halted")


def test_a_halt_needs_its_word_and_no_key(served: Pages) -> None:
    browser = served.browser("auditor-1")
    unconfirmed = browser.post("/halt", {"scope": "site north", "reason": "looks wrong"})
    done = browser.post("/halt", {"scope": "site west", "reason": "looks <b>wrong</b>", "confirmed": "halt"})

    assert unconfirmed.status_code == 400
    assert "site west is halted" in done.text
    assert "looks &lt;b&gt;wrong" in done.text
    assert "service log, asked by officer auditor-1" in done.text
    assert served.bank.told("halted")
    served.bank.audited()


def test_a_halt_that_is_sent_twice_is_one_halt(served: Pages) -> None:
    """People press twice when it is urgent, and browsers send again; both times it is said that it is halted."""
    browser, other = served.browser("author-1"), served.browser("risk-1")
    told = len(served.bank.told("halted"))
    denied = len(served.bank.told("denied"))
    form = {"scope": "all", "reason": "urgent", "confirmed": "halt", "request_id": new_id()}
    for _ in range(3):
        assert "everything is halted" in browser.post("/halt", form).text
    with ThreadPoolExecutor(4) as pool:
        at_once = {**form, "reason": "urgent, at once", "request_id": new_id()}
        answered = list(pool.map(lambda _: browser.post("/halt", at_once, on="/halt"), range(4)))
    assert [(each.status_code, each.url.path) for each in answered] == [(200, "/halt")] * 4
    assert len(served.bank.told("halted")) == told + 2
    assert len(served.bank.told("denied")) == denied
    assert other.post("/halt", form).status_code == 409  # another officer's request
    changed = browser.post("/halt", {**form, "reason": "something else"})
    assert (changed.status_code, "used for another request" in changed.text) == (409, True)
    served.bank.audited()


def test_a_form_whose_halt_was_lifted_does_not_say_that_it_stands(served: Pages) -> None:
    browser = served.browser("author-1")
    form = {"scope": "site south", "reason": "a try", "confirmed": "halt", "request_id": new_id()}
    browser.post("/halt", form)
    with writing(served.centre.engine, "lifting") as session:
        row = session.scalars(select(HaltRow).where(HaltRow.target == "south")).one()
        row.lifted_at = served.centre.clock()
    again = browser.post("/halt", form)
    assert (again.status_code, "was lifted at" in again.text) == (409, True)


def test_every_answer_has_the_policy(served: Pages) -> None:
    for path in ("/signin", "/nowhere", "/static/0/none.js"):
        headers = served.browser().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]


WHAT_TO_DO = {
    "/": "An engineer proposes a plan",
    "/budgets": "drafts the first one with",
    "/budgets/what-if": "An engineer proposes one with",
    "/plans": "An engineer proposes one with",
    "/runs": "Propose a plan with",
    "/sites": "Invite a site with",
    "/models": "launch a plan, and look at Runs",
    "/models/compare": "A run that completes registers one",
    "/deployments": "An admin adds one",
    "/loop": "No model is registered yet: a run that completes",
    "/halt": "The form above halts",
    "/log": "The first is written when",
    "/log/head": "Sites do so in every run",
    "/account": "covenant console link",
}
"""By page, for whoever has all roles' pages between them."""
NOT_PAGES = {"/account/qr.svg", "/log/consistency", "/log/export"}


def test_an_empty_coordinator_says_on_every_page_what_to_do(tmp_path: Path) -> None:
    bank = Bank.copied(template(accounts=False), tmp_path / "bank")
    try:
        with pages(bank) as served:
            told = dict.fromkeys(WHAT_TO_DO, "")
            for name in BY_ROLE.values():
                browser = served.browser(name)
                for path in WHAT_TO_DO:
                    answered = browser.get(path)
                    assert answered.status_code in {200, 403}, path
                    told[path] += html.unescape(answered.text)
    finally:
        bank.close()
    assert [path for path, words in WHAT_TO_DO.items() if words not in told[path]] == []
    fixed = {
        each.path
        for each in all_routes()
        if each.method == "GET" and each.needs != ANYBODY and "{" not in each.path
    }
    assert fixed - NOT_PAGES == WHAT_TO_DO.keys()
