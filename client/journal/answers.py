"""What this site has answered, so that it never answers one attempt at a round in two ways.

1. An attempt at a stage of a round is answered for one statement. For the same statement the same bytes leave again; for another
   statement nothing does.
2. An answer is recorded before it leaves. A site that dies in between finds it again, and sends it when it is asked again.
3. A refusal releases nothing and is not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from client.journal.file import Journal, JournalBroken
from client.plan_check import TaskRefused
from protos.frames import RefusalCode, Statement
from strategies.encoding import sha256_hex
from strategies.ids import Digest

_KIND: Final = "answered"
_KEPT_FRAMES: Final = 4

Slot = tuple[str, str, int, int]
"""Run, stage, round, attempt: what is answered once."""


@dataclass
class Answers:
    """The answers in a journal, looked up by statement and by slot."""

    journal: Journal
    _by_slot: dict[Slot, tuple[Digest, int, Digest]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for entry in self.journal.entries(_KIND):
            self._remember(entry.seq, entry.body)

    def kept(self, statement: Statement) -> bytes | None:
        """The frame that answered `statement`, or None if its slot is free. Raises `TaskRefused` if another statement has it."""
        found = self._by_slot.get(slot_of(statement))
        if found is None:
            return None
        answered, seq, digest = found
        which = f"attempt {statement.attempt} at the {statement.stage.name.lower()} stage of round {statement.round}"
        if answered != statement.digest:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"this site has answered {which} for another statement, {answered[:16]}"
            )
        frame = self.journal.attachment(seq)
        if frame is None:
            raise TaskRefused(
                RefusalCode.PROTOCOL, f"this site has answered {which}, too long ago to say it again"
            )
        if sha256_hex(frame) != digest:
            raise JournalBroken(
                f"the journal's copy of the answer to {which} is not what was recorded: the disk lost it. Keep the file"
            )
        return frame

    def record(self, statement: Statement, frame: bytes) -> None:
        """Put the answer on disk; only after this may it leave. Raises `JournalBroken`."""
        run, stage, number, attempt = slot_of(statement)
        body = {
            "run": run, "stage": stage, "round": number, "attempt": attempt,
            "statement": statement.digest, "plan": statement.plan_digest, "frame": sha256_hex(frame),
        }  # fmt: skip
        entry = self.journal.append(_KIND, body, frame, keep=_KEPT_FRAMES)
        self._remember(entry.seq, body)

    def _remember(self, seq: int, body: Mapping[str, Any]) -> None:
        slot = (body["run"], body["stage"], body["round"], body["attempt"])
        self._by_slot[slot] = (Digest(body["statement"]), seq, Digest(body["frame"]))


def slot_of(statement: Statement) -> Slot:
    """What `statement` takes: no other statement may be answered for it."""
    return (statement.run, statement.stage.name, statement.round, statement.attempt)
