"""The desk as people meet it: the command in a process of its own, and both consoles in a real browser."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from coordinator.console.desk.server import listening
from coordinator.console.links import PATH, make_link
from protos.membership import Role
from simulation.deployment import free_port
from strategies.errors import UsageError
from tests.coordinator.api_for_tests import Bank, approval, authored, plan_of, serving
from tests.coordinator.console_for_tests import Pages, pages
from tests.coordinator.desk_for_tests import desk_of
from tests.trust_for_tests import key_of

pytestmark = pytest.mark.slow
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    yield from serving(tmp_path / "bank")


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        made = browser.new_context(ignore_https_errors=True).new_page()
        made.wrong = []  # type: ignore[attr-defined]
        made.on("console", lambda said: made.wrong.append(said.text) if said.type == "error" else None)  # type: ignore[attr-defined]
        yield made
        browser.close()


def sign_in(page: Page, served: Pages, officer: str) -> None:
    secret = make_link(served.centre.engine, served.vault, officer, served.centre.clock())
    page.goto(f"{served.address}{PATH}?key={secret}")
    page.click("main button")
    page.wait_for_url(f"{served.address}/")


def test_the_command_opens_a_desk_and_closes_it(bank: Bank, tmp_path: Path) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    key = tmp_path / "privacy-1.key"
    key_of("privacy-1").save(key)
    port, root = free_port(), bank.centre.settings.root_file
    command = [
        sys.executable,
        "-m",
        "coordinator.main",
        "desk",
        "--root",
        str(root),
        "--key",
        str(key),
        "--port",
        str(port),
        "--no-open",
    ]
    environment = {**os.environ, "COVENANT_ACCESS": str(bank.access("privacy-1"))}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    try:
        assert process.stderr is not None
        said = ""
        while (found := re.search(rf"http://127\.0\.0\.1:{port}/\S+/enter\?key=\S+", said)) is None:
            line = process.stderr.readline()
            assert line, said
            said += line
        assert "Every entry: all" in said
        client = httpx.Client(follow_redirects=True, timeout=30, trust_env=False)
        answered = _ask(client, found[0])
        assert what.plan.digest in answered.text
        assert (bank.folder / "access" / "privacy-1.desk").stat().st_mode & 0o077 == 0
    finally:
        process.terminate()
        process.wait(20)


def _ask(client: httpx.Client, address: str) -> httpx.Response:
    """Ask a server that is about to listen."""
    for _ in range(100):
        try:
            return client.get(address)
        except httpx.ConnectError:
            time.sleep(0.1)
    raise AssertionError(address)


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_from_the_hosted_console_to_the_desk_and_back(bank: Bank, page: Page) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    bank.desk("risk-1").approve(approval(what, "risk-1", Role.MODEL_RISK))
    with desk_of(bank, "privacy-1") as desk:
        desk.session.entered = False  # the browser's own way in
        with pages(bank) as served:
            sign_in(page, served, "privacy-1")
            page.goto(f"{served.address}/plans/{what.plan.digest}")
            page.wait_for_selector("[data-verdict][data-state=good]")
            page.goto(desk.session.address)
            page.goto(f"{served.address}/plans/{what.plan.digest}")
            link = f"{desk.origin}/plans/{what.plan.digest}?contract={what.contract.digest}"
            page.evaluate("(to) => { document.querySelector('.desk a').href = to; }", link)
            page.click(".desk a")
            page.wait_for_selector("input[name=confirmed]")
            assert desk.session.room in page.url  # which the hosted console does not know
            button = page.locator("form[action$='/approve'] button")
            expect(button).to_be_disabled()  # once the page's script ran
            page.fill("input[name=confirmed]", what.plan.digest[:8])
            button.click()
            page.wait_for_selector(".notice")
            assert "You approved it as privacy_officer" in page.inner_text(".notice >> nth=0")
            assert bank.desk("auditor-1").plan(what.plan.digest, "")[1].approved
            assert page.wrong == []  # type: ignore[attr-defined]


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_a_text_that_was_changed_in_the_database_is_seen_in_the_browser(bank: Bank, page: Page) -> None:
    what = plan_of()
    bank.desk("author-1").propose(what, authored(what))
    with pages(bank) as served:
        sign_in(page, served, "auditor-1")
        page.route(
            "**/plans/*",
            lambda route: route.fulfill(
                response=(answer := route.fetch()),
                body=answer.text().replace("credit-risk", "credit-risks"),
            ),
        )
        page.goto(f"{served.address}/plans/{what.plan.digest}")
        page.wait_for_selector("[data-verdict][data-state=bad]")


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on this machine")
def test_a_plan_that_is_proposed_appears_in_the_open_list(bank: Bank, page: Page) -> None:
    with pages(bank) as served:
        sign_in(page, served, "auditor-1")
        page.goto(f"{served.address}/plans")
        page.wait_for_selector("[data-live-state][data-state=on]")
        what = plan_of()
        bank.desk("author-1").propose(what, authored(what))
        page.wait_for_selector("#plans td a", timeout=15_000)
        assert page.locator("#plans").count() == 1
        assert page.wrong == []  # type: ignore[attr-defined]


def test_a_port_that_is_taken_is_said(bank: Bank) -> None:
    port = free_port()
    with listening(port), pytest.raises(UsageError, match="name another with --port"), listening(port):
        pass
