"""The journal: what was appended is there after anything that can happen to a machine, or the site stops."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from client.journal.entries import Entry, Holder, JournalBroken, Owner
from client.journal.file import Journal, connect
from simulation.world.folders import memory_folder
from strategies.errors import CovenantError, UsageError

OWNER = Owner(federation="demo", root="root-key", site="west", identity="west-key")


def bodies(journal: Journal, kind: str = "answered") -> list[dict]:
    return [dict(entry.body) for entry in journal.entries(kind)]


def written(path: Path, count: int, size: int = 100) -> None:
    """A journal with `count` entries, left as a kill would leave it: nothing checkpointed, nothing closed."""
    script = (
        "import sys, os; from pathlib import Path; from client.journal.file import Journal, Owner\n"
        f"journal = Journal.open(Path(sys.argv[1]), Owner(**{OWNER_FIELDS!r}))\n"
        f"for number in range({count}): journal.append('answered', {{'number': number}}, bytes([number]) * {size}, keep=4)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False, timeout=60)


OWNER_FIELDS = {"federation": "demo", "root": "root-key", "site": "west", "identity": "west-key"}


def copied(path: Path, folder: Path) -> Path:
    folder.mkdir()
    for file in path.parent.glob(f"{path.name}*"):
        shutil.copy(file, folder / file.name)
    return folder / path.name


def test_what_was_appended_is_there_after_it_is_opened_again(tmp_path):
    path = tmp_path / "deep" / "journal.db"
    journal = Journal.open(path, OWNER)
    first = journal.append("answered", {"number": 1, "text": "ü"}, b"frame")
    assert first == Entry(2, "answered", {"number": 1, "text": "ü"})
    journal.append("charged", {"number": 2})
    journal.close()
    again = Journal.open(path, OWNER)
    assert bodies(again) == [{"number": 1, "text": "ü"}]
    assert bodies(again, "charged") == [{"number": 2}]
    assert again.append("answered", {}).seq == 4


def test_only_its_owner_can_read_it(tmp_path):
    before = os.umask(0)
    try:
        journal = Journal.open(tmp_path / "journal.db", OWNER)
        journal.append("answered", {"number": 1})
    finally:
        os.umask(before)
    assert {stat.S_IMODE(file.stat().st_mode) for file in tmp_path.iterdir()} == {0o600}


def test_a_journal_that_others_can_read_is_closed_to_them(tmp_path):
    path = tmp_path / "journal.db"
    Journal.open(path, OWNER).close()
    path.chmod(0o644)
    Journal.open(path, OWNER)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_place_that_cannot_hold_a_journal_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "folder.db").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "elsewhere.db")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path / "folder.db", tmp_path / "link.db", tmp_path / "file" / "journal.db"):
        with pytest.raises(UsageError, match=r"cannot be opened \(.*\); `journal` must name a file"):
            Journal.open(path, OWNER)


def test_the_newest_attachments_are_kept_and_no_trace_of_the_others(tmp_path):
    path = tmp_path / "journal.db"
    journal = Journal.open(path, OWNER)
    for number in range(6):
        journal.append("answered", {"number": number}, b"secret-%d-" % number * 50, keep=2)
    assert [journal.attachment(seq) is not None for seq in range(2, 8)] == [False] * 4 + [True] * 2
    assert journal.attachment(7) == b"secret-5-" * 50
    journal.close()
    assert b"secret-0-" not in path.read_bytes()
    assert b"secret-5-" in path.read_bytes()


@pytest.fixture
def in_memory(tmp_path):
    """A folder whose flushes are fast, where there is one: these tests cut files short themselves, thousands of times."""
    shared = memory_folder()
    if shared is None:
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=shared) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_it_survives_a_cut_at_every_byte_of_its_last_record(in_memory):
    """A power cut may leave any part of what was being written. All records before it are there; it is there whole or not at all."""
    short, full = in_memory / "short" / "journal.db", in_memory / "full" / "journal.db"
    written(short, 3)
    written(full, 4)
    before, whole = (Path(f"{path}-wal").read_bytes() for path in (short, full))
    # Salts differ from run to run, but not how long a record is.
    assert 0 < len(before) < len(whole)
    for cut in range(len(before), len(whole) + 1):
        path = copied(full, in_memory / f"cut-{cut}")
        os.truncate(f"{path}-wal", cut)
        journal = Journal.open(path, OWNER)
        expected = 4 if cut == len(whole) else 3
        assert bodies(journal) == [{"number": number} for number in range(expected)], cut
        assert journal.attachment(4) == bytes([2]) * 100
        journal.append("answered", {"number": "next"}, b"next")
        journal.close()
        shutil.rmtree(path.parent)


def test_it_survives_a_last_record_whose_bytes_never_reached_the_disk(in_memory):
    short, full = in_memory / "short" / "journal.db", in_memory / "full" / "journal.db"
    written(short, 3)
    written(full, 4)
    begin, end = (Path(f"{path}-wal").stat().st_size for path in (short, full))
    for first in range(begin, end, 97):
        path = copied(full, in_memory / f"lost-{first}")
        with Path(f"{path}-wal").open("r+b") as wal:
            wal.seek(first)
            kept = wal.read(512)
            wal.seek(first)
            wal.write(bytes(len(kept)))
        journal = Journal.open(path, OWNER)
        assert bodies(journal)[:3] == [{"number": number} for number in range(3)]
        assert len(bodies(journal)) == (4 if kept == bytes(len(kept)) else 3), first
        journal.close()
        shutil.rmtree(path.parent)


def test_an_entry_that_was_altered_is_found(tmp_path):
    path = tmp_path / "journal.db"
    journal = Journal.open(path, OWNER)
    for number in range(3):
        journal.append("answered", {"number": number})
    journal.close()
    for tampering in (
        "UPDATE entries SET body = X'7B7D' WHERE seq = 3",
        "UPDATE entries SET kind = 'charged' WHERE seq = 3",
        "DELETE FROM entries WHERE seq = 2",
        "DELETE FROM entries WHERE seq = 1",
        "UPDATE entries SET seq = 9 WHERE seq = 4",
    ):
        copy = tmp_path / "tampered.db"
        shutil.copy(path, copy)
        tamper = connect(str(copy))
        tamper.execute("DROP TRIGGER entries_stay")
        tamper.execute("DROP TRIGGER entries_never_change")
        tamper.execute(tampering)
        tamper.close()
        with pytest.raises(CovenantError, match=r"is damaged: entry \d of \d does not fit the one before it"):
            Journal.open(copy, OWNER)
        copy.unlink()


def test_entries_can_only_be_appended(tmp_path):
    Journal.open(tmp_path / "journal.db", OWNER).close()
    other = connect(str(tmp_path / "journal.db"))
    for statement in ("DELETE FROM entries", "UPDATE entries SET kind = 'x'"):
        with pytest.raises(sqlite3.DatabaseError, match="entries are only ever appended"):
            other.execute(statement)


@pytest.mark.parametrize(
    "content", [b"x" * 5000, b"SQLite format 3\x00" + b"\xff" * 5000], ids=["no database", "damaged"]
)
def test_a_file_that_is_no_journal_is_refused_and_kept(tmp_path, content):
    path = tmp_path / "journal.db"
    path.write_bytes(content)
    with pytest.raises(CovenantError, match="is damaged"):
        Journal.open(path, OWNER)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("field", "value"),
    [("federation", "retail"), ("site", "east"), ("root", "another-root"), ("identity", "another-key")],
)
def test_a_journal_of_another_site_or_federation_is_refused_in_one_sentence(tmp_path, field, value):
    path = tmp_path / "journal.db"
    Journal.open(path, Owner(**{**OWNER_FIELDS, field: value})).close()
    with pytest.raises(UsageError, match=f"another {field}\\), not of west in federation demo"):
        Journal.open(path, OWNER)
    Journal.open(path, Owner(**{**OWNER_FIELDS, field: value}))


def test_a_second_process_of_the_same_site_is_refused(tmp_path):
    path = tmp_path / "journal.db"
    first = Journal.open(path, OWNER)
    with pytest.raises(UsageError, match="another agent of this site runs already"):
        Journal.open(path, OWNER)
    first.append("answered", {"number": 1})
    first.close()
    Journal.open(path, OWNER)


class FailingConnection(sqlite3.Connection):
    """Fails as SQLite does when the system call behind a commit fails, and counts what is tried afterwards."""

    failing = False
    tried_again = 0

    def commit(self) -> None:
        if not self.failing:
            return super().commit()
        self.tried_again += 1
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error


def test_a_failed_flush_breaks_the_journal_for_good_and_is_not_tried_again(tmp_path):
    connections = []

    def failing(path: str) -> sqlite3.Connection:
        connections.append(
            sqlite3.connect(path, timeout=0.0, isolation_level=None, factory=FailingConnection)
        )
        return connections[-1]

    journal = Journal.open(tmp_path / "journal.db", OWNER, connect=failing)
    journal.append("answered", {"number": 1})
    connections[0].failing = True
    with pytest.raises(JournalBroken, match=r"SQLITE_IOERR_FSYNC.*this agent stops"):
        journal.append("answered", {"number": 2})
    connections[0].failing = False
    for use in (
        lambda: journal.append("answered", {"number": 2}),
        lambda: list(journal.entries("answered")),
        lambda: journal.attachment(1),
    ):
        with pytest.raises(JournalBroken):
            use()
    journal.close()
    assert connections[0].tried_again == 1
    assert connections[0].in_transaction  # left as it lay: closing would have flushed


def test_a_full_disk_breaks_the_journal(tmp_path):
    def small(path: str) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 12")
        return connection

    journal = Journal.open(tmp_path / "journal.db", OWNER, connect=small)
    number = 0

    def fill() -> None:
        nonlocal number
        for number in range(50):
            journal.append("answered", {"number": number}, bytes(4000), keep=50)

    with pytest.raises(JournalBroken, match=r"full.*Check the disk and its free space"):
        fill()
    again = shutil.copytree(tmp_path, tmp_path.parent / "after") / "journal.db"
    assert [body["number"] for body in bodies(Journal.open(again, OWNER))] == list(range(number))


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(["answered", "charged"]), st.integers(), st.booleans()), max_size=12)
)
def test_any_sequence_of_appends_and_restarts_is_kept(tmp_path_factory, steps):
    path = tmp_path_factory.mktemp("journal") / "journal.db"
    journal, said = Journal.open(path, OWNER), []
    for kind, number, restart in steps:
        body = {"number": number % 2**53}
        journal.append(kind, body, b"x" * (number % 1000))
        said.append((kind, body))
        if restart:
            journal.close()
            journal = Journal.open(path, OWNER)
    found = sorted(
        (entry.seq, kind, dict(entry.body))
        for kind in ("answered", "charged")
        for entry in journal.entries(kind)
    )
    assert [(kind, body) for _, kind, body in found] == said
    journal.close()


def test_to_open_a_shared_journal_again_lets_no_other_process_into_a_turn(tmp_path: Path) -> None:
    """The locks of a process on a file end when it closes any descriptor of it: the metrics of an agent open its accounts beside it."""
    path, owner = tmp_path / "accounts.db", Holder(site="west")
    intruder = "import sqlite3, sys; sqlite3.connect(sys.argv[1], timeout=0.0, isolation_level=None).execute('BEGIN IMMEDIATE')"
    with closing(Journal.open(path, owner, shared=True)) as journal:
        with journal.turn():
            beside = threading.Thread(
                target=lambda: Journal.open(path, owner, shared=True).close(), daemon=True
            )
            beside.start()
            beside.join(1.0)
            assert beside.is_alive()
            done = subprocess.run(
                [sys.executable, "-c", intruder, str(path)], capture_output=True, text=True, timeout=60, check=False
            )  # fmt: skip
        assert "database is locked" in done.stderr
        beside.join(60.0)
