"""What a site's journal promises: one answer an attempt, on disk before it leaves, and one process at a time."""

from __future__ import annotations

from pathlib import Path

from client.journal.answers import Slot, question_of
from protos.codec_fields import CodecError
from protos.frames import Refusal, Request, SecureAnswer, WitnessAnswer
from protos.secagg_codec import encode_frame
from protos.secure_codec import decode_answer, decode_asked
from simulation.campaign.invariants.base import Invariant, register
from strategies.encoding import sha256_hex
from strategies.ids import Digest, SiteName
from strategies.pieces import joined
from strategies.secagg.messages import Confirmation, MaskedInput, Shares


@register
class OneAnswerAnAttempt(Invariant):
    """Listens to what reaches a site and to what leaves it."""

    name = "one-answer-an-attempt"
    part = "answers"
    says = "A site never answers one attempt at a stage of a round with different bytes, whatever it is asked and however it dies."

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._slots: dict[Digest, Slot] = {}
        self._said: dict[tuple[SiteName, Slot], str] = {}

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """See `Invariant.frame`."""
        if direction == "request":
            try:
                asked = decode_asked(frame)
            except CodecError:
                return
            if isinstance(asked, Request):
                self._slots[asked.statement.digest] = question_of(asked.statement).slot
        elif direction == "reply":
            reply = decode_answer(frame)
            if isinstance(reply.body, Refusal | SecureAnswer | WitnessAnswer):
                return
            slot = self._slots[reply.statement_digest]
            first = self._said.setdefault((site, slot), sha256_hex(frame))
            self.require(first == sha256_hex(frame), f"{site} has given two answers to {slot}")


@register
class RecordedBeforeSent(Invariant):
    """Reads the journal's files at the moment in which an answer leaves."""

    name = "recorded-before-sent"
    part = "answers"
    says = "An answer is in the site's journal, on disk, before it leaves."

    def __init__(self, *scene: object) -> None:
        super().__init__(*scene)  # type: ignore[arg-type]
        self._recorded: set[tuple[SiteName, bytes]] = set()

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """See `Invariant.frame`."""
        if direction != "reply":
            return
        body = decode_answer(frame).body
        if isinstance(body, Refusal):
            return
        if isinstance(body, SecureAnswer):
            wanted = [
                joined(encode_frame(each))
                for each in body.frames
                if isinstance(each.body, MaskedInput | Confirmation | Shares)
            ]
        elif isinstance(body, WitnessAnswer):
            # The checksum of the entry that the statement names as the journal's newest.
            wanted = [] if body.statement is None else [bytes.fromhex(body.statement.statement.position.head)]
        else:
            wanted = [sha256_hex(frame).encode()]
        journal = self.scene.federation.layout.journal(site)
        files = [path for path in (journal, Path(f"{journal}-wal")) if path.exists()]
        content = [path.read_bytes() for path in files]
        # A confirmation is wiped with the step after it, and may be on its way once more by then.
        self._recorded |= {(site, each) for each in wanted if any(each in read for read in content)}
        recorded = all((site, each) in self._recorded for each in wanted)
        self.require(recorded, f"{site} sends an answer that is not in its journal")


@register
class OneProcessAJournal(Invariant):
    """Hears what became of second processes."""

    name = "one-process-a-journal"
    part = "answers"
    says = "A second process of a site on the same journal is refused while the first one runs."

    def step(self, party: str, what: str) -> None:
        """See `Invariant.step`."""
        self.require(what != "has a twin", f"two processes of {party} have opened one journal")
