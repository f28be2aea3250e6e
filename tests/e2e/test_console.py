"""The console of a whole federation, in a real browser: every page reached by links, for every role, in both themes and at both sizes; and what people come to do there."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page

from tests.e2e.browsing_for_tests import (
    EVERYBODY,
    SIZES,
    Looking,
    Shown,
    Tour,
    browser,
    demo_up,
    follow_links,
    templates,
)
from tests.e2e.test_demo import processes_of

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(1200)]

NOT_BY_LINKS = ("/drafts/", "/signin")
"""What no link leads to: the ways in, and what a session that ended has left."""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("console")
    with demo_up(folder) as found:
        yield found
    assert processes_of(folder) == []


@pytest.fixture(scope="module")
def chrome(shown: Shown) -> Iterator[Browser]:
    with browser(shown) as found:
        yield found


def serious(page: Page) -> list[str]:
    """What axe finds on a page that keeps somebody from using it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']} at {each['nodes'][0]['target']}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


def widest(page: Page) -> int:
    """How far a page can be scrolled sideways, in pixels: tables scroll within themselves."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def test_every_page_is_reached_by_links_and_can_be_used_by_everybody(shown: Shown, chrome: Browser) -> None:
    """Each role follows what it is offered: nothing of that is refused, dead, defective, or asks another host. Each page is then judged by axe."""
    tour, troubles = Tour(), list[str]()
    for officer in EVERYBODY:
        looking = Looking.at(shown, chrome)
        looking.sign_in(officer)
        before = set(tour.pages)
        follow_links(looking, tour)
        for name in sorted(tour.pages.keys() - before):
            troubles += judged(looking, tour.pages[name])
        troubles += looking.complaints
        looking.context.close()
    stranger = Looking.at(shown, chrome)
    for path in ("/signin", "/signin/link?key=used"):
        troubles += judged(stranger, path)
    troubles += stranger.complaints

    assert (tour.dead, troubles) == ([], [])
    not_reached = templates().keys() - tour.pages.keys() - tour.files.keys()
    assert [each for each in sorted(not_reached) if not each.startswith(NOT_BY_LINKS)] == []


def judged(looking: Looking, path: str) -> list[str]:
    """What is wrong with a page, in both themes and at both sizes."""
    found = []
    for dark in (False, True):
        for width in SIZES:
            looking.set(width, dark=dark)
            looking.show(path)
            where = f"{path}, {width} px, {'dark' if dark else 'light'}"
            found += [f"{where}: {each}" for each in serious(looking.page)]
            if beyond := widest(looking.page):
                found.append(f"{where}: {beyond} px wider than the screen")
    looking.set(SIZES[0], dark=False)
    return found
