"""A session that ends under an open page, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright

from coordinator.console.links import PATH, make_link
from tests.coordinator.console_for_tests import Pages, copied, pages

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
REFRESH = "htmx.trigger(document.querySelector('#now'), 'refresh')"
FORM = "document.querySelector('main').insertAdjacentHTML('beforeend', '<form method=post><textarea id=typed></textarea></form>')"


STREAM = "document.querySelector('[data-live-state]').dataset.state"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Pages]:
    for bank in copied(tmp_path):
        with pages(bank) as found:
            yield found


def signed_in(page: Page, served: Pages) -> None:
    secret = make_link(served.centre.engine, served.vault, "auditor-1", served.centre.clock())
    page.goto(f"{served.address}{PATH}?key={secret}")
    page.click("main button")
    page.wait_for_selector("#now")


def test_a_page_leads_to_the_sign_in_but_takes_nothing_that_was_typed(served: Pages) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        signed_in(page, served)
        page.evaluate(FORM)
        page.fill("#typed", "half a sentence")
        served.idle()
        page.evaluate(REFRESH)
        page.wait_for_selector("[data-live-state][data-state=over]")
        assert "what you typed is kept once you send it" in page.inner_text("[data-live-state]")
        assert page.input_value("#typed") == "half a sentence"
        assert page.locator("#now").count() == 1

        signed_in(page, served)
        served.idle()
        page.evaluate(REFRESH)
        page.wait_for_url("**/signin?next=%2F")
        browser.close()


@pytest.mark.slow
def test_a_page_that_only_listens_says_that_its_session_is_over_and_asks_no_longer(served: Pages) -> None:
    """Not that a connection was lost, which somebody would look for."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        signed_in(page, served)
        page.goto(f"{served.address}/account")
        page.wait_for_selector("[data-live-state][data-state=on]")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        served.idle()
        page.wait_for_selector("[data-live-state][data-state=over]", timeout=15000)
        assert "Your session is over" in page.inner_text("[data-live-state]")
        page.wait_for_timeout(4000)
        assert page.evaluate(STREAM) == "over"
        assert page.url == f"{served.address}/account"
        assert not asked
        browser.close()


@pytest.mark.slow
def test_a_page_that_finds_its_session_over_when_it_listens_again_says_so(served: Pages) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_context(ignore_https_errors=True).new_page()
        signed_in(page, served)
        page.route("**/live*", lambda route: route.abort())  # the network is away while the session ends
        page.goto(f"{served.address}/account")
        page.wait_for_selector("[data-live-state][data-state=lost]")
        served.idle()
        page.unroute("**/live*")
        page.wait_for_selector("[data-live-state][data-state=over]", timeout=15000)
        browser.close()
