"""A session that ends under an open page, in a real browser."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, sync_playwright
from sqlalchemy import select

from coordinator.console.links import PATH, make_link
from coordinator.db.console_schema import ConsoleSession
from coordinator.db.engine import writing
from tests.coordinator.console_for_tests import Pages, copied, pages

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine"),
]
REFRESH = "htmx.trigger(document.querySelector('#now'), 'refresh')"
FORM = "document.querySelector('main').insertAdjacentHTML('beforeend', '<form method=post><textarea id=typed></textarea></form>')"


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Pages]:
    for bank in copied(tmp_path):
        with pages(bank) as found:
            yield found


def idle(served: Pages) -> None:
    """Half an hour goes by for every session."""
    with writing(served.centre.engine, "waiting") as session:
        for row in session.scalars(select(ConsoleSession)):
            row.seen_at -= timedelta(minutes=31)


def signed_in(page: Page, served: Pages) -> None:
    secret = make_link(served.centre.engine, "auditor-1", served.centre.clock())
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
        idle(served)
        page.evaluate(REFRESH)
        page.wait_for_selector("[data-live-state][data-state=over]")
        assert "what you typed is kept once you send it" in page.inner_text("[data-live-state]")
        assert page.input_value("#typed") == "half a sentence"
        assert page.locator("#now").count() == 1

        signed_in(page, served)
        idle(served)
        page.evaluate(REFRESH)
        page.wait_for_url("**/signin?next=%2F")
        browser.close()
