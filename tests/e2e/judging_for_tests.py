"""What is wrong with a page of the console as it stands in a browser: what keeps somebody from using it, and what nobody can have a file of."""

from __future__ import annotations

from typing import Final

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

_NOT_TO_BE_HAD: Final = """() => {
  const shown = (place, what) => [...document.querySelectorAll(place)].filter(what).map((each) => `${place} ${each.id || each.textContent.slice(0, 40)}`);
  const saves = (each, kind) => { const found = each.querySelector(`[data-save=${kind}]`); return found && !found.closest("[hidden]"); };
  return [
    ...shown("section.table", (each) => each.querySelector("table") && !each.querySelector("a[download][href*=csv]")),
    ...shown("[data-chart], [data-lineage]", (each) => each.querySelector("script") && !(saves(each, "svg") && saves(each, "png"))),
    ...shown("time", (each) => !/^[0-9]{4}-.* UTC$/.test(each.title)),
  ];
}"""


def serious(page: Page) -> list[str]:
    """What axe finds on a page that keeps somebody from using it."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']} at {each['nodes'][0]['target']}"
        for each in found
        if each["impact"] in {"serious", "critical"}
    ]


def not_to_be_had(page: Page) -> list[str]:
    """Tables without a file, charts without a picture, times without UTC."""
    return list(page.evaluate(_NOT_TO_BE_HAD))


def widest(page: Page) -> int:
    """How far a page can be scrolled sideways, in pixels: tables scroll within themselves."""
    return int(page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))


def troubles(page: Page) -> list[str]:
    """All of it."""
    beyond = widest(page)
    return [
        *serious(page),
        *not_to_be_had(page),
        *([f"{beyond} px wider than the screen"] if beyond else []),
    ]
