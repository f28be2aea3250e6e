"""A site's own account: durable before it is believed, shared by processes without overspending, and honest about being tampered with."""

from __future__ import annotations

import multiprocessing
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from client.accounts.book import AccountBook, ChargeReceipt
from client.journal import file
from client.journal.entries import Entry, Holder, JournalBroken, Owner
from client.journal.file import Journal
from simulation.world.folders import memory_folder
from strategies.dp.budget import BudgetRefused
from strategies.dp.filters import Ceiling
from strategies.errors import UsageError
from strategies.ids import site_name
from tests.client.accounts_for_tests import (
    LOANS,
    PATIENCE_S,
    RECORD,
    RUN,
    book_at,
    charge_and_die,
    charge_often,
    die_while_charging,
    filling,
    now,
    occasion,
    rule,
)

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture
def path() -> Iterator[Path]:
    """Where the accounts lie: in memory if that can be, because they flush all the time."""
    with TemporaryDirectory(prefix="covenant-accounts-", dir=memory_folder()) as name:
        yield Path(name) / "accounts.db"


@pytest.fixture
def book(path: Path) -> Iterator[AccountBook]:
    opened = book_at(path)
    yield opened
    opened.close()


def charge(book: AccountBook, number: int = 1, *, share: float = 0.1) -> ChargeReceipt:
    return book.charge(LOANS, rule(), filling(share), occasion(number))


def charged(book: AccountBook) -> int:
    """How many charges the book has found, in its list and in what the list adds up to."""
    account = book.account(LOANS, rule())
    assert sum(account.charges.values()) == len(book.charges(LOANS, RECORD))
    return len(book.charges(LOANS, RECORD))


def on_disk(path: Path, kind: str = "charged") -> int:
    """How many entries of a kind somebody else can read."""
    with sqlite3.connect(f"file:{path}?mode=ro", uri=True) as connection:
        (count,) = connection.execute("SELECT COUNT(*) FROM entries WHERE kind = ?", (kind,)).fetchone()
    return int(count)


# --- charges ----------------------------------------------------------------------------------------------------------


def test_a_charge_is_on_disk_when_its_receipt_is_given(book: AccountBook, path: Path) -> None:
    receipt = charge(book)
    assert on_disk(path) == 1
    assert receipt.release == filling(0.1)
    (entry,) = book.journal.entries("charged")
    assert entry.seq == receipt.entry


def test_the_file_survives_a_power_cut_as_far_as_sqlite_can_promise(book: AccountBook) -> None:
    connection = book.journal._connection
    assert connection.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    assert connection.execute("PRAGMA synchronous").fetchone() == (3,)


def test_what_was_charged_is_there_after_a_restart(book: AccountBook, path: Path) -> None:
    for number in (1, 2, 3):
        charge(book, number)
    book.close()
    again = book_at(path)
    assert again.charges(LOANS, RECORD) == book.charges(LOANS, RECORD)
    assert [each.occasion for each in again.charges(LOANS, RECORD)] == [occasion(n) for n in (1, 2, 3)]
    assert again.release(again.charges(LOANS, RECORD)[0].release) == filling(0.1)
    assert again.account(LOANS, rule()).charges == {filling(0.1): 3}
    again.close()


def test_charges_up_to_the_ceiling_are_accepted_and_then_none(book: AccountBook, path: Path) -> None:
    for number in range(10):
        charge(book, number)
    for number in (11, 12):
        with pytest.raises(BudgetRefused, match=r"its ceiling is epsilon 8\.000 at delta 1e-06 per record"):
            charge(book, number)
    assert charged(book) == on_disk(path) == 10
    assert book.account(LOANS, rule()).guarantee().epsilon <= 8.0


def test_a_refused_charge_leaves_no_trace_on_disk(book: AccountBook, path: Path) -> None:
    before = path.read_bytes()
    with pytest.raises(BudgetRefused):
        charge(book, share=1.01)
    assert path.read_bytes() == before
    assert charged(book) == 0


def test_one_attempt_is_charged_once(book: AccountBook, path: Path) -> None:
    """A retry has another number. The same one again would be a statement that the centre cannot compare."""
    charge(book)
    with pytest.raises(BudgetRefused, match=r"attempt 1 at train of round 1 of .* is charged already"):
        charge(book)
    book.charge(LOANS, rule(), filling(0.1), occasion(attempt=2))
    assert charged(book) == on_disk(path) == 2
    book.close()
    again = book_at(path)
    with pytest.raises(BudgetRefused, match="is charged already"):
        again.charge(LOANS, rule(), filling(0.2), occasion())
    again.close()


