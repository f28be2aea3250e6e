"""The stream of what is new: a browser that lost it, or whose console ended, misses nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from coordinator.bootstrap import Centre
from coordinator.console.server import ConsoleServer
from coordinator.db.engine import open_database, writing
from coordinator.db.migrate import migrate
from coordinator.governance.log import append
from protos.log_run_events import AttemptVoided
from strategies.ids import run_id
from tests.coordinator.api_for_tests import Bank
from tests.coordinator.console_for_tests import Browser, Pages, copied, with_console

RUN = run_id("run-00000000000000aa")


@pytest.fixture
def bank(tmp_path: Path) -> Iterator[Bank]:
    for made in copied(tmp_path):
        migrate(open_database(made.centre.settings.database_url))
        with_console(made)
        yield made


def happens(centre: Centre, number: int) -> None:
    with writing(centre.engine, "telling the log") as session:
        append(session, centre.clock(), [AttemptVoided(run=RUN, round=number, attempt=1, reason="a test")])


def events(
    browser: Browser, want: int, last: str | None = None, path: str = "/live"
) -> list[tuple[str, dict]]:
    """The first `want` entries of a stream that is then cut, with their numbers."""
    headers = {} if last is None else {"Last-Event-ID": last}
    found: list[tuple[str, dict]] = []
    kind = number = ""
    with browser.client.stream("GET", path, headers=headers, timeout=10) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        for line in stream.iter_lines():
            field, _, value = line.partition(": ")
            if field == "event":
                kind = value
            elif field == "id":
                number = value
            elif field == "data" and kind == "entry":
                found.append((number, json.loads(value)))
            if len(found) == want:
                return found
    return found


def test_a_page_names_the_entry_that_its_stream_goes_on_after(bank: Bank) -> None:
    with ConsoleServer(bank.centre):
        browser = Pages(bank, bank.centre).browser("auditor-1")
        page = browser.get("/runs").text
        happens(bank.centre, 1)  # before the page's script has opened the stream
        seen = re.search(r'data-live="/live" data-seen="(\d+)"', page)
        assert seen is not None
        ((_, told),) = events(browser, 1, path=f"/live?after={seen[1]}")

    assert told == {"kind": "voided", "run": RUN}


def test_what_happens_while_the_connection_is_lost_is_told_after(bank: Bank) -> None:
    with ConsoleServer(bank.centre):
        browser = Pages(bank, bank.centre).browser("auditor-1")
        page = browser.get("/runs").text
        seen = int(page.split('data-seen="')[1].split('"')[0])
        happens(bank.centre, 1)
        ((first, _),) = events(browser, 1, last=str(seen))
        for number in (2, 3, 4):
            happens(bank.centre, number)
        rest = events(browser, 3, last=first)

    assert [int(number) for number, _ in rest] == [int(first) + 1, int(first) + 2, int(first) + 3]


def test_what_happens_while_the_console_is_down_is_told_by_the_next(bank: Bank) -> None:
    with ConsoleServer(bank.centre):
        browser = Pages(bank, bank.centre).browser("auditor-1")
        browser.get("/runs")
        happens(bank.centre, 1)
        seen = int(browser.get("/runs").text.split('data-seen="')[1].split('"')[0])
    for number in (2, 3):
        happens(bank.centre, number)
    with ConsoleServer(bank.centre):  # the session is in the database
        found = events(browser, 2, last=str(seen))

    assert [int(number) for number, _ in found] == [seen + 1, seen + 2]


def test_a_stream_is_for_those_who_are_signed_in(bank: Bank) -> None:
    with ConsoleServer(bank.centre):
        assert Pages(bank, bank.centre).browser().get("/live").status_code == 401
