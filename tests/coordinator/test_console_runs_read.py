"""Runs as pages read them: lists by key, in order, in one query; the course of one as its rows add up."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Engine, event

from coordinator.console.charts import Chart, Series
from coordinator.console.pages import run_tables
from coordinator.console.reads import progress, runs
from coordinator.db import writing
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import Round, RoundState, Run, RunState
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.run_costs import RunCost
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName
from tests.coordinator.conftest import DIGEST

_BEGAN = datetime(2026, 11, 23, 11, 0, tzinfo=UTC)
_STATES = (RunState.COMPLETED, RunState.FAILED, RunState.RUNNING)


def named(number: int) -> RunId:
    return RunId(f"run-{number:016x}")


@dataclass
class Statements:
    """How many statements an engine was asked."""

    count: int = 0

    def watch(self, engine: Engine) -> None:
        event.listen(engine, "before_cursor_execute", lambda *_: self._one())

    def _one(self) -> None:
        self.count += 1


@pytest.fixture
def listed(engine: Engine) -> Engine:
    """Twenty-five runs, two of each moment; run 3 has two committed rounds and a voided attempt."""
    with writing(engine, "filling") as session:
        for number in range(25):
            session.add(_run(number))
        session.flush()
        session.add(_round(1, 1, RoundState.VOIDED))
        session.add(_round(1, 2, RoundState.COMMITTED))
        session.add(_round(2, 1, RoundState.COMMITTED))
    return engine


def _run(number: int) -> Run:
    return Run(
        id=named(number),
        plan_name="odd" if number % 2 else "even",
        plan_digest=DIGEST,
        plan='{"training":{"rounds":7}}',
        contract="{}",
        members="{}",
        state=_STATES[number % 3],
        submitted_at=_BEGAN + timedelta(seconds=number // 2),
    )


def _round(number: int, attempt: int, state: RoundState) -> Round:
    done = {
        "survivors": ["west"],
        "statement_digest": DIGEST,
        "aggregate_digest": DIGEST,
        "model_digest": DIGEST,
    }
    return Round(
        run_id=named(3),
        number=number,
        attempt=attempt,
        state=state,
        roster=["west"],
        opened_at=_BEGAN,
        closed_at=_BEGAN,
        **done,
    )


def test_pages_follow_each_other_and_back(listed: Engine) -> None:
    first = runs.page(listed, limit=10)
    second = runs.page(listed, limit=10, after=first.older)
    third = runs.page(listed, limit=10, after=second.older)
    back = runs.page(listed, limit=10, before=third.newer)
    front = runs.page(listed, limit=10, before=back.newer)

    seen = [each.run for page in (first, second, third) for each in page.rows]
    assert seen == [named(number) for number in reversed(range(25))]
    assert (first.newer, third.older) == (None, None)
    assert [each.run for each in back.rows] == [each.run for each in second.rows]
    assert ([each.run for each in front.rows], front.newer) == ([each.run for each in first.rows], None)
    assert front.older == first.older


def test_a_row_counts_committed_rounds_and_asks_one_statement_a_page(listed: Engine) -> None:
    asked = Statements()
    asked.watch(listed)
    rows = runs.page(listed, limit=25).rows

    assert {each.run: (each.committed, each.rounds) for each in rows}[named(3)] == (2, 7)
    assert sum(each.committed for each in rows) == 2
    assert asked.count <= 2  # SQLite is told to begin as well


def test_filters_hold_across_pages(listed: Engine) -> None:
    first = runs.page(listed, states=[RunState.RUNNING], plan="even", limit=3)
    second = runs.page(listed, states=[RunState.RUNNING], plan="even", limit=3, after=first.older)

    assert [each.run for each in (*first.rows, *second.rows)] == [named(number) for number in (20, 14, 8, 2)]


def test_named_runs_are_read_at_once(listed: Engine) -> None:
    found = runs.of_runs(listed, [named(4), named(99), named(20)])

    assert [each.run for each in found] == [named(20), named(4)]


@pytest.mark.parametrize(
    "key",
    [
        "",
        "~",
        "2026-11-23T11:00:00~run-0000000000000001",
        "now~run-0000000000000001",
        "2026-11-23T11:00:00+00:00~run-1",
    ],
)
def test_a_key_that_no_page_gave_is_refused(engine: Engine, key: str) -> None:
    with pytest.raises(UsageError, match="begin at the first page"):
        runs.page(engine, after=key)


_STAGES = ("prepare", "train", "evaluate")


def _exchange(stage: str, number: int, site: str, chance: Random) -> SiteExchange:
    return SiteExchange(
        run_id=named(3),
        stage=stage,
        round=number,
        site=site,
        step="answer",
        asked=4,
        answered=chance.randrange(4),
        sent=chance.randrange(10_000),
        received=chance.randrange(10_000),
        seconds=chance.randrange(1, 400) / 4,
        waiting=False,
        trouble="refused: no" if chance.random() < 0.1 else None,
        changed_at=_BEGAN + timedelta(seconds=chance.randrange(10_000)),
    )


@pytest.fixture
def exchanged(listed: Engine) -> tuple[Engine, list[SiteExchange]]:
    """Exchanges of run 3 with forty sites in rounds 1 to 220, of its stages, and one of another run's."""
    chance, rows = Random(11), []
    with writing(listed, "filling") as session:
        for number in (1, 2, *range(3, 221, 9)):
            for stage in _STAGES if number == 2 else ("train",):
                rows += [_exchange(stage, number, f"site-{site:02}", chance) for site in range(40)]
        for number in (*range(3, 221, 9),):
            session.add(_round(number, 1, RoundState.COMMITTED))
        session.add_all(rows)
        session.flush()
        session.expunge_all()
        other = _exchange("train", 1, "site-00", chance)
        other.run_id = named(4)
        session.add(other)
    return listed, rows


