"""What this site remembers as a witness of the transparency log, all of it read back from its journal.

1. Nothing is remembered that is not in the journal first, and what is signed says where the journal then stood.
2. Of each run: what this site has signed, and under which documents. Of each site: its newest statement.
3. Of gaps that officers have signed: which heads are lost by them. Where this site has followed the log over one, the old head stays on record.
4. What was seen before a person began the history anew is of a log that counts no more. Where journals stood goes on to hold.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from client.admission.documents import Accepted
from client.journal.entries import Entry
from client.journal.file import Journal
from client.transparency.gap_check import signed_gap
from protos.frames import WitnessRequest
from protos.keys import Signer
from protos.membership import MemberList
from protos.vouching import SignedStart, Start
from protos.witness import KEY_DIGITS, Position, SignedWitness, View, WitnessStatement, key_part, view_digest
from strategies.encoding import sha256_hex
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.shamir import Entropy
from strategies.transparency.notes import Checkpoint, SignedNote

_EPOCH: Final = "epoch"
_WITNESSED: Final = "witnessed"
_PEERS: Final = "peers"
_FORK: Final = "fork"
_GAP: Final = "gap"
_ANEW: Final = "history begun anew"
_STARTED: Final = "started"
_START_SEEN: Final = "start seen"
_NONCE_BYTES: Final = 32
_RANDOM_BYTES: Final = KEY_DIGITS // 2
REENROL: Final = "Put the newest journal back; if it is lost, or two agents were started under one key, run `covenant-agent reenrol`"
"""What people do about a journal that others know to be an older copy, or one of two."""
SET_BACK: Final = "this site's journal was set back to an older copy, or this site runs twice"
"""What a refusal begins with once others have shown so; a journal that has one is not to be used any more."""


@dataclass(frozen=True, slots=True)
class Fork:
    """Two signed heads of one size that this site was shown: the one that it had signed, and the other."""

    notes: tuple[str, str]
    at: str


@dataclass(frozen=True, slots=True)
class Bridged:
    """A gap over which this site has followed the log: the note that it had signed before, of a head that is lost now, and the gap's reason."""

    before: str
    kept: int
    reason: str
    at: str


@dataclass(frozen=True, slots=True)
class Own:
    """A statement of this site, and the digest of the documents of the run that it is about (`Accepted.documents`)."""

    said: WitnessStatement
    documents: Digest


