"""Searching the log for pages: what is found, and by what pages, is what a look at every entry finds."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random

import pytest
from sqlalchemy import Engine

from coordinator.console.reads import log
from coordinator.console.reads.log import Search, subjects_named
from coordinator.db import writing
from coordinator.governance.log import append
from protos.log_entries import What
from protos.log_office import CallDenied
from protos.log_run_events import AttemptVoided, RunResumed
from protos.log_subjects import Subject, subjects_of
from strategies.errors import UsageError
from strategies.ids import RunId

_BEGAN = datetime(2026, 11, 23, 12, tzinfo=UTC)
_RUNS = [RunId(f"run-{number:016x}") for number in range(3)]


def some(source: Random) -> What:
    match source.randrange(3):
        case 0:
            return AttemptVoided(run=source.choice(_RUNS), round=1, attempt=1, reason="lost")
        case 1:
            return CallDenied(
                officer=source.choice(["west", "risk-1"]), method="Halts/GiveHalt", reason="not yours"
            )
        case _:
            return RunResumed(run=source.choice(_RUNS))


def wandering(source: Random, count: int) -> list[tuple[datetime, What]]:
    """Moments that go on, and back by up to five minutes, as clocks of two machines do."""
    told, newest = [], _BEGAN
    for _ in range(count):
        at = newest + timedelta(seconds=source.uniform(-299, 200))
        newest = max(newest, at)
        told.append((at, some(source)))
    return told


def walked(engine: Engine, search: Search, limit: int) -> list[int]:
    """From the first page to the last."""
    found: list[int] = []
    page = log.page(engine, search, limit=limit)
    while True:
        found += [each.seq for each in page.rows]
        if page.older is None:
            return found
        page = log.page(engine, search, below=page.older, limit=limit)


def walked_back(engine: Engine, search: Search, limit: int) -> list[int]:
    """From the last page to the first."""
    found: list[int] = []
    page = log.page(engine, search, above=-1, limit=limit)
    while page.rows:
        found = [each.seq for each in page.rows] + found
        if page.newer is None:
            return found
        page = log.page(engine, search, above=page.newer, limit=limit)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_a_search_finds_what_a_look_at_every_entry_finds(engine: Engine, seed: int) -> None:
    source = Random(seed)
    told = wandering(source, 120)
    with writing(engine, "filling") as session:
        for at, what in told:
            append(session, at, [what])
    for _ in range(25):
        since, until = sorted(_BEGAN + timedelta(seconds=source.uniform(-600, 9000)) for _ in range(2))
        about = source.choice(
            [None, [Subject("run", _RUNS[0])], [Subject("officer", "west"), Subject("run", _RUNS[1])]]
        )
        search = Search(
            kind=source.choice([None, "voided", "denied", "launch"]),
            about=about,
            since=source.choice([None, since]),
            until=source.choice([None, until]),
        )
        expected = [
            seq
            for seq, (at, what) in reversed(list(enumerate(told)))
            if search.kind in {None, what.kind}
            and (about is None or subjects_of(what) & set(about))
            and (search.since is None or at >= search.since)
            and (search.until is None or at < search.until)
        ]
        limit = source.choice([1, 7, 50])
        assert walked(engine, search, limit) == expected
        assert walked_back(engine, search, limit) == expected


def test_long_entries_make_short_pages(engine: Engine) -> None:
    with writing(engine, "filling") as session:
        append(session, _BEGAN, [AttemptVoided(run=_RUNS[0], round=1, attempt=1, reason="a" * 4000)] * 200)
    page = log.page(engine, Search(), limit=200)

    assert 0 < len(page.rows) < 200
    assert page.older == page.rows[-1].seq
    assert walked(engine, Search(), 200) == list(reversed(range(200)))


def test_an_entry_that_there_is_not_is_said(engine: Engine) -> None:
    with pytest.raises(UsageError, match="no entry 7 yet"):
        log.entry(engine, 7)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (" run-0123456789abcdef ", ["run/run-0123456789abcdef"]),
        ("AB" * 32, [f"plan/{'ab' * 32}"]),
        (
            "lending@3",
            ["site/lending@3", "plan/lending@3", "model/lending@3", "officer/lending@3", "target/lending@3"],
        ),
        ("officer/west", ["officer/west"]),
        ("<script>", []),
        ("everything/west", []),
        ("", []),
    ],
)
def test_words_may_name_several_subjects(words: str, found: list[str]) -> None:
    assert [each.key for each in subjects_named(words)] == found
