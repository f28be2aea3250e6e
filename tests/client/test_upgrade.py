"""A journal outlives the version that wrote it, in both directions as far as its format says; what is newer is refused in words."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from client.journal.entries import Entry, Holder, Owner, chained
from client.journal.file import Journal
from client.journal.reading import read_journal
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, UsageError

VECTORS = Path(__file__).parents[1] / "vectors" / "journal"
OWNER = Owner(federation="demo", root="0" * 64, site="west", identity="A" * 44)


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A journal as version 0.1.0 wrote it."""
    return Path(shutil.copyfile(VECTORS / "format-2-alone.db", tmp_path / "journal.db"))


def test_a_journal_of_this_format_opens_to_the_bit_and_goes_on(alone: Path) -> None:
    with closing(Journal.open(alone, OWNER)) as journal:
        assert journal.head == (3, "4e83ebb8ebd7dd1772add92888abcf5ed8a47c87459cb89ad7babe0d39f0dc9b")
        assert [each.body["round"] for each in journal.entries("answered")] == [1, 2]
        assert journal.attachment(3) == b"two"
        journal.append("answered", {"round": 3})
    assert [each.seq for each in read_journal(alone)] == [1, 2, 3, 4]


def test_a_shared_journal_of_this_format_opens_too(tmp_path: Path) -> None:
    file = Path(shutil.copyfile(VECTORS / "format-2-shared.db", tmp_path / "accounts.db"))
    with closing(Journal.open(file, Holder(site="west"), shared=True)) as journal:
        assert [each.body for each in journal.entries("charged")] == [{"n": 1}]


def newer(path: Path) -> None:
    """As a version that does not exist yet will write it: a journal that is whole, with a higher number."""
    body = canonical_json(
        {"format": 3, **{n: getattr(OWNER, n) for n in ("federation", "root", "site", "identity")}}
    )
    with closing(Journal.open(path, OWNER)):
        pass
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("DROP TRIGGER entries_never_change")
        connection.execute(
            "UPDATE entries SET body = ?, checksum = ? WHERE seq = 1", (body, chained(b"", 1, "opened", body))
        )


def test_going_back_over_a_change_of_format_is_refused_in_words_and_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "journal.db"
    newer(path)
    before = [(each.kind, each.body) for each in read_journal(path)]
    with pytest.raises(
        UsageError, match=r"written by a newer version of this agent \(format 3; this version knows 2\)"
    ):
        Journal.open(path, OWNER)
    assert [(each.kind, each.body) for each in read_journal(path)] == before


def test_a_journal_can_be_read_while_its_agent_has_it(alone: Path) -> None:
    with closing(Journal.open(alone, OWNER)) as journal:
        journal.append("answered", {"round": 3})
        found = read_journal(alone)
    assert found[-1] == Entry(4, "answered", {"round": 3})


def test_a_journal_that_was_changed_is_not_read(alone: Path) -> None:
    with closing(sqlite3.connect(alone)) as connection, connection:
        connection.execute("DROP TRIGGER entries_never_change")
        connection.execute("UPDATE entries SET body = ? WHERE seq = 2", (b'{"round":9}',))
    with pytest.raises(CovenantError, match="entry 2 does not fit the one before it"):
        read_journal(alone)


def test_where_no_agent_has_run_there_is_no_journal(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="has not run yet"):
        read_journal(tmp_path / "journal.db")
