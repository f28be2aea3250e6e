"""A run's page in a real browser: it follows the run by itself, and keeps what its reader has typed and opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect, sync_playwright

from coordinator.console.links import PATH, make_link
from coordinator.console.vault import Vault
from coordinator.rounds.exchange import Answered
from tests.coordinator.runs_console_for_tests import GOING, PUBLIC, ran
from tests.coordinator.secure_for_tests import EAST

CHROMIUM = Path("/usr/bin/chromium")
_S = 8000


@pytest.mark.slow
def test_a_page_follows_its_run(tmp_path: Path) -> None:
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium")
        pytest.skip("no Chromium")
    said: list[str] = []
    with ran(tmp_path) as console, sync_playwright() as player:
        browser = player.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        context = browser.new_context(ignore_https_errors=True)
        page, centre, address = context.new_page(), console.pages.centre, console.pages.address
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        vault = Vault(centre.settings.console_key_file)
        page.goto(f"{address}{PATH}?key={make_link(centre.engine, vault, 'author-1', centre.clock())}")
        page.click("main button")
        page.wait_for_url(f"{address}/")
        runs = context.new_page()
        runs.goto(f"{address}/runs")

        page.goto(f"{address}/runs/{GOING}")
        east = page.locator("#run-now tr", has_text="east")
        expect(east).to_contain_text("not answered yet")
        page.click("#run-actions summary")
        page.check("input[name=confirmed]")
        console.going.heard(EAST, Answered(b"z" * 100), None)
        console.going.flush()
        expect(east.locator(".badge")).to_have_text("answered", timeout=_S)
        assert page.is_checked("input[name=confirmed]")

        console.store.finish("failed", "a <b>test</b>")
        expect(page.locator("#run-now .standing .badge")).to_have_text("failed", timeout=_S)
        expect(page.locator("#run-actions button")).to_contain_text("Resume after round 0", timeout=_S)
        expect(runs.locator("#run-list tr", has_text=GOING)).to_contain_text("failed", timeout=_S)

        page.goto(f"{address}/runs/{PUBLIC}")
        expect(page.locator("#run-course svg")).to_have_count(5)
        page.locator("#auc summary").click()
        page.evaluate("""
            document.querySelector("#auc figcaption").textContent = "old";
            htmx.trigger(document.querySelector("#run-course"), "refresh");
        """)
        expect(page.locator("#auc figcaption")).to_have_text("Area under the ROC curve", timeout=_S)
        expect(page.locator("#run-course svg")).to_have_count(5)
        expect(page.locator("#auc details")).to_have_attribute("open", "")
        browser.close()
    assert said == []
