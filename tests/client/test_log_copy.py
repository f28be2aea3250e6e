"""A site's copy of the log: only what a signed head has goes into it, it is on the disk, and no run waits for it."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from client.cli import app
from client.journal.entries import Owner
from client.transparency.export import export_copy
from client.transparency.log_copy import LogCopy
from protos.codec_fields import CodecError
from protos.frames import Refusal, RefusalCode, WitnessAnswer, WitnessRequest
from protos.log_export import Export
from protos.log_proofs import MOST_COPIED
from protos.secure_codec import decode_asked, encode_witness_request
from protos.site import load_site
from protos.witness import Evidence
from strategies.errors import Refused, UsageError
from strategies.ids import RunId
from tests.client.secure_for_tests import RUN, VICTIM, SecureBank, secure_bank
from tests.witness_for_tests import asked

OTHER = RunId("run-00000000000000aa")
OWNER = Owner(federation="demo", root="ab", site="north", identity="cd")


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def request(bank: SecureBank, first: int = 0, count: int | None = None, run: RunId = RUN) -> WitnessRequest:
    """An honest one, with `count` entries from `first`, or all."""
    bank.log.launch(run, bank.bare_task)
    stop = bank.log.tree.size if count is None else first + count
    grown = bank.log.grown(
        [
            first,
            stop,
            *(each.statement.statement.head.size for each in bank.log.known.values() if each.statement),
        ]
    )
    return replace(
        bank.log.request(run, bank.bare_task),
        first=first,
        entries=tuple(bank.log.entries[first:stop]),
        grown=grown,
        again=True,
    )


def answer(bank: SecureBank, ask: WitnessRequest) -> WitnessAnswer:
    body = asked(bank.participant(VICTIM), ask)
    assert isinstance(body, WitnessAnswer), body
    assert body.statement is not None
    return body


def copied(bank: SecureBank) -> list[bytes]:
    copy = bank.participant(VICTIM).witness.copy
    assert copy is not None
    return list(copy.entries(copy.size))


def test_what_reaches_the_head_is_copied_and_survives_a_crash(bank: SecureBank) -> None:
    assert answer(bank, request(bank)).copied == bank.log.tree.size == 3
    bank.crash(VICTIM)
    assert copied(bank) == bank.log.entries
    assert answer(bank, request(bank, first=3, run=OTHER)).copied == bank.log.tree.size > 3
    assert copied(bank) == bank.log.entries


def test_a_part_is_copied_where_a_proof_leads_on_to_the_head(bank: SecureBank) -> None:
    assert answer(bank, request(bank, count=1)).copied == 1
    assert answer(bank, replace(request(bank, first=1, count=1), grown=())).copied == 1
    assert answer(bank, request(bank, first=1, count=1)).copied == 2
    assert answer(bank, request(bank)).copied == 3  # more than it lacks
    assert copied(bank) == bank.log.entries


def test_entries_after_others_that_it_lacks_are_left(bank: SecureBank) -> None:
    assert answer(bank, request(bank, first=1)).copied == 0
    assert copied(bank) == []


@pytest.mark.parametrize("count", [3, 2])
def test_entries_that_contradict_the_head_are_refused_with_the_head_as_evidence(
    count: int, bank: SecureBank
) -> None:
    honest = request(bank, count=count)
    lying = replace(
        honest, entries=(honest.entries[0].replace(b"12:00:00", b"12:00:01"), *honest.entries[1:])
    )
    body = asked(bank.participant(VICTIM), lying)
    assert isinstance(body, Refusal)
    assert body.code is RefusalCode.SIGNATURE
    assert "are not those of the head" in body.reason
    assert Evidence.from_canonical(body.evidence).notes == (honest.note,)
    assert bank.participant(VICTIM).witness.memory.newest is None
    assert copied(bank) == []


def test_more_than_a_request_may_carry_is_no_request(bank: SecureBank) -> None:
    for entries in ((b"{}",) * (MOST_COPIED + 1), (bytes(1 << 19),) * 3):
        with pytest.raises(CodecError, match="to copy; at most"):
            decode_asked(encode_witness_request(replace(request(bank), entries=entries)))


@pytest.mark.parametrize("ruin", ["garbage", "a folder", "nodes", "another site's"])
def test_a_copy_that_cannot_be_used_keeps_no_run_waiting(ruin: str, bank: SecureBank) -> None:
    answer(bank, request(bank))
    path = bank.folder / VICTIM / "log.db"
    bank.participant(VICTIM).close()
    RUINED[ruin](path)
    bank._running.pop(VICTIM)
    assert answer(bank, request(bank, first=3, run=OTHER)).copied == 0
    left = bank.participant(VICTIM).witness.copy
    assert left is not None
    with pytest.raises(Refused, match="cannot be used"):
        left.newest()


def _spoil(path: Path, statement: str) -> None:
    connection = sqlite3.connect(path)
    connection.execute(statement)
    connection.commit()
    connection.close()


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


RUINED = {
    "garbage": lambda path: path.write_bytes(b"no database" * 1000),
    "a folder": _folder,
    "nodes": lambda path: _spoil(path, "UPDATE entries SET nodes = x'00'"),
    "another site's": lambda path: _spoil(path, "UPDATE owner SET facts = CAST('{}' AS BLOB)"),
}


def test_a_disk_that_fails_ends_the_copy_and_not_the_agent(tmp_path: Path, bank: SecureBank) -> None:
    class Full(sqlite3.Connection):
        def executemany(self, *_: object) -> sqlite3.Cursor:  # type: ignore[override]
            raise sqlite3.OperationalError("database or disk is full")

    def failing(path: str) -> sqlite3.Connection:
        return sqlite3.connect(path, isolation_level=None, factory=Full)

    witness = bank.participant(VICTIM).witness
    witness.copy = LogCopy.open(tmp_path / "log.db", OWNER, connect=failing)
    assert answer(bank, request(bank)).copied == 0
    assert answer(bank, request(bank, first=3, run=OTHER)).copied == 0


def test_the_agent_exports_what_reaches_a_signed_head(bank: SecureBank, tmp_path: Path) -> None:
    """While it runs. Whether that is a log that fits together is for `covenant log verify`."""
    config = load_site(bank.folder / VICTIM / "site.yaml")
    answer(bank, request(bank, count=2))
    with pytest.raises(UsageError, match="no entries up to a signed head yet"):
        export_copy(config, tmp_path / "early.jsonl")
    answer(bank, request(bank, first=2))
    note = bank.log.note()
    answer(bank, request(bank, first=3, count=1, run=OTHER))
    facts = export_copy(config, tmp_path / "copy.jsonl")
    assert (facts["entries"], facts["federation"]) == (3, "demo")
    with (tmp_path / "copy.jsonl").open("rb") as file:
        export = Export.read(file)
        assert (export.header.checkpoint, list(export.entries)) == (note, bank.log.entries[:3])
    with pytest.raises(UsageError, match="exists"):
        export_copy(config, tmp_path / "copy.jsonl")
    bank.participant(VICTIM).close()
    bank._running.pop(VICTIM)
    _spoil(config.log_copy, "UPDATE entries SET body = x'7b7d' WHERE seq = 1")
    with pytest.raises(Refused, match="are not those of the signed head"):
        export_copy(config, tmp_path / "spoilt.jsonl")


def test_the_command_exports_it(bank: SecureBank, tmp_path: Path) -> None:
    answer(bank, request(bank))
    config = str(bank.folder / VICTIM / "site.yaml")
    app(["log", "export", str(tmp_path / "kept.jsonl"), "--config", config], standalone_mode=False)
    with (tmp_path / "kept.jsonl").open("rb") as file:
        assert list(Export.read(file).entries) == bank.log.entries
