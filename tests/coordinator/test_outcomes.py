"""Outcomes that arrive late count once, with the decision that they are of, and what cannot be joined is told apart."""

from __future__ import annotations

import math
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.deploy.scoring.arms import Arm, InForce, load
from coordinator.deploy.scoring.decisions import SiteKey
from coordinator.deploy.scoring.windows.account import release_of
from coordinator.deploy.scoring.windows.outcomes import Bringing, Cells, Joined, Told
from coordinator.deploy.scoring.windows.store import Store
from coordinator.deploy.scoring.windows.telling import Place as Telling
from protos.windows import Monitor
from strategies.errors import Refused, UsageError
from tests.coordinator.scoring_for_tests import exportable, opened
from tests.coordinator.windows_for_tests import AGREED, BEGINS, Clock, Place, monitor, place

NEARLY_EXACT = "{noise: 0.5, limit: {epsilon: 50, delta: 1e-6}, period: 365d}"
GROUPS = {"region": ("north", "south", "not given")}


@pytest.fixture
def agreed() -> Monitor:
    return monitor(privacy=NEARLY_EXACT)


def brought(folder: Path, name: str, text: str, clock: Clock, windows: Sequence[int] = (1,)) -> Told:
    (folder / name).write_text(text)
    return bring(folder, folder / name, clock, windows)


def bring(folder: Path, path: Path, clock: Clock, windows: Sequence[int] = (1,)) -> Told:
    telling = Telling.of(Store.of(folder), secrets.token_bytes)
    key = SiteKey.at(folder / "decisions.key")
    return Bringing(telling, key, folder / "decisions").bring(path, windows, clock().timestamp())


def decide(service: Place, names: list[str], **replaced: Any) -> None:
    for each in names:
        service.one(each, **replaced)
    service.scorer.count_windows()


def test_outcomes_are_told_with_the_window_of_their_decisions(tmp_path: Path, agreed: Monitor) -> None:
    with place(tmp_path, agreed) as service:
        decide(service, [f"a{each}" for each in range(40)])
        service.next_day()
        decide(service, [f"b{each}" for each in range(20)])
        service.next_day()
        lines = [f"a{each},{'bad' if each < 25 else 'good'}" for each in range(40)]
        lines += [f"b{each},good" for each in range(20)]
        told = brought(tmp_path, "first.csv", "\n".join(["request,outcome", *lines]), service.clock, (1, 2))
        windows = service.windows(2).windows
    assert (told.rows, told.counted, told.apart) == (60, 60, {})
    assert [each.number for each in windows] == [1, 2]
    assert [each.sequence for each in windows] == [3, 4]
    first, second = (each.outcomes for each in windows)
    assert first.noise_std == pytest.approx(0.5)
    assert [sum(each) for each in first.counts] == [pytest.approx(15, abs=8), pytest.approx(25, abs=8)]
    assert sum(second.counts[0]) == pytest.approx(20, abs=8)
    assert max(first.counts[1]) == pytest.approx(25, abs=3)  # one application, so one score bin
    assert first.groups is None
    assert windows[0].spent < windows[1].spent


def test_what_cannot_be_joined_is_told_apart(tmp_path: Path, agreed: Monitor) -> None:
    with place(tmp_path, agreed) as service:
        decide(service, ["a", "b", "c"])
        service.ask(id="many")
        service.one("reused", 100.0)
        service.one("reused", 900.0)
        service.one("asked-twice")
        service.one("asked-twice")
        service.next_day()
        text = """request,row,outcome
a,0,bad
a,0,good
b,0,defaulted
c,,good
c,1,good
many,2,bad
many,3,bad
reused,0,bad
asked-twice,0,good
stranger,0,bad
,0,bad
"""
        told = brought(tmp_path, "o.csv", text, service.clock)
        assert told.counted == 3
        assert told.apart == {"unknown": 5, "used": 1, "no outcome": 1, "ambiguous": 1}
        again = brought(tmp_path, "o.csv", text, service.clock)
        assert again.counted == 0
        assert sum(map(sum, again.windows[0].outcomes.counts)) == pytest.approx(
            0, abs=12
        )  # told all the same
        assert again.apart["used"] == 4
        # Without the column a request of one application is plain.
        plain = brought(tmp_path, "p.csv", "request,outcome\nc,good\nmany,bad\n", service.clock)
        assert (plain.counted, plain.apart) == (1, {"ambiguous": 1})


def test_a_window_is_told_whether_or_not_outcomes_have_arrived(tmp_path: Path, agreed: Monitor) -> None:
    with place(tmp_path, agreed) as service:
        decide(service, ["a"])
        service.next_day()
        decide(service, ["b"])
        text = "request,outcome\na,bad\nb,bad\n"
        with pytest.raises(Refused, match="window 2 has not been told here"):
            brought(tmp_path, "o.csv", text, service.clock, (1, 2))
        service.next_day()
        service.next_day()
        told = brought(tmp_path, "o.csv", text, service.clock, (2, 3))
    assert (told.counted, told.apart) == (1, {"elsewhere": 1})
    assert [each.number for each in told.windows] == [2, 3]
    assert told.windows[0].spent < told.windows[1].spent


