"""The console of a whole federation, in a real browser: every page reached by links, for every role, in both themes and at both sizes; and what people come to do there."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.browsing_for_tests import (
    EVERYBODY,
    SIZES,
    Looking,
    Shown,
    Tour,
    browser,
    demo_up,
    desk_of,
    follow_links,
    templates,
)
from tests.e2e.judging_for_tests import serious, troubles
from tests.e2e.test_demo import processes_of

pytestmark = [pytest.mark.engine, pytest.mark.slow, pytest.mark.timeout(2000)]

NOT_BY_LINKS = ("/drafts/", "/signin", "/log/consistency")
"""What no link leads to: the ways in, what a session that ended has left, and what a script asks for."""
NOT_IN_THE_DEMO = ("/log/evidence/{number}",)
"""What the demo that stays up has none of: evidence of a fork. Its page is judged with data of its own by
tests/coordinator/test_console_watched_browser.py."""


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


def test_every_page_is_reached_by_links_and_can_be_used_by_everybody(shown: Shown, chrome: Browser) -> None:
    """Each role follows what it is offered: nothing of that is refused, dead, defective, or asks another host. Each page is then judged by axe."""
    tour, found = Tour(), list[str]()
    for officer in EVERYBODY:
        looking = Looking.at(shown, chrome)
        looking.sign_in(officer)
        before = set(tour.pages)
        follow_links(looking, tour)
        for name in sorted(tour.pages.keys() - before):
            found += judged(looking, tour.pages[name])
        found += looking.complaints
        looking.context.close()
    stranger = Looking.at(shown, chrome)
    for path in ("/signin", "/signin/link?key=used"):
        found += judged(stranger, path)
    found += stranger.complaints

    assert not tour.dead + found, "\n".join(tour.dead + found)
    not_reached = templates().keys() - tour.pages.keys() - tour.files.keys()
    assert [each for each in sorted(not_reached) if not each.startswith(NOT_BY_LINKS)] == sorted(
        NOT_IN_THE_DEMO
    )


def judged(looking: Looking, path: str) -> list[str]:
    """What is wrong with a page, in both themes and at both sizes."""
    found = []
    for dark in (False, True):
        for width in SIZES:
            looking.set(width, dark=dark)
            looking.show(path)
            where = f"{path}, {width} px, {'dark' if dark else 'light'}"
            found += [f"{where}: {each}" for each in troubles(looking.page)]
    looking.set(SIZES[0], dark=False)
    return found


def test_from_a_budget_to_a_rollback(shown: Shown, chrome: Browser) -> None:
    """What people come for: budgets are read, a plan is approved at two desks and launched, its run is watched to its end, models are compared, one is taken back, and the log is verified."""
    privacy, engineer, risk, auditor = (
        signed_in(shown, chrome, each) for each in ("privacy-officer", "ml-engineer", "model-risk", "auditor")
    )

    reads_budgets(privacy)
    approves_at_the_desk(privacy, chrome)
    approves_at_the_desk(risk, chrome)
    watches_to_the_end(engineer)
    compares_models(engineer)
    rolls_back(risk)
    verifies_the_log(auditor)

    for each in (privacy, engineer, risk, auditor):
        assert each.complaints == []
        each.context.close()


def signed_in(shown: Shown, chrome: Browser, officer: str) -> Looking:
    looking = Looking.at(shown, chrome)
    looking.sign_in(officer)
    return looking


def reads_budgets(looking: Looking) -> None:
    looking.show("/budgets")
    for site in ("west", "midwest", "northeast", "south"):
        expect(looking.page.get_by_role("row").filter(has_text=site).first).to_contain_text("lending-club")
    looking.page.locator('#main a[href^="/budgets/west/"]').first.click()
    expect(looking.page.get_by_role("main")).to_contain_text("add-or-remove-one")


def approves_at_the_desk(console: Looking, chrome: Browser) -> None:
    """The console leads to the desk, whose address stands in the officer's own terminal; the desk checks, and signs once the digits are typed."""
    plan = str(console.shown.facts["plan"])
    console.show("/plans")
    console.page.locator(f'#main a[href*="{plan}"]').first.click()
    console.page.wait_for_url(f"**/plans/{plan}*")
    leads = console.page.get_by_role("link", name="Open at your desk").get_attribute("href")
    assert leads is not None
    with desk_of(console.shown, console.officer) as address:
        host = "/".join(address.split("/")[:3])
        desk = Looking.at(console.shown, chrome, host)
        desk.page.goto(address)
        expect(desk.page.get_by_role("main")).to_contain_text("Plans that wait for you")
        desk.page.goto(f"{host}/{leads.split('/', 3)[3]}")
        assert serious(desk.page) == []
        sign = desk.page.get_by_role("button", name="Sign with your key")
        expect(sign).to_be_disabled()
        desk.page.locator("input[name=confirmed]").fill(plan[:8])
        sign.click()
        expect(desk.page.get_by_role("status")).to_contain_text("You approved it as")
        assert desk.complaints == []
        desk.context.close()
    console.page.reload()
    expect(console.page.get_by_role("row").filter(has_text=console.officer).first).to_be_visible()


def watches_to_the_end(looking: Looking) -> None:
    """The run's page is loaded once, and says by itself that the run is over."""
    plan = looking.shown.facts["plan"]
    looking.show("/plans")
    looking.page.locator(f'#main a[href*="{plan}"]').first.click()
    looking.page.get_by_role("button", name="Launch this plan").click()
    looking.page.wait_for_url("**/runs/run-*")
    looking.page.evaluate("window.loadedOnce = true")
    expect(looking.page.locator("#run-now")).to_contain_text("completed", timeout=240_000)
    expect(looking.page.locator("#run-course svg").first).to_be_visible()
    assert looking.page.evaluate("window.loadedOnce") is True


def compares_models(looking: Looking) -> None:
    looking.show("/models")
    looking.page.get_by_role("button", name="Side by side").click()
    heading = looking.page.get_by_role("heading", level=1)
    expect(heading).to_contain_text(re.compile("lending-default@[0-9]+ and lending-default@[0-9]+"))
    expect(looking.page.locator("[data-chart] svg").first).to_be_visible()


def rolls_back(looking: Looking) -> None:
    looking.show("/deployments/branch")
    now = looking.page.get_by_role("button", name="Roll back now")
    expect(now).to_be_disabled()
    form = looking.page.locator("form", has=now)
    form.locator("[name=why]").fill("it answers too boldly")
    form.locator("[name=confirmed]").fill("roll back")
    now.click()
    expect(looking.page.locator("#history")).to_contain_text("it answers too boldly")
    expect(looking.page.locator("#history")).to_contain_text("rolled")


def verifies_the_log(looking: Looking) -> None:
    """The browser computes the root from the entry and its proof, and checks the head's signature."""
    looking.show("/log")
    looking.page.locator("#main").get_by_role("link", name=re.compile("^[0-9]+$")).first.click()
    for check in ("root", "signature"):
        expect(looking.page.locator(f"[data-check={check}]")).to_have_attribute("data-state", "held")
    expect(looking.page.locator("[data-alarm]")).to_be_hidden()
