"""The log's checks in a real browser: they hold for the log as it is, and break where the database or the API was tampered with."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright
from sqlalchemy import text

from coordinator.console.links import PATH, make_link
from coordinator.db import writing
from coordinator.governance.log import append
from protos.log_office import CallDenied
from tests.coordinator.console_for_tests import Pages, copied, pages

pytestmark = pytest.mark.slow
_CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pages]:
    for bank in copied(tmp_path_factory.mktemp("console-browser")):
        with pages(bank) as found:
            grow(found, 9)
            yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        path = str(_CHROMIUM) if _CHROMIUM.exists() else None
        opened = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield opened
        opened.close()


def grow(served: Pages, count: int) -> None:
    for number in range(count):
        denied = CallDenied(officer="risk-1", method="Runs/StopRun", reason=f"“no” – {number} é \u2028 <b>")
        with writing(served.centre.engine, "growing") as session:
            append(session, served.centre.clock(), [denied])


@contextmanager
def signed_in(served: Pages, browser: Browser) -> Iterator[Page]:
    """A page of an auditor's own browser, in which nothing may be wrong but what a check says."""
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    secret = make_link(served.centre.engine, served.vault, "auditor-1", served.centre.clock())
    page.goto(f"{served.address}{PATH}?key={secret}")
    page.click("main button")
    page.wait_for_url(f"{served.address}/")
    yield page
    assert wrong == []
    context.close()


def checks(served: Pages, page: Page, path: str) -> dict[str, str]:
    """What the checks of a page came to."""
    page.goto(served.address + path)
    page.wait_for_function(
        "() => document.querySelectorAll('[data-check][data-state=open]').length === 0 || document.querySelector('[data-check][data-state=broken]')"
    )
    found = page.locator("[data-check]").all()
    return {str(each.get_attribute("data-check")): str(each.get_attribute("data-state")) for each in found}


def words(page: Page) -> str:
    return page.locator("[data-proof]").inner_text()


HOLDS = {"root": "held", "signature": "held", "grown": "held"}


def test_every_entry_holds_and_growth_is_remembered(served: Pages, browser: Browser) -> None:
    with signed_in(served, browser) as page:
        assert checks(served, page, "/log/0") == HOLDS
        assert "remembers the head of" in words(page)
        assert checks(served, page, "/log/1") == HOLDS
        assert "this browser saw last" in words(page)
        for number in (1, 2, 3, 5):  # sizes beside and at powers of two
            grow(served, number)
            assert checks(served, page, "/log/head") == {"signature": "held", "grown": "held"}
            assert "entries; last seen" in words(page)
        size = json.loads(page.locator("[data-proof] script").inner_text())["note"].split("\n")[1]
        for seq in range(int(size)):
            assert checks(served, page, f"/log/{seq}") == HOLDS, seq
        assert not page.locator("[data-alarm]").is_visible()


def test_an_entry_that_was_changed_in_the_database_does_not_hold(served: Pages, browser: Browser) -> None:
    engine, seq = served.centre.engine, 6
    with engine.connect() as connection:
        before = connection.execute(
            text("SELECT body FROM log_entries WHERE seq = :seq"), {"seq": seq}
        ).scalar_one()
        trigger = connection.execute(
            text("SELECT sql FROM sqlite_master WHERE name = 'log_entries_no_update'")
        ).scalar_one()

    def put(body: bytes) -> None:
        with engine.begin() as connection:
            connection.execute(text("DROP TRIGGER log_entries_no_update"))
            connection.execute(
                text("UPDATE log_entries SET body = :body WHERE seq = :seq"), {"body": body, "seq": seq}
            )
            connection.execute(text(trigger))

    put(bytes(before).replace(b"risk-1", b"risk-2"))
    try:
        with signed_in(served, browser) as page:
            assert checks(served, page, f"/log/{seq}")["root"] == "broken"
            expect(page.locator("[data-alarm]")).to_be_visible()
            assert checks(served, page, f"/log/{seq - 1}") == HOLDS
    finally:
        put(bytes(before))


def altered(page: Page, change: str, into: str) -> None:
    """Have an answer come in another form, as an API that lies would give it."""

    def answer(route: Route) -> None:
        found = route.fetch()
        route.fulfill(response=found, body=found.text().replace(change, into, 1))

    page.route("**/log/*", answer)


def test_a_head_that_the_key_did_not_sign_does_not_hold(served: Pages, browser: Browser) -> None:
    with signed_in(served, browser) as page:
        checks(served, page, "/log/head")
        of = json.loads(page.locator("[data-proof] script").inner_text())
        size = of["note"].split("\n")[1]
        altered(page, f"demo/log\\n{size}\\n", f"demo/log\\n{int(size) + 1}\\n")
        assert checks(served, page, "/log/head")["signature"] == "broken"


def test_a_log_that_is_not_the_one_this_browser_saw_does_not_hold(served: Pages, browser: Browser) -> None:
    with signed_in(served, browser) as page:
        checks(served, page, "/log/head")
        known = page.evaluate(
            "() => JSON.parse(Object.values(localStorage).find((each) => each.includes('root')))"
        )

        def remember(**changed: object) -> None:
            page.evaluate(
                "(text) => localStorage.setItem('covenant-log-head demo/log', text)",
                json.dumps({**known, **changed}),
            )

        for changed, says in (
            ({"root": "ab" * 32}, "others now"),
            ({"size": known["size"] - 1, "root": "ab" * 32}, "others now"),
            ({"size": known["size"] + 5}, "has seen"),
            ({"key": "demo/log+00000000+AQ=="}, "another one than this browser knew"),
        ):
            remember(**changed)
            assert checks(served, page, "/log/head") == {"signature": "held", "grown": "broken"}
            assert says in words(page)


def test_a_browser_without_ed25519_says_so(served: Pages, browser: Browser) -> None:
    with signed_in(served, browser) as page:
        page.add_init_script(
            "crypto.subtle.importKey = () => Promise.reject(new DOMException('no such algorithm', 'NotSupportedError'))"
        )
        page.goto(f"{served.address}/log/3")
        page.wait_for_selector("[data-check=signature][data-state=none]")
        expect(page.locator("[data-check=root]")).to_have_attribute("data-state", "held")
        assert "has no Ed25519" in words(page)
        assert not page.locator("[data-alarm]").is_visible()