def test_an_application_that_two_versions_answered_in_one_window_is_of_neither(
    tmp_path: Path, agreed: Monitor
) -> None:
    """Without the later decision its outcome would count with the other version: twice the cells that are charged for."""
    with place(tmp_path, agreed) as service:
        first = service.scorer.in_force
        loaded = load(opened(4, exportable(AGREED, seed=4), AGREED))
        second = InForce(revision=2, stable=Arm(role="stable", loaded=loaded, since=BEGINS))
        decide(service, ["both", "one"])
        service.scorer.in_force = second
        decide(service, ["both"])
        assert len(service.next_day()) == 2
        service.scorer.in_force = first
        decide(service, ["later"])
        service.next_day()
        service.scorer.in_force = second
        decide(service, ["later"])
        service.next_day()
        lines = "".join(f"{each},bad\n" for each in ("both", "one", "later"))
        told = brought(tmp_path, "o.csv", f"request,outcome\n{lines}", service.clock, (1, 3))
    assert (told.counted, told.apart) == (2, {"ambiguous": 1})


def test_decisions_under_another_monitor_are_told_apart(tmp_path: Path, agreed: Monitor) -> None:
    with place(tmp_path, agreed) as service:
        decide(service, ["a"])
        clock = service.clock
    other = monitor(privacy=NEARLY_EXACT, score_bins="4")
    with place(tmp_path, other, clock=clock) as service:
        service.next_day()
        told = brought(tmp_path, "o.csv", "request,outcome\na,bad\n", service.clock)
    assert (told.counted, told.apart) == (0, {"unwatched": 1})


def test_small_groups_and_missing_ones(tmp_path: Path, agreed: Monitor) -> None:
    with place(tmp_path, agreed) as service:
        names = [f"a{each}" for each in range(83)]
        decide(service, names)
        service.next_day()
        regions = ["north"] * 40 + ["south"] * 3 + [None] * 30 + ["moon"] * 10
        table = pa.table({"request": names, "outcome": ["bad"] * 83, "region": regions})
        pyarrow.parquet.write_table(table, tmp_path / "o.parquet")
        told = bring(tmp_path, tmp_path / "o.parquet", service.clock)
    (window,) = told.windows
    assert told.counted == 83
    assert window.outcomes.noise_std == pytest.approx(0.5 * math.sqrt(2))
    assert window.outcomes.suppressed == {"region": ("south",)}
    groups = window.outcomes.groups["region"]
    assert set(groups) == {"north", "not given"}
    assert sum(groups["north"][1]) == pytest.approx(40, abs=12)
    assert sum(groups["not given"][1]) == pytest.approx(40, abs=12)
    assert b"south" in window.canonical


def test_without_budget_outcomes_wait_for_the_next_period(tmp_path: Path) -> None:
    scarce = monitor(privacy="{noise: 4.0, limit: {epsilon: 4, delta: 1e-6}, period: 365d}")
    with place(tmp_path, scarce) as service:
        decide(service, ["a"])
        while service.next_day()[0].counted is not None:
            pass
        told = brought(tmp_path, "o.csv", "request,outcome\na,bad\n", service.clock)
        assert (told.counted, told.apart, told.windows) == (0, {"no budget": 1}, [])
        service.clock.on(days=366)
        told = brought(tmp_path, "o.csv", "request,outcome\na,bad\n", service.clock)
        assert (told.counted, told.apart) == (1, {})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("o.csv", "request\na\n", "no column outcome"),
        ("o.csv", "request,outcome,income\na,bad,1\n", "has a column 'income'"),
        ("o.csv", "request,outcome,outcome\na,bad,bad\n", "two columns"),
        ("o.csv", 'request,outcome\n"a,bad\n"b"x,bad,3,4\n', "cannot be read as outcomes"),
        ("o.csv", "", "cannot be read as outcomes"),
        ("o.parquet", "request,outcome\na,bad\n", "cannot be read as outcomes"),
        ("o.txt", "request,outcome\na,bad\n", "neither .csv nor .parquet"),
    ],
)
def test_a_file_that_is_none_is_refused(
    tmp_path: Path, agreed: Monitor, name: str, text: str, said: str
) -> None:
    with place(tmp_path, agreed) as service:
        service.next_day()
        with pytest.raises(UsageError, match=said):
            brought(tmp_path, name, text, service.clock)


def test_an_attribute_that_is_not_protected_is_refused(tmp_path: Path) -> None:
    asked = monitor(privacy=NEARLY_EXACT, protected="[term]")
    with place(tmp_path, asked) as service:
        decide(service, ["a"])
        service.next_day()
        with pytest.raises(UsageError, match="term is no protected attribute"):
            brought(tmp_path, "o.csv", "request,outcome,term\na,bad,36\n", service.clock)


def test_ids_of_digits_stay_as_they_are(tmp_path: Path, agreed: Monitor) -> None:
    with place(tmp_path, agreed) as service:
        decide(service, ["0070"])
        service.next_day()
        told = brought(tmp_path, "o.csv", '"request","outcome"\n0070,bad\n70,bad\n', service.clock)
    assert (told.counted, told.apart) == (1, {"unknown": 1})


JOINED = st.builds(
    Joined,
    st.just("x"),
    st.integers(0, 7),
    st.booleans(),
    st.fixed_dictionaries({"region": st.sampled_from(["north", "south", "not given", "moon", None])}),
)


@given(st.lists(JOINED, max_size=6), JOINED)
def test_any_outcome_moves_the_counts_by_no_more_than_it_is_charged_for(several, more) -> None:
    cells = Cells(8, GROUPS)
    moved = np.linalg.norm(cells.counts([*several, more]) - cells.counts(several))
    release = release_of(monitor(), "outcomes", cells_of_one=2, dimension=int(np.prod(cells.shape)))
    assert moved == pytest.approx(math.sqrt(2))
    assert moved <= release.sensitivity
