"""Charts and graphs of the console saved as files, in a real browser."""

from __future__ import annotations

import os
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from PIL import Image
from playwright.sync_api import Page, sync_playwright

from coordinator.console.links import PATH, make_link
from tests.coordinator.console_deployed_for_tests import desk

CHROMIUM = Path("/usr/bin/chromium")
BEYOND = """
    [...document.querySelectorAll("[data-lineage] svg rect")].filter((box) => [...box.parentNode.querySelectorAll("text")].some(
        (words) => words.getBBox().x + words.getBBox().width > box.x.baseVal.value + box.width.baseVal.value
    )).length
"""
"""How many boxes of a graph have words that do not fit."""


def saved(page: Page, figure: str, kind: str, folder: Path) -> Path:
    with page.expect_download() as coming:
        page.click(f"#{figure} [data-save={kind}]")
    assert coming.value.suggested_filename == f"{figure}.{kind}"
    path = folder / coming.value.suggested_filename
    coming.value.save_as(path)
    return path


@pytest.mark.slow
def test_charts_and_graphs_are_saved_as_they_are_drawn(tmp_path: Path, migrated_sqlite: Path) -> None:
    if not CHROMIUM.exists():
        if os.environ.get("CI") == "true":
            pytest.fail("no Chromium")
        pytest.skip("no Chromium")
    said: list[str] = []
    with desk(tmp_path / "home", migrated_sqlite) as at, sync_playwright() as player:
        version = at.approved(1)
        browser = player.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        page = browser.new_context(ignore_https_errors=True, accept_downloads=True).new_page()
        page.on("pageerror", lambda error: said.append(str(error)))
        centre, address = at.works.centre, at.pages.address
        page.goto(f"{address}{PATH}?key={make_link(centre.engine, at.pages.vault, 'risk-1', centre.clock())}")
        page.click("main button")
        page.wait_for_url(f"{address}/")
        page.goto(f"{address}/models/{version.ref}")
        figures = [each.get_attribute("id") for each in page.locator("figure:has(svg)").all()]
        assert "calibration" in figures
        assert page.locator("figure[data-lineage]").first.get_attribute("id") in figures
        assert page.evaluate(BEYOND) == 0
        for figure in filter(None, figures):
            drawn = page.locator(f"#{figure} svg").first
            vector, pixels = (saved(page, figure, kind, tmp_path) for kind in ("svg", "png"))
            root = ET.fromstring(vector.read_text())
            assert root.tag == "{http://www.w3.org/2000/svg}svg"
            with Image.open(pixels) as picture:
                assert picture.format == "PNG"
                assert picture.width == 2 * round(float(drawn.get_attribute("width") or 0))
                assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 1
        browser.close()
    assert said == []
