"""A shared journal is taken up once, in order, whoever appended, and a turn that raised leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from client.journal.shared import SharedJournal
from strategies.errors import Refused
from strategies.ids import SiteName

NORTH = SiteName("north")


def shared(path: Path, heard: list[int]) -> SharedJournal:
    return SharedJournal.open(path, NORTH, ("bid", "ask"), lambda entry: heard.append(entry.body.get("n", 0)))


def changes_its_mind(journal: SharedJournal) -> None:
    with journal.turn() as append:
        append("ask", {"n": 2})
        raise Refused("not after all")


def test_entries_of_all_kinds_are_taken_up_in_order(tmp_path: Path) -> None:
    first = shared(tmp_path / "shared.db", heard := [])
    with first.turn() as append:
        for number, kind in enumerate(("bid", "ask", "bid", "else"), 1):
            append(kind, {"n": number})
    second = shared(tmp_path / "shared.db", at_opening := [])
    assert heard == at_opening == [1, 2, 3]
    first.close()
    second.close()


def test_what_others_append_is_taken_up_once_also_after_a_turn_that_raised(tmp_path: Path) -> None:
    mine, other = shared(tmp_path / "shared.db", heard := []), shared(tmp_path / "shared.db", [])
    with other.turn() as append:
        append("bid", {"n": 1})
    with pytest.raises(Refused):
        changes_its_mind(mine)
    mine.refresh()
    with mine.turn() as append:
        append("ask", {"n": 3})
    mine.refresh()
    other.refresh()
    assert heard == [1, 3]
    assert [entry.body["n"] for entry in other.journal.entries("ask", "bid")] == [1, 3]
    mine.close()
    other.close()
