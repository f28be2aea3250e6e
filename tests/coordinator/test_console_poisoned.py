"""Whatever text is in the database, whoever put it there, comes out of every page as text: each column in turn, and each text within JSON, holds markup."""

from __future__ import annotations

import html
import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import LargeBinary, String
from sqlalchemy.engine import make_url

from coordinator.console.rates import Rates
from coordinator.console.routes import all_routes
from coordinator.db.schema import Base
from protos.model_notes import NoteKind
from tests.coordinator.console_deployed_for_tests import desk
from tests.coordinator.console_for_tests import Browser, Pages
from tests.coordinator.runs_console_for_tests import DONE, FAILED, GOING, ran

MARKUP = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)>"
RAW = re.compile(r"<script>alert\(1|<img src=x|onerror=alert\(2\)>(?!&)")
OFFICERS = ("risk-1",)
OURSELVES = "console_sessions"
"""Poisoned, it lets nobody in: `test_console_seals`."""
EACH_ROUTE = 1


@dataclass
class Crawled:
    """A console with rows, and the pages that its links lead to."""

    pages: Pages
    browsers: list[Browser]
    paths: list[str]

    @property
    def file(self) -> str:
        return str(make_url(self.pages.centre.settings.database_url).database)


def crawled(served: Pages, also: tuple[str, ...] = ()) -> Crawled:
    """Follow links, at most a few pages of each route."""
    patterns = [
        re.compile(re.sub(r"\{[^}]+\}", "[^/]+", each.path)) for each in all_routes() if each.method == "GET"
    ]
    browsers = [served.browser(name) for name in OFFICERS]
    seen: dict[str, list[str]] = {}
    waiting = ["/", "/account", "/signin", *also]
    while waiting:
        path = waiting.pop(0)
        pattern = next((each.pattern for each in patterns if each.fullmatch(path.partition("?")[0])), None)
        if pattern is None or path in seen.setdefault(pattern, []) or len(seen[pattern]) >= EACH_ROUTE:
            continue
        answered = browsers[0].get(path)
        if "text/html" in answered.headers["content-type"]:
            seen[pattern].append(path)
            waiting += [
                html.unescape(each).partition("#")[0]
                for each in re.findall(r'href="(/[^"]*)"', answered.text)
            ]
    return Crawled(served, browsers, [each for found in seen.values() for each in found])


@pytest.fixture(scope="module")
def of_runs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crawled]:
    with ran(tmp_path_factory.mktemp("poisoned-runs")) as found:
        browser = found.browser("author-1")
        browser.post("/halt", {"scope": "site west", "reason": "a try", "confirmed": "halt"})
        yield crawled(found.pages, tuple(f"/runs/{run}" for run in (DONE, GOING, FAILED)))


@pytest.fixture(scope="module")
def of_models(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Iterator[Crawled]:
    with (
        desk(tmp_path_factory.mktemp("poisoned-models") / "home", migrated_sqlite) as found,
        found.works.serving(),
    ):
        first = found.approved(1)
        found.registered(2, champion=first)
        found.states(first, NoteKind.LIMITATIONS, "for a test")
        found.works.start(1, "branch")
        found.works.drive("branch")
        yield crawled(found.pages)


def leaves(value: Any) -> Any:
    """The same JSON with markup after each text."""
    match value:
        case dict():
            return {key: leaves(each) for key, each in value.items()}
        case list():
            return [leaves(each) for each in value]
        case str():
            return value + MARKUP
        case _:
            return value


def poisons(value: Any) -> Iterator[Any]:
    """What is put in the place of a value: markup within its JSON, and after it."""
    if not isinstance(value, str | bytes):
        return
    text = value.decode(errors="replace") if isinstance(value, bytes) else value
    try:
        told = json.loads(text)
    except ValueError:
        told = None
    if isinstance(told, dict | list):
        poisoned = json.dumps(leaves(told))
        yield poisoned.encode() if isinstance(value, bytes) else poisoned
    if isinstance(value, str):
        yield value + MARKUP


def columns(file: str) -> list[tuple[str, str]]:
    """The columns that hold text and have any."""
    with closing(sqlite3.connect(file)) as database:
        return [
            (table.name, column.name)
            for table in Base.metadata.sorted_tables
            if table.name != OURSELVES
            for column in table.columns
            if isinstance(column.type, String | LargeBinary) or column.type.python_type in {dict, list}
            if database.execute(
                f'SELECT 1 FROM "{table.name}" WHERE "{column.name}" IS NOT NULL LIMIT 1'
            ).fetchone()
        ]


def whoever_owns(file: str) -> None:
    """Take away what keeps rows as they were written: whoever owns the database can."""
    with closing(sqlite3.connect(file, isolation_level=None)) as database:
        for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            database.execute(f'DROP TRIGGER "{name}"')


def filled(database: sqlite3.Connection, table: str, rows: list[tuple[Any, ...]]) -> None:
    """Have a table hold `rows` and no others, all at once."""
    database.execute("BEGIN IMMEDIATE")
    database.execute(f'DELETE FROM "{table}"')
    database.executemany(f'INSERT INTO "{table}" VALUES ({", ".join("?" * len(rows[0]))})', rows)
    database.execute("COMMIT")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("which", ["of_runs", "of_models"])
def test_no_text_of_the_database_is_markup_on_any_page(
    which: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Rates, "take", lambda *_, **__: None)
    crawl: Crawled = request.getfixturevalue(which)
    assert len(crawl.paths) > 12
    shown, found = set(), columns(crawl.file)
    whoever_owns(crawl.file)
    for table, column in found:
        with closing(sqlite3.connect(crawl.file, isolation_level=None)) as database:
            database.execute("PRAGMA ignore_check_constraints = ON")
            kept = database.execute(f'SELECT * FROM "{table}"').fetchall()
            names = [each[0] for each in database.execute(f'SELECT * FROM "{table}" LIMIT 0').description]
            at = names.index(column)
            for variant in range(2):
                poisoned = [(row, list(poisons(row[at]))[variant:]) for row in kept]
                if not any(values for _, values in poisoned):
                    continue
                filled(
                    database,
                    table,
                    [
                        (*row[:at], values[0] if values else row[at], *row[at + 1 :])
                        for row, values in poisoned
                    ],
                )
                try:
                    for path in crawl.paths:
                        for browser in crawl.browsers:
                            text = browser.client.get(path).text
                            assert not RAW.search(text), f"{table}.{column} on {path}"
                            if html.escape(MARKUP, quote=False)[:25] in text:
                                shown.add((table, column))
                finally:
                    filled(database, table, kept)
    assert len(found) > 40
    assert len(shown) > 10, "the markup was hardly shown anywhere: this test would not find much"
