"""How the console is to use, in a real browser: by keyboard, on paper, on a phone with two hundred sites, with files of every table and chart."""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest
from playwright.sync_api import BrowserContext, Locator, Page, expect, sync_playwright

from coordinator.console.links import PATH, make_link
from coordinator.db.engine import writing
from coordinator.db.progress_schema import SiteHeard
from tests.ceilings_for_tests import site_of
from tests.coordinator.registry_for_tests import Registry
from tests.coordinator.runs_console_for_tests import DONE, PUBLIC, Ran, ran

pytestmark = pytest.mark.slow
CHROMIUM = Path("/usr/bin/chromium")
DESK, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}
SITES = 200


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    """With two hundred member sites: most are well, one was never asked."""
    with ran(tmp_path_factory.mktemp("habits")) as found:
        registry = Registry(found.federation)
        listed = registry.listed.membership.signed.list
        more = [site_of(f"branch-{number:03}-of-the-north") for number in range(SITES - len(listed.members))]
        registry.certify(members=(*listed.members, *more))
        now = datetime.now(UTC)
        with writing(found.federation.engine, "hearing of sites") as session:
            for each in more[1:]:
                session.add(
                    SiteHeard(
                        site=each.site,
                        answered_at=now,
                        contract="loans@1",
                        fits=True,
                        contract_at=now,
                        version="0.1.0",
                    )
                )
        yield found


@pytest.fixture
def context(console: Ran) -> Iterator[BrowserContext]:
    if not CHROMIUM.exists():
        pytest.fail("no Chromium") if os.environ.get("CI") == "true" else pytest.skip("no Chromium")
    with sync_playwright() as player:
        browser = player.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        yield browser.new_context(
            ignore_https_errors=True, viewport=DESK, timezone_id="America/New_York", locale="en-US"
        )
        browser.close()


def signed_in(console: Ran, context: BrowserContext, officer: str) -> Page:
    page, centre = context.new_page(), console.pages.centre
    page.goto(
        f"{console.pages.address}{PATH}?key={make_link(centre.engine, console.pages.vault, officer, centre.clock())}"
    )
    page.click("main button")
    page.wait_for_url(f"{console.pages.address}/")
    return page


def test_two_hundred_sites_can_be_used_on_a_phone(console: Ran, context: BrowserContext) -> None:
    page = signed_in(console, context, "privacy-1")
    page.set_viewport_size(PHONE)
    page.goto(f"{console.pages.address}/sites")
    rows = page.locator("#sites tbody tr")
    assert rows.count() == SITES
    wider = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wider) == 0
    first, last = rows.first, rows.last
    for words in ("refuses", "refused (later)"):  # who needs somebody comes first, and says why
        expect(first.get_by_text(words, exact=True)).to_be_visible()
    expect(last).to_contain_text("well")
    box = rows.nth(SITES // 2).bounding_box()
    assert box is not None
    assert box["height"] < 80  # who is well has a line or two: name and health
    assert last.get_by_role("link").bounding_box() is not None

    page.get_by_label("Name has").fill("branch-117")
    page.keyboard.press("Enter")
    expect(rows).to_have_count(1)
    rows.first.get_by_role("link").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("branch-117")
    assert page.evaluate(wider) == 0


def test_no_table_of_a_menu_page_has_to_be_scrolled_sideways_at_a_desk(
    console: Ran, context: BrowserContext
) -> None:
    page = signed_in(console, context, "privacy-1")
    for path in ("/", "/budgets", "/plans", "/runs", "/sites", "/models", "/deployments", "/log"):
        page.goto(console.pages.address + path)
        beyond = page.evaluate(
            "[...document.querySelectorAll('.scroll')].filter(each => each.scrollWidth > each.clientWidth + 1).map(each => each.ariaLabel)"
        )
        assert beyond == [], path


def test_the_keyboard_reaches_everything(console: Ran, context: BrowserContext) -> None:
    page = signed_in(console, context, "author-1")
    page.goto(f"{console.pages.address}/runs")
    page.keyboard.press("Tab")
    skip = page.locator(":focus")
    expect(skip).to_have_text("To the content")
    box = skip.bounding_box()
    assert box is not None
    assert box["x"] >= 0  # it comes into sight
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile("#main$"))
    page.keyboard.press("Tab")  # the first field after the menu that was skipped
    expect(page.locator("main :focus")).to_have_count(1)
    outline = page.locator(":focus").evaluate(
        "each => getComputedStyle(each).outlineStyle + getComputedStyle(each).outlineWidth"
    )
    assert outline == "solid3px"

    reached = set[str]()
    page.goto(f"{console.pages.address}/halt")
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(
            page.evaluate("document.activeElement.name || document.activeElement.getAttribute('href') || ''")
        )
    assert {"/runs", "/halt", "scope", "reason", "confirmed"} <= reached
    press_access_key(page, "4")
    page.wait_for_url("**/runs")
    press_access_key(page, "h")
    page.wait_for_url("**/halt")


