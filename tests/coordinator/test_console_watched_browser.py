"""The pages about a model that is explained, compared by group, watched, valued and to be retrained, with data of all of it: people can use them in either theme and at either size, and none scrolls sideways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from coordinator.console.links import PATH, make_link
from tests.coordinator.console_watched_for_tests import MODEL, Watched, watched_desk
from tests.e2e.browsing_for_tests import SIZES, chromium
from tests.e2e.judging_for_tests import troubles

pytestmark = pytest.mark.slow

_DRAWN = "[...document.querySelectorAll('[data-chart] .canvas')].every((each) => each.querySelector('svg'))"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Watched]:
    with watched_desk(tmp_path_factory.mktemp("watched") / "home", migrated_sqlite) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as play:
        opened = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        yield opened
        opened.close()


@contextmanager
def engineer(watched: Watched, browser: Browser, width: int, *, dark: bool) -> Iterator[Page]:
    """A page of an engineer's own browser, to which nothing may seem wrong."""
    context = browser.new_context(
        ignore_https_errors=True,
        viewport={"width": width, "height": 900},
        color_scheme="dark" if dark else "light",
    )
    page, served, said = context.new_page(), watched.desk.pages, list[str]()
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on(
        "console",
        lambda told: said.append(told.text) if told.type in {"error", "warning"} else None,
    )
    secret = make_link(served.centre.engine, served.vault, "author-1", served.centre.clock())
    page.goto(f"{served.address}{PATH}?key={secret}")
    page.click("main button")
    page.wait_for_url(f"{served.address}/")
    yield page
    assert said == []
    context.close()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", SIZES)
def test_everybody_can_use_pages_with_all_their_data(
    watched: Watched, browser: Browser, width: int, dark: bool
) -> None:
    address, found = watched.desk.pages.address, list[str]()
    with engineer(watched, browser, width, dark=dark) as page:
        for path in (
            f"/models/{MODEL}",
            f"/models/{MODEL}/windows",
            "/loop",
            f"/loop/{watched.draft}",
            "/log/head",
            f"/models/{MODEL}/value",
        ):
            page.goto(address + path)
            if path.endswith("/value"):
                page.get_by_role("button", name="Work it out").click()
                page.locator("#spent").wait_for()
                page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
            page.wait_for_function(_DRAWN)
            found += [f"{urlsplit(page.url).path}: {each}" for each in troubles(page)]
    assert not found, "\n".join(found)