def test_asking_charges_nothing_and_counts_what_is_charged(book: AccountBook, path: Path) -> None:
    charge(book)
    book.require(LOANS, rule(), {filling(0.1): 9})
    with pytest.raises(BudgetRefused):
        book.require(LOANS, rule(), {filling(0.1): 10})
    assert charged(book) == on_disk(path) == 1


def test_accounts_of_other_populations_are_apart(book: AccountBook) -> None:
    for number, population in enumerate(("loans", "cards")):
        book.charge(population, rule(), filling(0.9), occasion(number))
    with pytest.raises(BudgetRefused):
        charge(book, 9, share=0.9)
    assert [len(book.charges(name, RECORD)) for name in ("loans", "cards", "mortgages")] == [1, 1, 0]


@pytest.mark.parametrize(
    "unit", [{"kind": "customer", "column": "customer_id", "max_rows": 3}, {"kind": "site", "max_rows": 9}]
)
def test_a_population_that_was_charged_per_one_unit_is_not_charged_per_another(
    book: AccountBook, path: Path, unit: dict[str, object]
) -> None:
    """Another account would begin from nothing what was begun already."""
    charge(book)
    other = rule(unit=unit)
    for step in (
        lambda: book.charge(LOANS, other, filling(0.1, other), occasion(2)),
        lambda: book.require(LOANS, other, {filling(0.1, other): 1}),
    ):
        with pytest.raises(BudgetRefused, match="this population was charged per record, and goes on so"):
            step()
    assert on_disk(path) == 1
    book.charge("cards", other, filling(0.1, other), occasion(3))


def test_attempts_are_counted_by_run_and_stage(book: AccountBook, path: Path) -> None:
    for number, stage in ((1, "train"), (2, "train"), (2, "evaluate")):
        book.charge(LOANS, rule(), filling(0.1), occasion(number, stage=stage))
    book.charge(LOANS, rule(), filling(0.1), occasion(1, run="run-ffffffffffffffff"))
    book.close()
    again = book_at(path)
    assert [again.attempts(LOANS, RECORD, RUN, stage) for stage in ("prepare", "train", "evaluate")] == [
        0,
        2,
        1,
    ]
    assert again.attempts("cards", RECORD, RUN, "train") == 0
    again.close()


def test_federations_share_the_account(book: AccountBook) -> None:
    book.charge(LOANS, rule(), filling(0.9), occasion(federation="one"))
    with pytest.raises(BudgetRefused):
        book.charge(LOANS, rule(), filling(0.9), occasion(federation="another"))


def test_a_release_is_written_down_once_however_often_it_is_charged(book: AccountBook, path: Path) -> None:
    for number in range(5):
        charge(book, number)
    assert (on_disk(path, "release"), on_disk(path, "ceiling"), on_disk(path)) == (1, 1, 5)


# --- ceilings ---------------------------------------------------------------------------------------------------------


def ceilings(book: AccountBook) -> list[Ceiling]:
    return [Ceiling.from_facts(dict(each.body["ceiling"])) for each in book.journal.entries("ceiling")]


def test_the_order_of_the_filter_is_that_of_the_first_ceiling(book: AccountBook, path: Path) -> None:
    """The order that suits another ceiling better would be chosen with the results in hand."""
    charge(book)
    wider = rule(epsilon=16.0)
    assert wider.ceiling.order != rule().ceiling.order
    book.charge(LOANS, wider, filling(0.1), occasion(2))
    assert [(each.epsilon, each.order) for each in ceilings(book)] == [
        (8.0, rule().ceiling.order), (16.0, rule().ceiling.order),
    ]  # fmt: skip
    book.close()
    again = book_at(path)
    assert again.account(LOANS, wider).ceiling.order == rule().ceiling.order
    again.close()


def test_an_order_that_is_configured_later_is_refused(book: AccountBook, path: Path) -> None:
    charge(book)
    order = rule().ceiling.order
    book.charge(LOANS, rule(order=order), filling(0.1), occasion(2))
    with pytest.raises(BudgetRefused, match=f"has order {order} since its first ceiling, and keeps it"):
        book.charge(LOANS, rule(order=order + 1), filling(0.1), occasion(3))
    assert charged(book) == on_disk(path) == 2


def test_an_order_may_be_configured_from_the_start(book: AccountBook) -> None:
    given = rule(order=5)
    book.charge(LOANS, given, filling(0.1, given), occasion())
    assert [each.order for each in ceilings(book)] == [5]


def test_a_ceiling_that_was_lowered_holds_at_once(book: AccountBook, path: Path) -> None:
    for number in range(5):
        charge(book, number)
    small = filling(0.1)
    with pytest.raises(BudgetRefused, match=r"its ceiling is epsilon 4\.000"):
        book.charge(LOANS, rule(epsilon=4.0), small, occasion(6))
    assert on_disk(path, "ceiling") == 1
    book.charge(LOANS, rule(epsilon=8.0), small, occasion(6))