def press_access_key(page: Page, key: str) -> None:
    """With Alt, as a keyboard does it: the driver's own `press` leaves out what the key would write, which the browser goes by."""
    session = page.context.new_cdp_session(page)
    session.send(
        "Input.dispatchKeyEvent", {"type": "char", "modifiers": 1, "text": key, "unmodifiedText": key}
    )


def test_the_keys_are_told_and_name_one_place_each(console: Ran, context: BrowserContext) -> None:
    page = signed_in(console, context, "author-1")
    page.goto(f"{console.pages.address}/account")
    keys = page.evaluate("[...document.querySelectorAll('[accesskey]')].map(each => each.accessKey)")
    assert len(keys) == len(set(keys))
    told = page.locator("section", has_text="Keyboard").locator("dt").all_inner_texts()
    assert set(told) == set(keys)


def test_times_are_the_readers_with_utc_on_hover(console: Ran, context: BrowserContext) -> None:
    page = signed_in(console, context, "author-1")
    page.goto(f"{console.pages.address}/runs")
    at = page.locator("time").first
    moment = datetime.fromisoformat(at.get_attribute("datetime") or "")
    assert at.get_attribute("title") == f"{moment:%Y-%m-%d %H:%M:%S} UTC"
    there = moment.astimezone(timezone_of(page, moment))
    assert f"{there.hour % 12 or 12}:{there.minute:02}" in at.inner_text()
    assert there.utcoffset() != timedelta(0)


def timezone_of(page: Page, moment: datetime) -> object:
    from zoneinfo import ZoneInfo

    return ZoneInfo(page.evaluate("Intl.DateTimeFormat().resolvedOptions().timeZone"))


def test_on_paper_there_is_what_the_page_says_and_nothing_to_press(
    console: Ran, context: BrowserContext
) -> None:
    page = signed_in(console, context, "author-1")
    page.goto(f"{console.pages.address}/runs/{PUBLIC}")
    page.wait_for_selector("[data-chart] svg")
    page.emulate_media(media="print", color_scheme="dark")
    for hidden in (".top", ".side", ".pages", "form", ".live"):
        for each in page.locator(hidden).all():
            expect(each).to_be_hidden()
    for seen in ("h1", "#rounds table", "[data-chart] svg"):
        expect(page.locator(seen).first).to_be_visible()
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    dark = page.evaluate(
        "[...document.querySelectorAll('main *')].map(each => getComputedStyle(each)).filter(each => ['rgb(24, 33, 32)', 'rgb(16, 23, 22)'].includes(each.backgroundColor)).length"
    )
    assert dark == 0
    assert page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("officer", ["author-1", "admin-1"])
def test_every_table_and_chart_is_a_file(console: Ran, context: BrowserContext, officer: str) -> None:
    page = signed_in(console, context, officer)
    addresses = [
        "/",
        "/sites",
        "/sites/west",
        "/halt",
        "/runs",
        f"/runs/{DONE}",
        f"/runs/{PUBLIC}",
        "/deployments",
        "/log",
        "/account",
    ]
    if officer == "author-1":
        addresses += [
            "/budgets",
            "/budgets/west/loans",
            "/budgets/what-if",
            "/plans",
            "/models",
            f"/models/from/run/{DONE}",
        ]
    charts = 0
    for address in addresses:
        answered = page.goto(console.pages.address + address)
        assert answered is not None
        assert answered.ok, address
        page.wait_for_function(
            "[...document.querySelectorAll('[data-chart] .canvas')].every(each => each.querySelector('svg'))"
        )
        page.evaluate("document.querySelectorAll('details').forEach(each => { each.open = true })")
        for number, table in enumerate(page.locator("section.table", has=page.locator("table")).all()):
            link = table.get_by_role("link", name=re.compile("^CSV")).first
            told = saved(page, link) if number == 0 else had(page, link)
            headings, *rows = csv.reader(io.StringIO(told.decode()))
            shown = [each.strip() for each in table.locator("th").all_text_contents()]
            assert rows, address
            assert all(len(row) == len(headings) for row in rows), address
            assert headings == shown, address
        for number, figure in enumerate(page.locator("[data-chart]:has(.canvas)").all()):
            charts += 1
            for kind, begins in (("SVG", b"<svg"), ("PNG", b"\x89PNG")):
                button = figure.get_by_role("button", name=kind)
                expect(button).to_be_visible()
                if number < _SAVED:
                    data = saved(page, button)
                    assert data.startswith(begins), address
                    assert len(data) > 1000, address
    assert charts >= (3 if officer == "admin-1" else 5)


_SAVED = 2
"""Charts of a page whose pictures are taken: Chromium refuses a page its eleventh file."""


def saved(page: Page, what: Locator) -> bytes:
    """What is downloaded when somebody clicks."""
    with page.expect_download() as found:
        what.click()
    return Path(found.value.path()).read_bytes()


def had(page: Page, link: Locator) -> bytes:
    """What a link leads to."""
    address = link.get_attribute("href") or ""
    if address.startswith("data:text/csv"):
        return unquote(address.partition(",")[2]).encode()
    return page.context.request.get(urljoin(page.url, address)).body()
