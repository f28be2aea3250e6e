"""The transparency log over a real database: what is appended is provable for ever, and what was changed is found."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from sqlalchemy import Engine, delete, func, insert, select, text, update
from sqlalchemy.exc import DBAPIError

from coordinator.db import writing
from coordinator.db.log_schema import LoggedCheckpoint, LoggedEntry
from coordinator.governance.log import TransparencyLog, append
from protos.log_entries import LogEntry, What
from protos.log_office import CallDenied
from protos.log_run_events import RunEnded, RunResumed
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import RunId
from strategies.transparency.merkle import leaf_hash, verify_consistency, verify_inclusion
from strategies.transparency.notes import Checkpoint, NoteKey
from tests.coordinator.conftest import Clock

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
PRIVATE = Ed25519PrivateKey.from_private_bytes(bytes(32))
KEY = NoteKey("demo/log", PRIVATE.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
TRIGGERS = {
    "sqlite": "DROP TRIGGER log_entries_no_update",
    "postgresql": "DROP TRIGGER log_entries_no_update ON log_entries",
}


DENIED = CallDenied(officer="risk-1", method="ApprovePlan", reason="it was late")


def resumed(number: int) -> What:
    return RunResumed(run=RunId(f"run-{number:016x}"))


@pytest.fixture
def log(engine: Engine, clock: Clock) -> TransparencyLog:
    return TransparencyLog(engine=engine, key=KEY, sign=lambda text: PRIVATE.sign(text.encode()), clock=clock)


def grow(engine: Engine, *numbers: int) -> int:
    with writing(engine, "logging") as session:
        return append(session, AT, (resumed(number) for number in numbers))


def head(log: TransparencyLog) -> Checkpoint:
    return Checkpoint.parse(log.checkpoint().require(KEY))


def test_every_entry_is_proved_in_every_head_that_was_signed_since(
    log: TransparencyLog, engine: Engine
) -> None:
    heads = [head(log)]
    for start, stop in ((0, 1), (1, 4), (4, 5), (5, 20)):
        assert grow(engine, *range(start, stop)) == stop
        heads.append(head(log))
    assert [each.size for each in heads] == [0, 1, 4, 5, 20]
    leaves = [leaf_hash(each.body) for each in log.entries()]
    for each in heads:
        for seq in range(each.size):
            proof = log.inclusion(seq, each.size)
            verify_inclusion(leaves[seq], index=seq, size=each.size, proof=proof, root=each.root)
    for old, new in pairwise(heads[1:]):
        proof = log.consistency(old.size, new.size)
        verify_consistency(old=old.size, old_root=old.root, new=new.size, new_root=new.root, proof=proof)


def test_entries_are_read_as_they_were_written_in_order_and_by_kind(
    log: TransparencyLog, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("coordinator.governance.log._PAGE", 3)
    grow(engine, *range(7))
    ended = RunEnded(run=RunId("run-0123456789abcdef"), state="failed", reason="it was late")
    with writing(engine, "logging") as session:
        append(session, AT, [ended])
    read = [(each.seq, LogEntry.from_canonical(each.body).what) for each in log.entries()]
    assert read == [*((number, resumed(number)) for number in range(7)), (7, ended)]
    assert [each.seq for each in log.entries(2, 5)] == [2, 3, 4]
    assert [each.seq for each in log.entries(kind="ended")] == [7]


def test_nothing_is_written_before_what_the_log_has(log: TransparencyLog, engine: Engine) -> None:
    def write(at: datetime) -> None:
        with writing(engine, "logging") as session:
            append(session, at, [DENIED])

    grow(engine, 0)
    with writing(engine, "logging") as session:  # however many follow, the newest remains the newest
        append(session, AT - timedelta(minutes=5), [DENIED] * 150)
    for ago in (timedelta(minutes=5, seconds=1), timedelta(days=1)):
        with pytest.raises(Refused, match="the clock was set back"):
            write(AT - ago)
    assert log.size() == 151
    write(AT + timedelta(minutes=1))
    assert log.size() == 152


def test_the_end_of_a_run_is_told_whatever_the_clock_says(log: TransparencyLog, engine: Engine) -> None:
    grow(engine, 0)
    ended = RunEnded(run=RunId("run-0123456789abcdef"), state="failed", reason="the clock was set back")
    with writing(engine, "logging") as session:
        append(session, AT - timedelta(days=4000), [ended])
    assert LogEntry.from_canonical(list(log.entries())[-1].body).at == AT


def test_no_entry_without_its_effect(log: TransparencyLog, engine: Engine) -> None:
    grow(engine, 0)

    def fail() -> None:
        with writing(engine, "failing") as session:
            append(session, AT, [resumed(1)])
            raise CovenantError("the effect failed")

    with pytest.raises(CovenantError, match="the effect failed"):
        fail()
    assert head(log).size == 1
    assert grow(engine, 2) == 2


def test_an_entry_that_is_too_long_is_refused(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.governance.log.MOST_ENTRY_BYTES", 50)
    with pytest.raises(UsageError, match="at most 50"):
        grow(engine, 1)


def test_writers_at_the_same_moment_take_turns(
    log: TransparencyLog, opened: Callable[..., Engine], engine: Engine
) -> None:
    failures: list[BaseException] = []

    def write(number: int) -> None:
        try:
            mine = opened()
            for each in range(10):
                grow(mine, number * 100 + each)
        except BaseException as error:  # noqa: BLE001 (told below)
            failures.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert failures == []
    assert [each.seq for each in log.entries()] == list(range(40))
    assert head(log).size == 40


def test_the_database_keeps_every_row(log: TransparencyLog, engine: Engine) -> None:
    grow(engine, 0, 1)
    log.checkpoint()
    statements = (
        delete(LoggedEntry),
        update(LoggedEntry).values(body=b"{}"),
        delete(LoggedCheckpoint),
        update(LoggedCheckpoint).values(note=""),
        insert(LoggedEntry).values(seq=-1, kind="x", at=AT, body=b"", nodes=b""),
        text(
            "TRUNCATE log_entries"
            if engine.dialect.name == "postgresql"
            else "INSERT OR REPLACE INTO log_entries SELECT * FROM log_entries"
        ),
    )
    for statement in statements:
        with pytest.raises(DBAPIError), writing(engine, "tampering") as session:
            session.execute(statement)
    with writing(engine, "counting") as session:
        assert session.scalar(select(func.count()).select_from(LoggedEntry)) == 2


@pytest.fixture
def tampered(log: TransparencyLog, engine: Engine) -> TransparencyLog:
    """A log whose owner went around the triggers after its head was signed."""
    grow(engine, *range(5))
    log.checkpoint()
    with writing(engine, "tampering") as session:
        session.execute(text(TRIGGERS[engine.dialect.name]))
        forged = leaf_hash(b"forged") + bytes(32 * 2)
        session.execute(update(LoggedEntry).where(LoggedEntry.seq == 3).values(nodes=forged))
    return log


def test_a_head_that_was_signed_is_not_signed_again_with_another_root(tampered: TransparencyLog) -> None:
    with pytest.raises(CovenantError, match="is not the one that was signed"):
        tampered.checkpoint()


def test_what_is_missing_is_told_apart_from_what_was_never_there(
    log: TransparencyLog, engine: Engine
) -> None:
    grow(engine, *range(5))
    with pytest.raises(UsageError, match="the log has 5 entries, not 6"):
        log.inclusion(0, 6)
    with writing(engine, "tampering") as session:
        session.execute(text(TRIGGERS[engine.dialect.name]))
        session.execute(update(LoggedEntry).where(LoggedEntry.seq == 3).values(nodes=b""))
    with pytest.raises(CovenantError, match="entry 3 of the transparency log is missing or incomplete"):
        log.inclusion(4, 5)