# --- several processes ------------------------------------------------------------------------------------------------


def run_process(target: Callable[[Path], None], path: Path) -> int | None:
    process = SPAWN.Process(target=target, args=(path,))
    process.start()
    process.join(PATIENCE_S)
    return process.exitcode


def test_processes_that_charge_at_the_same_time_never_pass_the_ceiling_together(path: Path) -> None:
    """Three of them ask for 60 each where 100 fit: 100 are charged, to the last, and nobody is told of more."""
    start, told = SPAWN.Barrier(3), SPAWN.Queue()
    processes = [
        SPAWN.Process(target=charge_often, args=(path, number, 60, 0.01, start, told)) for number in range(3)
    ]
    for process in processes:
        process.start()
    accepted = [told.get(timeout=PATIENCE_S) for _ in processes]
    for process in processes:
        process.join(PATIENCE_S)
        assert process.exitcode == 0
    book = book_at(path)
    assert sum(accepted) == charged(book) == on_disk(path) == 100
    assert len({each.occasion.federation for each in book.charges(LOANS, RECORD)}) > 1
    assert (on_disk(path, "release"), on_disk(path, "ceiling")) == (1, 1)
    book.close()


def test_a_process_that_dies_after_the_charge_has_charged(path: Path) -> None:
    assert run_process(charge_and_die, path) == -9
    book = book_at(path)
    assert charged(book) == 1
    book.close()


def test_a_process_that_dies_before_the_end_of_its_turn_has_charged_nothing_and_blocks_nobody(
    path: Path,
) -> None:
    other = book_at(path)
    assert run_process(die_while_charging, path) == -9
    assert on_disk(path, "release") == 0
    charge(other)
    assert charged(other) == 1
    other.close()


def test_what_others_charge_is_seen_once_whatever_came_of_ones_own(path: Path) -> None:
    """A turn that ends in a refusal has still read what others wrote; the next one does not read it again."""
    one, other = book_at(path), book_at(path)
    for number in range(9):
        charge(other, number)
    for _ in range(3):
        with pytest.raises(BudgetRefused):
            charge(one, 20, share=0.2)
        with pytest.raises(BudgetRefused):
            one.require(LOANS, rule(), {filling(0.2): 1})
    assert charged(one) == 9
    charge(one, 10)
    assert charged(one) == charged(other) == 10
    one.close()
    other.close()


