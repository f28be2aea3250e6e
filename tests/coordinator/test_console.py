"""The console's ways in and its frame: TLS, sessions, forms, headers, halts."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.console.links import PATH, make_link
from coordinator.console.sessions import COOKIE
from tests.coordinator.console_for_tests import Pages, copied, pages


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    folder: Path = tmp_path_factory.mktemp("console")
    for bank in copied(folder):
        with pages(bank) as found:
            yield found


def test_nobody_is_led_to_the_sign_in(served: Pages) -> None:
    answered = served.browser().get("/account")

    assert "Sign in" in answered.text
    assert answered.url.path == "/signin"


def test_a_link_signs_in_once(served: Pages) -> None:
    secret = make_link(served.centre.engine, "privacy-1", served.centre.clock())
    first, second = served.browser(), served.browser()

    assert "Overview" in first.post(PATH, {"link": secret}).text
    again = second.post(PATH, {"link": secret})
    assert again.status_code == 409
    assert "used already" in again.text


def test_a_session_is_a_new_one_at_every_sign_in(served: Pages) -> None:
    browser = served.browser()
    browser.client.cookies.set(COOKIE, "a-session-that-an-attacker-knows", domain="127.0.0.1", path="/")
    secret = make_link(served.centre.engine, "privacy-1", served.centre.clock())
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


def test_every_answer_has_the_policy(served: Pages) -> None:
    for path in ("/signin", "/nowhere", "/static/0/none.js"):
        headers = served.browser().get(path).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
