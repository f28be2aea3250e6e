"""Tables as files: one that is cut says so, and where it goes on; together they have every row once."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator
from dataclasses import replace
from urllib.parse import unquote

import pytest

from coordinator.console.charts import SHOWN_PLACES, Chart, Series
from coordinator.console.pages import budgets, log, run, runs
from coordinator.console.reads import progress
from coordinator.console.tables import Cell, Column, Table
from protos.quantities import thousands
from tests.coordinator.console_for_tests import Browser
from tests.coordinator.runs_console_for_tests import DONE, PUBLIC, REFUSED, Ran, ran

CUT = re.compile(r"Cut after (\d+) rows; the next ones are at (/\S+)")


@pytest.fixture(scope="module")
def console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    with ran(tmp_path_factory.mktemp("files")) as found:
        yield found


def lines(browser: Browser, path: str) -> list[list[str]]:
    answered = browser.get(path)
    assert answered.status_code == 200, answered.text
    return list(csv.reader(io.StringIO(answered.text, newline="")))[1:]


def followed(browser: Browser, path: str) -> tuple[list[list[str]], int]:
    """All rows, by what the last line of each file says; and how many files there were."""
    found: list[list[str]] = []
    for files in range(1, 100):
        rows = lines(browser, path)
        cut = CUT.fullmatch(rows[-1][0]) if rows else None
        if cut is None:
            return [*found, *rows], files
        assert len(rows[-1]) == len(rows[0])
        assert int(cut[1]) == len(rows) - 1
        found += rows[:-1]
        path = cut[2]
    raise AssertionError("files without an end")


@pytest.mark.parametrize(
    ("path", "cut"),
    [
        ("/runs?format=csv", (runs, "_MOST_IN_FILE")),
        ("/runs?format=csv&plan=secure", (runs, "_MOST_IN_FILE")),
        ("/log?format=csv", (log, "_MOST_IN_CSV")),
        ("/log?format=csv&about=west", (log, "_MOST_IN_CSV")),
        ("/budgets?format=csv", (budgets, "_MOST_IN_FILE")),
        (f"/runs/{PUBLIC}?format=csv&table=rounds", (progress, "MOST_POINTS")),
        (f"/runs/{PUBLIC}?format=csv&table=exchanges", (run, "_MOST_EXCHANGES")),
        (f"/runs/{DONE}?format=csv&table=exchanges", (run, "_MOST_EXCHANGES")),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
@pytest.mark.parametrize("most", [1, 2, 9])
def test_files_that_are_cut_have_every_row_once(
    console: Ran, monkeypatch: pytest.MonkeyPatch, path: str, cut: tuple[object, str], most: int
) -> None:
    browser = console.browser("privacy-1")
    whole, once = followed(browser, path)
    assert once == 1
    monkeypatch.setattr(*cut, most)
    rows, files = followed(browser, path)
    assert rows == whole
    assert files > 1 or len(whole) <= most


def test_a_file_of_refusals_says_that_there_are_more(console: Ran, monkeypatch: pytest.MonkeyPatch) -> None:
    browser = console.browser("privacy-1")
    path = f"/runs/{REFUSED}?format=csv&table=refusals"
    assert "Cut after" not in browser.get(path).text
    monkeypatch.setattr(progress, "MOST_POINTS", 1)
    assert lines(browser, path)[-1][0].startswith("Cut after 1 rows; earlier ones are")


def test_pages_say_how_many_rows_a_file_has(console: Ran) -> None:
    browser = console.browser("privacy-1")
    for path, most in (("/runs", 1000), ("/log", 1000), ("/budgets", 2000)):
        assert f"A file has up to {thousands(most)} rows" in browser.get(path).text, path


def test_the_last_line_is_never_a_formula() -> None:
    table = Table(name="x", caption="x", columns=[Column("n")], rows=[[Cell(1)]], older="/x")
    assert list(csv.reader(io.StringIO(table.csv)))[-1] == ["Cut after 1 rows; the next ones are at /x"]


def test_a_file_in_an_address_is_the_file_that_a_server_would_hand_out() -> None:
    odd = "=1+1,\"é\" #1 & 50 % <b> 'x'; a/b?c=d"
    table = Table(
        name="x", caption="x", columns=[Column("n"), Column("m")], rows=[[Cell(odd), Cell(0.5)]] * 2
    )
    address = table.csv_here
    assert not set(address) & set("\"'<>#& \r\n")
    assert unquote(address.partition(",")[2]) == table.csv


def test_a_chart_with_many_places_shows_the_last_and_hands_out_all() -> None:
    points = [(float(each), each / 7) for each in range(SHOWN_PLACES + 3)]
    chart = Chart(name="auc", title="AUC", x="Round", y="", series=[Series(name="AUC", points=points)])
    assert chart.shown.rows == chart.table.rows[3:]
    assert chart.shown.caption == f"AUC: the last {SHOWN_PLACES} of {len(points)} figures, the file has all"
    few = replace(chart, series=[Series(name="AUC", points=points[:SHOWN_PLACES])])
    assert few.shown == few.table


def test_the_figures_of_a_runs_charts_are_files_of_the_server(console: Ran) -> None:
    browser = console.browser("privacy-1")
    page = browser.get(f"/runs/{PUBLIC}").text
    offered = re.findall(rf"/runs/{PUBLIC}\?format=csv&amp;table=([a-z-]+)-figures", page)
    assert "seconds" in offered
    assert "data:text/csv" not in page
    for name in offered:
        assert len(lines(browser, f"/runs/{PUBLIC}?format=csv&table={name}-figures")) > 0