def test_a_charge_made_while_the_book_is_being_opened_is_seen_once(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = book_at(path)
    charge(other, 1)
    entries, numbers = Journal.entries, iter(range(10, 20))

    def slowly(journal: Journal, *kinds: str) -> Iterator[Entry]:
        if journal is not other.journal:
            other.charge(LOANS, rule(), filling(0.1, what=f"sum {kinds[0]}"), occasion(next(numbers)))
        return entries(journal, *kinds)

    monkeypatch.setattr(Journal, "entries", slowly)
    book = book_at(path)
    monkeypatch.undo()
    assert charged(book) == charged(other) == on_disk(path) > 2
    book.close()
    other.close()


def test_who_waits_too_long_for_a_turn_is_told_and_nothing_is_broken(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file, "_SHARED", ("busy_timeout = 30", *file._SHARED[1:]))
    one, other = book_at(path), book_at(path)
    with one.journal.turn(), pytest.raises(UsageError, match="is in use: another agent of this site"):
        charge(other)
    charge(other)
    assert charged(one) == 1
    one.close()
    other.close()


# --- tampering --------------------------------------------------------------------------------------------------------


def meddle(path: Path, *statements: str) -> None:
    with sqlite3.connect(path) as connection:
        for name in ("entries_stay", "entries_never_change"):
            connection.execute(f"DROP TRIGGER IF EXISTS {name}")
        for statement in statements:
            connection.execute(statement)


TAMPERING = {
    "a charge is made cheaper": (
        "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), '\"round\":1', '\"round\":9') AS BLOB) WHERE kind = 'charged'",
    ),
    "a charge becomes something else": ("UPDATE entries SET kind = 'void' WHERE kind = 'charged'",),
    "a charge in the middle is removed": ("DELETE FROM entries WHERE seq = 5",),
    "a charge is removed and the others move up": (
        "DELETE FROM entries WHERE seq = 5",
        "UPDATE entries SET seq = seq - 1 WHERE seq > 5",
    ),
    "two are exchanged": (
        "UPDATE entries SET seq = -5 WHERE seq = 5",
        "UPDATE entries SET seq = 5 WHERE seq = 6",
        "UPDATE entries SET seq = 6 WHERE seq = -5",
    ),
    "the release has more noise": (
        "UPDATE entries SET body = CAST(replace(CAST(body AS TEXT), '\"shares\":1', '\"shares\":2') AS BLOB) WHERE kind = 'release'",
    ),
}


@pytest.mark.parametrize("statements", TAMPERING.values(), ids=TAMPERING.keys())
def test_entries_that_were_altered_removed_or_reordered_are_found_when_the_book_is_opened(
    book: AccountBook, path: Path, statements: tuple[str, ...]
) -> None:
    for number in range(1, 5):
        charge(book, number)
    book.close()
    meddle(path, *statements)
    with pytest.raises(JournalBroken, match="is damaged"):
        book_at(path)


def test_the_file_itself_lets_nobody_change_or_delete(book: AccountBook, path: Path) -> None:
    charge(book)
    for statement in ("DELETE FROM entries", "UPDATE entries SET kind = 'x'"):
        with (
            sqlite3.connect(path) as connection,
            pytest.raises(sqlite3.IntegrityError, match="only ever appended"),
        ):
            connection.execute(statement)


@pytest.mark.parametrize("way", ["written over", "moved into its place"])
def test_an_older_copy_put_in_place_while_the_book_is_open_is_found_and_nothing_is_charged_any_more(
    book: AccountBook, path: Path, way: str
) -> None:
    charge(book, 1)
    older = path.with_suffix(".old")
    shutil.copy(path, older)
    charge(book, 2)
    if way == "written over":
        path.write_bytes(older.read_bytes())
    else:
        older.replace(path)
    for _ in range(2):
        with pytest.raises(JournalBroken):
            charge(book, 3)
    with pytest.raises(JournalBroken):
        book.account(LOANS, rule())
    assert on_disk(path) == 1


def test_entries_appended_by_somebody_who_does_not_know_how_are_found_by_who_has_the_book_open(
    book: AccountBook, path: Path
) -> None:
    charge(book)
    meddle(
        path,
        "INSERT INTO entries SELECT seq + 1, kind, body, checksum FROM entries ORDER BY seq DESC LIMIT 1",
    )
    with pytest.raises(JournalBroken, match="does not fit the one before it"):
        charge(book, 2)


def test_a_charge_that_cannot_be_written_gives_no_receipt_and_breaks_the_book(
    book: AccountBook, path: Path
) -> None:
    charge(book)
    book.journal._connection.execute("PRAGMA query_only = ON")
    for _ in range(2):
        with pytest.raises(JournalBroken):
            charge(book, 2)
    assert on_disk(path) == 1


# --- whose it is ------------------------------------------------------------------------------------------------------


def test_the_book_of_another_site_is_refused(book: AccountBook, path: Path) -> None:
    with pytest.raises(UsageError, match=r"is the journal of west .*not of south"):
        AccountBook.open(path, site_name("south"), clock=now)


def test_a_journal_of_rounds_is_no_account_book(path: Path) -> None:
    journal = Journal.open(path, Owner(federation="demo", root="r", site="west", identity="i"))
    journal.close()
    with pytest.raises(UsageError, match="is the journal of west in federation demo"):
        book_at(path)


def test_only_its_owner_can_read_it(book: AccountBook, path: Path) -> None:
    assert path.stat().st_mode & 0o777 == 0o600


# --- turns ------------------------------------------------------------------------------------------------------------


def journals(path: Path) -> tuple[Journal, Journal]:
    one, other = (Journal.open(path, Holder(site="west"), shared=True) for _ in range(2))
    return one, other


def test_all_of_a_turn_is_on_disk_or_none_of_it(path: Path) -> None:
    one, other = journals(path)

    def interrupted() -> None:
        with one.turn() as turn:
            turn.append("note", {"number": 1})
            turn.append("note", {"number": 2})
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        interrupted()
    assert list(other.entries("note")) == []
    with one.turn() as turn:
        written = [turn.append("note", {"number": number}) for number in (1, 2)]
    with other.turn() as turn:
        assert turn.fresh == written
    with other.turn() as turn:
        assert turn.fresh == []
    one.close()
    other.close()


def test_nobody_else_writes_during_a_turn(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file, "_SHARED", ("busy_timeout = 0", *file._SHARED[1:]))
    one, other = journals(path)
    with one.turn() as turn:
        turn.append("note", {"number": 1})
        with pytest.raises(UsageError), other.turn():
            pass
    with other.turn() as turn:
        turn.append("note", {"number": 2})
    assert [each.body["number"] for each in other.entries("note")] == [1, 2]
    one.close()
    other.close()


def test_turns_may_alternate(path: Path) -> None:
    one, other = journals(path)
    for number in range(4):
        with (one, other)[number % 2].turn() as turn:
            turn.append("note", {"number": number})
    assert [each.body["number"] for each in other.entries("note")] == [0, 1, 2, 3]
    one.close()
    other.close()