@dataclass
class WitnessMemory:
    """The memory of one site. Methods that record raise `JournalBroken`."""

    site: SiteName
    identity: Signer
    journal: Journal
    clock: Callable[[], datetime]
    entropy: Entropy
    last: SignedNote | None = field(default=None, init=False)
    """The newest head that this site has signed, or follows over a gap."""
    bridged: list[Bridged] = field(default_factory=list, init=False)
    lost: set[Checkpoint] = field(default_factory=set, init=False)
    """Heads that are none of the log any more, as gaps say that it was shown."""
    gaps: set[Digest] = field(default_factory=set, init=False)
    """The log's entries of those gaps, by the digest of their bytes."""
    forks: list[Fork] = field(default_factory=list, init=False)
    """Those that no person has dealt with."""
    epoch: str | None = field(default=None, init=False)
    known: dict[SiteName, SignedWitness] = field(default_factory=dict, init=False)
    """The newest statement of each site, this one among them."""
    past: set[SiteName] = field(default_factory=set, init=False)
    """The sites whose newest statement is about the log before the history was begun anew."""
    starts: dict[SiteName, SignedStart] = field(default_factory=dict, init=False)
    """The start of each other site that was furthest in its journal."""
    signed: dict[RunId, list[Own]] = field(default_factory=dict, init=False)
    """By run: what this site has signed of it."""
    witnessed: set[RunId] = field(default_factory=set, init=False)
    """All runs of which this journal has a statement of this site, whether what it said of the log counts or not."""

    def __post_init__(self) -> None:
        readers = {
            _EPOCH: self._read_epoch,
            _WITNESSED: self._read_witnessed,
            _PEERS: self._read_peers,
            _FORK: self._read_fork,
            _GAP: self._read_gap,
            _ANEW: self._read_anew,
            _START_SEEN: self._read_start,
        }
        entries = (entry for kind in readers for entry in self.journal.entries(kind))
        for entry in sorted(entries, key=lambda each: each.seq):
            readers[entry.kind](entry)

    @property
    def last_head(self) -> Checkpoint:
        """That of `last`, or of an empty log."""
        if self.last is None:
            return Checkpoint(origin="none", size=0, root=bytes(32))
        return Checkpoint.parse(self.last.text)

    @property
    def newest(self) -> SignedWitness | None:
        """The last statement of this site."""
        return self.known.get(self.site)

    def view(self, members: MemberList, news: Iterable[SignedWitness]) -> dict[SiteName, Position]:
        """What is known, with `news`, of the positions of all sites that are members with the same key."""
        keys = {each.site: each.identity_key for each in members.members}
        known = self.known | {each.statement.site: each for each in news}
        return {
            site: each.statement.position
            for site, each in known.items()
            if keys.get(site) == each.statement.identity
        }

    def record(
        self, request: WitnessRequest, accepted: Accepted, view: View, news: Iterable[SignedWitness]
    ) -> SignedWitness:
        """What this site says of a run, and what it has heard of others; signed once that is on disk."""
        body = {
            "run": request.run,
            "launch": request.launch.seq,
            "plan": accepted.plan.digest,
            "documents": accepted.documents,
            "federation": accepted.members.name,
            "note": request.note,
            "view": view_digest(view),
            "epoch": self._epoch_now(),
            "peers": _dumped(news),
            "at": self.clock().isoformat(),
        }
        self._read_witnessed(self.journal.append(_WITNESSED, body))
        return self.known[self.site]

    def meet(self, news: Iterable[SignedWitness]) -> None:
        """Keep newer statements of other sites."""
        self._read_peers(self.journal.append(_PEERS, {"peers": _dumped(news)}))

    def keep_fork(self, notes: tuple[str, str]) -> None:
        """Keep two heads of one size."""
        self._read_fork(self.journal.append(_FORK, {"notes": list(notes), "at": self.clock().isoformat()}))

    def note_gap(self, body: bytes, *, before: str = "", note: str = "") -> None:
        """Keep which heads are lost by the gap of a log's entry `body`; with the notes of the last head `before` and of the one that is followed now."""
        facts = {"gap": body.decode(), "before": before, "note": note, "at": self.clock().isoformat()}
        self._read_gap(self.journal.append(_GAP, facts))

    def begin_anew(self, reason: str) -> None:
        """A person decides that what this site has seen of the log counts no more."""
        self._read_anew(self.journal.append(_ANEW, {"reason": reason, "at": self.clock().isoformat()}))

    def record_start(self, federation: str) -> SignedStart:
        """That this process was started: a fresh nonce, signed once it is on disk."""
        epoch, at = self._epoch_now(), self.clock()
        nonce = Digest(self.entropy(_NONCE_BYTES).hex())
        entry = self.journal.append(_STARTED, {"nonce": nonce, "at": at.isoformat()})
        sequence, head = self.journal.head_at(entry.seq)
        start = Start(
            federation=federation,
            site=self.site,
            identity=self.identity.public,
            nonce=nonce,
            position=Position(epoch=epoch, sequence=sequence, head=Digest(head)),
            at=at,
        )
        return SignedStart.sign(start, self.identity)

    def meet_starts(self, starts: Sequence[SignedStart]) -> None:
        """Keep the starts of other sites, of each at most one, with one flush for all; not those of which one is kept that was further, or this one."""
        new = [each for each in starts if not self._has_met(each)]
        if not new:
            return
        with self.journal.turn() as turn:
            kept = [turn.append(_START_SEEN, {"start": each.model_dump(mode="json")}) for each in new]
        for entry in kept:
            self._read_start(entry)

    def _has_met(self, signed: SignedStart) -> bool:
        known, start = self.starts.get(signed.start.site), signed.start
        return (
            known is not None
            and known.start.identity == start.identity
            and known.start.position.sequence >= start.position.sequence
        )

    def seen_of(self, site: SiteName, identity: str) -> tuple[SignedWitness | None, SignedStart | None]:
        """The newest statement of a site under its key, and the start of it that was furthest."""
        statement, start = self.known.get(site), self.starts.get(site)
        return (
            statement if statement is not None and statement.statement.identity == identity else None,
            start if start is not None and start.start.identity == identity else None,
        )

    def _epoch_now(self) -> str:
        """Which journal this is: drawn once, so that another one under the same key is told apart."""
        if self.epoch is None:
            epoch = key_part(self.identity.public) + self.entropy(_RANDOM_BYTES).hex()
            self._read_epoch(self.journal.append(_EPOCH, {"epoch": epoch}))
        return self.epoch or ""

    def _read_epoch(self, entry: Entry) -> None:
        self.epoch = entry.body["epoch"]

    def _read_peers(self, entry: Entry) -> None:
        for each in entry.body["peers"]:
            signed = SignedWitness.model_validate(each)
            self.known[signed.statement.site] = signed
            self.past.discard(signed.statement.site)

    def _read_witnessed(self, entry: Entry) -> None:
        self._read_peers(entry)
        body = entry.body
        self.last = SignedNote.parse(body["note"])
        sequence, head = self.journal.head_at(entry.seq)
        said = WitnessStatement(
            federation=body["federation"],
            site=self.site,
            identity=self.identity.public,
            run=body["run"],
            launch=body["launch"],
            plan=body["plan"],
            checkpoint=self.last.text,
            position=Position(epoch=body["epoch"], sequence=sequence, head=Digest(head)),
            view=body["view"],
            at=datetime.fromisoformat(body["at"]),
        )
        self.known[self.site] = SignedWitness.sign(said, self.identity)
        self.signed.setdefault(RunId(body["run"]), []).append(Own(said, Digest(body.get("documents", ""))))
        self.witnessed.add(RunId(body["run"]))

    def _read_fork(self, entry: Entry) -> None:
        signed, other = entry.body["notes"]
        self.forks.append(Fork((signed, other), entry.body["at"]))

    def _read_gap(self, entry: Entry) -> None:
        body = entry.body
        data = body["gap"].encode()
        gap = signed_gap(data)
        self.gaps.add(sha256_hex(data))
        if gap is not None:
            self.lost.update(gap.gap.lost_heads)
        if gap is not None and body["before"]:
            kept = gap.gap.kept.size
            self.bridged.append(Bridged(body["before"], kept, gap.gap.reason, body["at"]))
            # A launch that is lost may come again, at another place.
            still = {
                run: [own for own in said if own.said.launch < kept] for run, said in self.signed.items()
            }
            self.signed = {run: said for run, said in still.items() if said}
            self.last = SignedNote.parse(body["note"])

    def _read_start(self, entry: Entry) -> None:
        signed = SignedStart.model_validate(entry.body["start"])
        self.starts[signed.start.site] = signed

    def _read_anew(self, _: Entry) -> None:
        self.last = None
        self.forks.clear()
        self.signed.clear()
        self.past = set(self.known)


def _dumped(statements: Iterable[SignedWitness]) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in statements]
