"""The worked example of the page for finance: each figure on it is what the program says of the page's own costs and counts."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

import protos
from coordinator.worth.figures import valued
from coordinator.worth.sheets import Sheet, of_best, of_threshold
from coordinator.worth.sources import Source
from protos.costs import Costs
from protos.documents import read_document
from strategies.analytics.noisy import score_bounds
from strategies.analytics.value import ScoreTable

PAGE = (Path(protos.__file__).parents[1] / "docs" / "finance.md").read_text()
_COUNTED = re.compile(r"^\| 0\.\d to \d\.\d \| (-?\d+) \| (-?\d+) \| (-?\d+) \| (-?\d+) \|$", re.MULTILINE)


def costs() -> Costs:
    (found,) = re.findall(r"```yaml\n(covenant: costs/v1\n.*?)```", PAGE, re.DOTALL)
    return read_document(found, Costs, "the page's costs")


def source() -> Source:
    counts = np.array(_COUNTED.findall(PAGE), dtype=np.int64).T
    bounds = score_bounds(counts.shape[1], "even")
    own, champion = (ScoreTable(counts=counts[part], bounds=bounds) for part in (slice(0, 2), slice(2, 4)))
    return Source(title="the page's counts", table=own, champion=champion, champion_ref="the champion")


def sheets() -> dict[str, Sheet]:
    found = valued(source(), costs(), [costs().decline_at], seed=1)
    (at,) = found.thresholds
    assert found.best is not None
    lines, year = of_threshold("page", at, costs())
    return {
        "LINES": lines,
        "YEAR": year,
        "BEST": of_best("best", found.best, found.best_at, costs().currency),
    }


def written(sheet: Sheet) -> str:
    """A sheet in Markdown, as it stands on the page."""
    heads = "| " + " | ".join(sheet.columns) + " |\n|---" + "|--:" * (len(sheet.columns) - 1) + "|\n"
    return heads + "\n".join("| " + " | ".join(row) + " |" for row in sheet.rows)


def test_figures_of_the_page_are_those_of_its_own_costs_and_counts() -> None:
    for name, sheet in sheets().items():
        assert written(sheet) in PAGE, f"{name} should be:\n{written(sheet)}"


def test_a_pocket_calculator_comes_to_the_same() -> None:
    """The page's own words about the rows, worked out by hand."""
    text = written(sheets()["LINES"])
    assert 5290 + 2150 == 7440
    assert "| approved, good | 7,440 |  | EUR -600.00 | EUR -4,464,000.00 |" in text
    assert "| reviewed, bad, then approved | 150 | 0.4 | EUR 4,200.00 | EUR 252,000.00 |" in text