def test_bytes_of_a_round_are_those_of_all_its_stages_and_sites(
    exchanged: tuple[Engine, list[SiteExchange]],
) -> None:
    engine, rows = exchanged
    found = progress.course(engine, named(3))

    assert [each.number for each in found] == [1, 2, *range(3, 221, 9)]
    for each in found:
        mine = [row for row in rows if row.round == each.number]
        assert (each.sent, each.received) == (sum(r.sent for r in mine), sum(r.received for r in mine))


def test_the_slowest_sites_are_those_of_the_latest_training_rounds(
    exchanged: tuple[Engine, list[SiteExchange]],
) -> None:
    engine, rows = exchanged
    newest = max(row.round for row in rows)
    late = [
        r
        for r in rows
        if r.stage == "train" and r.answered and newest - progress.MOST_DRAWN < r.round <= newest
    ]
    took = {site: sum(r.seconds for r in late if r.site == site) for site in {r.site for r in late}}
    slowest = sorted(took, key=lambda site: (-took[site], site))[: progress.MOST_LINES]

    assert progress.slowest(engine, named(3)) == [
        (site, sorted((r.round, r.seconds) for r in late if r.site == site)) for site in slowest
    ]


def test_a_page_has_the_accounts_that_a_run_costs_most_and_its_file_all() -> None:
    costs = [
        RunCost(
            key=AccountKey(site=SiteName(f"site-{n:03}"), population="loans", kind=UnitKind.RECORD),
            settled=1,
            reserved=0,
            alone=Guarantee(epsilon=1.0, delta=1e-5, unit=PrivacyUnit(kind=UnitKind.RECORD)),
            fraction=((37 * n) % 200) / 200,
            exempt=(),
        )
        for n in range(200)
    ]
    page, whole = run_tables.privacy_table(costs), run_tables.privacy_table(costs, 1000)
    few = run_tables.privacy_table(costs[:60])

    shown = [row[2].value for row in page.rows]
    assert shown == sorted((each.fraction for each in costs), reverse=True)[:60]
    assert page.caption == "Privacy that this run spends: 60 of 200, the file has all"
    assert [row[0].value for row in whole.rows] == [each.key.words for each in costs]
    assert [row[0].value for row in few.rows] == [each.key.words for each in costs[:60]]


def test_a_curve_of_one_point_stands_at_its_round_and_begins_at_nothing() -> None:
    one = Chart(name="loss", title="Loss", x="Round", y="", series=[Series(name="loss", points=[(60, 0.31)])])
    two = replace(one, series=[Series(name="loss", points=[(50, 0.4), (60, 0.31)])])
    below = replace(one, series=[Series(name="loss", points=[(60, -0.31)])])

    assert (one.drawn["axis"], one.drawn["from"]) == ("category", 0.0)
    assert one.drawn["series"][0]["points"] == [["60", 0.31]]
    assert (two.drawn["axis"], two.drawn["from"]) == ("number", None)
    assert two.drawn["series"][0]["points"] == [[50, 0.4], [60, 0.31]]
    assert below.drawn["from"] is None
    assert one.table.rows[0][0].value == 60
