"""This site as a witness of the transparency log: what it has signed about it, and what it asks of others before it takes part in a run.

1. A head is signed by the log's key on the newest member list that this site trusts, and extends the last head that this site has signed.
2. The launch of the run is in that log, and names this run, this plan with its contract and approvals, and this member list; and so is the entry
   that has the plan. No launch without that, whatever the coordinator says.
3. What is signed is in the journal first, and says where the journal then stood (`Position`).
4. What others have signed is of the same log, and no site is behind its own signature: not a peer, and not this site, whose journal must hold
   every position that it or its peers have ever signed for it.
5. A run is taken part in after as many of its sites have witnessed it as the plan and this site's policy ask for, this one among them: each over
   a head that this site's own extends.
6. A log that does not extend what this site has signed is followed only over a gap that the officers have signed, which names that very head as
   lost (`gap_check`). The old head stays in the journal.
7. Two heads of one size are a split. It is kept with both signed notes, and this site signs nothing and takes part in nothing until a person
   here has dealt with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Literal, NoReturn

import structlog

from client.gap_check import Bridge, bridges_in, lost_of, signed_gap
from client.journal.entries import Entry
from client.journal.file import Journal
from client.launch_check import require_launched
from client.log_copy import Contradicted, Fresh, LogCopy
from client.plan_check import Accepted, TaskRefused
from protos.frames import RefusalCode, WitnessAnswer, WitnessRequest
from protos.keys import Signer
from protos.membership import MemberList
from protos.root import SignedRoot
from protos.witness import (
    KEY_DIGITS,
    Evidence,
    Position,
    ProofMissing,
    Shown,
    SignedWitness,
    View,
    WitnessBundle,
    Witnessed,
    WitnessStatement,
    difference_of,
    key_part,
    log_key_of,
    view_digest,
    witnesses_of,
)
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName
from strategies.secagg.shamir import Entropy
from strategies.transparency.merkle import ProofRefused
from strategies.transparency.notes import Checkpoint, SignedNote

_EPOCH: Final = "epoch"
_WITNESSED: Final = "witnessed"
_PEERS: Final = "peers"
_FORK: Final = "fork"
_GAP: Final = "gap"
_ANEW: Final = "history begun anew"
_RANDOM_BYTES: Final = KEY_DIGITS // 2
_KEPT_BUNDLES: Final = 8
Shows = Literal["split", "shorter", "not extended"]
_log = structlog.get_logger(__name__)


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


@dataclass
class Witness:
    """What this site has signed, on disk. `policy_asks` is its own rule of how many witnesses a run needs, `copy` its copy of the log."""

    site: SiteName
    identity: Signer
    pinned: SignedRoot
    journal: Journal
    clock: Callable[[], datetime]
    entropy: Entropy
    policy_asks: int | None = None
    copy: LogCopy | None = None
    last: SignedNote | None = field(default=None, init=False)
    """The newest head that this site has signed, or follows over a gap."""
    bridged: list[Bridged] = field(default_factory=list, init=False)
    forks: list[Fork] = field(default_factory=list, init=False)
    """Those that no person has dealt with."""
    _lost: set[Checkpoint] = field(default_factory=set, init=False)
    """Heads that are none of the log any more, as gaps say that it was shown."""
    _gaps: set[Digest] = field(default_factory=set, init=False)
    _epoch: str | None = field(default=None, init=False)
    _known: dict[SiteName, SignedWitness] = field(default_factory=dict, init=False)
    """The newest statement of each site, this one among them."""
    _signed: dict[RunId, list[WitnessStatement]] = field(default_factory=dict, init=False)
    """By run: what this site has signed of it."""
    _good: OrderedDict[tuple[RunId, Digest], None] = field(default_factory=OrderedDict, init=False)

    def __post_init__(self) -> None:
        readers = {
            _EPOCH: self._read_epoch,
            _WITNESSED: self._read_witnessed,
            _PEERS: self._read_peers,
            _FORK: self._read_fork,
            _GAP: self._read_gap,
            _ANEW: self._read_anew,
        }
        entries = (entry for kind in readers for entry in self.journal.entries(kind))
        for entry in sorted(entries, key=lambda each: each.seq):
            readers[entry.kind](entry)

    @property
    def newest(self) -> SignedWitness | None:
        """The last statement of this site."""
        return self._known.get(self.site)

    def require_sound(self) -> None:
        """Check that no split of the log is known here. Raises `TaskRefused`."""
        if self.forks:
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                "this site has two different heads of one size of the log, both signed by the log's key, and takes part in nothing until its people"
                " have dealt with it: `covenant-agent witness` shows both",
                evidence=self._evidence("split", self.forks[0].notes),
            )

    def sign(self, request: WitnessRequest, accepted: Accepted) -> WitnessAnswer:
        """Witness a run whose documents were accepted; without a statement where a proof from this site's last head is needed.

        Raises `TaskRefused`, and `JournalBroken` if it could not be recorded.
        """
        self.require_sound()
        try:
            shown = Shown.of(request.note, request.grown, log_key_of(accepted.members))
            # First, because a site that was set back does not know how much it has seen.
            for each in request.statements:
                if each.statement.site == self.site:
                    self._require_mine(each.verify(accepted.members).said.position, each, None)
            self._follow_over_gaps(request, shown, accepted)
        except TaskRefused:
            raise
        except (Refused, UsageError) as refused:
            raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
        if not self._extends_the_last(shown, again=request.again):
            return WitnessAnswer(self._last_head.size, copied=self._copied)
        fresh = self._weighed(request, shown)
        try:
            require_launched(request, accepted, shown.head)
        except Refused as refused:
            raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
        peers = [self._shown_by(each, shown, accepted.members) for each in request.statements]
        news = self._met(peers, {view_digest(each): each for each in request.views})
        view = self._view(accepted.members, news)
        entry = self.journal.append(
            _WITNESSED,
            {
                "run": request.run,
                "launch": request.launch.seq,
                "plan": accepted.plan.digest,
                "federation": accepted.members.name,
                "note": request.note,
                "view": view_digest(view),
                "epoch": self._epoch_now(),
                "peers": _dumped(news),
                "at": self.clock().isoformat(),
            },
        )
        self._read_witnessed(entry)
        if self.copy is not None:
            self.copy.keep(fresh)
        _log.info("witnessed", run=request.run, entries=shown.head.size, copied=self._copied)
        return WitnessAnswer(shown.head.size, self.newest, view, copied=self._copied)

    def require(self, bundle: bytes, accepted: Accepted, run: RunId) -> None:
        """Check that enough sites have witnessed `run`, this one among them. Raises `TaskRefused`, and `JournalBroken`."""
        self.require_sound()
        key = (run, sha256_hex(bundle))
        if key not in self._good:
            try:
                self._require_witnessed(bundle, accepted, run)
            except TaskRefused:
                raise
            except Refused as refused:
                raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
            self._good[key] = None
            while len(self._good) > _KEPT_BUNDLES:
                self._good.popitem(last=False)

    def begin_anew(self, reason: str) -> None:
        """A person decides that what this site has seen of the log counts no more. Raises `JournalBroken`."""
        self._read_anew(self.journal.append(_ANEW, {"reason": reason, "at": self.clock().isoformat()}))

    # --- the copy

    @property
    def _copied(self) -> int:
        return 0 if self.copy is None else self.copy.size

    def _weighed(self, request: WitnessRequest, shown: Shown) -> Fresh | None:
        """What of the request goes into the copy; the statement does not depend on it. Raises `TaskRefused` for entries that are none of the log."""
        if self.copy is None:
            return None
        try:
            return self.copy.weigh(request.first, request.entries, shown)
        except Contradicted as refused:
            evidence = self._evidence("not extended", (shown.note.encoded,))
            raise TaskRefused(RefusalCode.SIGNATURE, str(refused), evidence=evidence) from refused

    # --- rules 1, 6 and 7

    @property
    def _last_head(self) -> Checkpoint:
        return (
            Checkpoint(origin="none", size=0, root=bytes(32))
            if self.last is None
            else Checkpoint.parse(self.last.text)
        )

    def _follow_over_gaps(self, request: WitnessRequest, shown: Shown, accepted: Accepted) -> None:
        """Learn which heads are lost, and go on from the one that was kept where the last is among them: in the journal before anything is signed.

        Raises Refused for gaps that are none.
        """
        if self.last is None:
            return
        for bridge in bridges_in(request.gaps, shown, self.pinned):
            if self._last_head in lost_of(bridge.sound.signed):
                bridge.require_leads(self._last_head, shown, self.pinned, accepted.trusted)
                _log.warning("follows the log over a gap", kept=bridge.kept.size)
                if self.copy is not None:
                    self.copy.leave_behind(bridge.kept.size, "lost, as a gap says")
                self._note_gap(bridge, self.last.encoded, shown.note.encoded)
            elif sha256_hex(bridge.body) not in self._gaps:
                self._note_gap(bridge, "", "")

    def _note_gap(self, bridge: Bridge, before: str, note: str) -> None:
        facts = {
            "gap": bridge.body.decode(),
            "before": before,
            "note": note,
            "at": self.clock().isoformat(),
        }
        self._read_gap(self.journal.append(_GAP, facts))

    def _extends_the_last(self, shown: Shown, *, again: bool) -> bool:
        """Whether the head extends the last one that this site has signed; False where it may, and nothing shows it."""
        last = self._last_head
        if self.last is None:
            return True
        if shown.head.size < last.size and not again:
            return False  # it may have been sent before the site signed for another run
        try:
            shown.require_extends(last)
        except ProofMissing:
            if not again:
                return False
            self._refuse_history(
                "not extended",
                shown,
                f"nothing shows that the log extends the {last.size} entries that this site has witnessed",
            )
        except ProofRefused as refused:
            split = shown.head.size == last.size and shown.head.root != last.root
            shows: Shows = "split" if split else "shorter" if shown.head.size < last.size else "not extended"
            self._refuse_history(
                shows, shown, f"the log does not extend what this site has witnessed: {refused}"
            )
        return True

    def _refuse_history(self, shows: Shows, shown: Shown, reason: str) -> NoReturn:
        notes = (self.last.encoded if self.last else "", shown.note.encoded)
        _log.error("history refused", shows=shows, reason=reason)
        if shows == "split":
            self._read_fork(
                self.journal.append(_FORK, {"notes": list(notes), "at": self.clock().isoformat()})
            )
        raise TaskRefused(RefusalCode.SIGNATURE, reason, evidence=self._evidence(shows, notes))

    def _evidence(self, shows: Shows, notes: tuple[str, ...]) -> bytes:
        own = self.newest
        return Evidence(
            shows=shows, site=self.site, notes=notes, statements=() if own is None else (own,)
        ).encoded

    # --- rule 4

    def _shown_by(self, statement: SignedWitness, shown: Shown, members: MemberList) -> Witnessed:
        """A statement that is signed, and over a head that this one extends."""
        try:
            witness = statement.verify(members)
            if witness.head not in self._lost:
                shown.require_extends(witness.head)
        except ProofMissing as refused:
            raise TaskRefused(RefusalCode.PROTOCOL, str(refused)) from refused
        except ProofRefused as refused:
            site = statement.statement.site
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                f"the log does not extend what {site} has witnessed: {refused}",
                evidence=Evidence(
                    shows="not extended", site=site, notes=(shown.note.encoded,), statements=(statement,)
                ).encoded,
            ) from refused
        except Refused as refused:
            raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
        return witness

    def _met(self, witnesses: Iterable[Witnessed], views: Mapping[Digest, View]) -> list[SignedWitness]:
        """Hold statements against what is known of their sites; those that are news. Raises `TaskRefused`."""
        news = []
        for each in witnesses:
            view = views.get(each.said.view, {})
            self._require_mine(view.get(self.site), each.signed, view)
            if each.said.site == self.site:
                self._require_mine(each.said.position, each.signed, None)
                continue
            known = self._known.get(each.said.site)
            if known is not None and known.statement.identity == each.said.identity:
                self._require_fits(known, each)
                if known.statement.position.sequence >= each.said.position.sequence:
                    continue
            news.append(each.signed)
        return news

    def _require_fits(self, known: SignedWitness, witness: Witnessed) -> None:
        wrong = difference_of(known.statement, witness.said, self._lost)
        if wrong is not None:
            site = witness.said.site
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                f"site {site} was set back to an older copy of its journal, or runs twice: {wrong}",
                evidence=Evidence(shows="set back", site=site, statements=(known, witness.signed)).encoded,
            )

    def _require_mine(self, claimed: Position | None, signed: SignedWitness, view: View | None) -> None:
        """This site's journal holds what somebody has signed that it did."""
        if claimed is None or not claimed.epoch.startswith(key_part(self.identity.public)):
            return  # of a key that this site had before
        if claimed.epoch == self._epoch and self.journal.holds((claimed.sequence, claimed.head)):
            return
        whose = "it" if signed.statement.site == self.site else f"site {signed.statement.site}"
        evidence = Evidence(
            shows="set back", site=self.site, statements=(signed,), view=None if view is None else dict(view)
        )
        raise TaskRefused(
            RefusalCode.SIGNATURE,
            f"this site's journal was set back to an older copy, or this site runs twice: {whose} has signed that the journal had an entry"
            f" {claimed.sequence} which it does not have, and it has {self.journal.head[0]} entries. Put the newest journal back; if it is lost, this"
            " site is enrolled anew under a new key",
            evidence=evidence.encoded,
        )

    def _view(self, members: MemberList, news: Iterable[SignedWitness]) -> dict[SiteName, Position]:
        """What is known of the positions of all sites that are members with the same key."""
        keys = {each.site: each.identity_key for each in members.members}
        known = self._known | {each.statement.site: each for each in news}
        return {
            site: each.statement.position
            for site, each in known.items()
            if keys.get(site) == each.statement.identity
        }

    # --- rule 5

    def _require_witnessed(self, data: bytes, accepted: Accepted, run: RunId) -> None:
        own = self._signed.get(run)
        if not own or not data:
            missing = (
                "this site has not witnessed" if not own else "the request does not say who has witnessed"
            )
            raise Refused(f"{missing} {run} in the transparency log, and takes part in no run before")
        bundle = WitnessBundle.from_canonical(data)
        members, plan = accepted.members, accepted.plan
        shown = Shown.of(bundle.note, bundle.grown, log_key_of(members))
        found = witnesses_of(bundle, shown, members)
        mine = found.get(self.site)
        if mine is None or mine.said not in own:
            raise Refused(f"what this site has signed of {run} is not among the statements of its witnesses")
        for site, each in found.items():
            if site not in plan.sites.invite:
                raise Refused(f"{site} is among the witnesses of {run}, and the plan does not invite it")
            if (each.said.run, each.said.launch, each.said.plan) != (run, mine.said.launch, plan.digest):
                raise Refused(f"{site} has witnessed another launch than that of {run} under this plan")
        counted = [each for each in found.values() if each.head.size <= mine.head.size]
        for who, needed in (
            ("the plan", plan.witnesses),
            ("`policy.witnesses_at_least` at this site", self.policy_asks or 1),
        ):
            if len(counted) < needed:
                raise Refused(
                    f"{len(counted)} sites have witnessed {run} in a log that this site has seen; {who} asks for {needed}"
                )
        news = self._met(found.values(), bundle.views)
        if news:
            self._read_peers(self.journal.append(_PEERS, {"peers": _dumped(news)}))

    # --- the journal

    def _epoch_now(self) -> str:
        """Which journal this is: drawn once, so that another one under the same key is told apart."""
        if self._epoch is None:
            epoch = key_part(self.identity.public) + self.entropy(_RANDOM_BYTES).hex()
            self._read_epoch(self.journal.append(_EPOCH, {"epoch": epoch}))
        return self._epoch or ""

    def _read_epoch(self, entry: Entry) -> None:
        self._epoch = entry.body["epoch"]

    def _read_peers(self, entry: Entry) -> None:
        for each in entry.body["peers"]:
            signed = SignedWitness.model_validate(each)
            self._known[signed.statement.site] = signed

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
        self._known[self.site] = SignedWitness.sign(said, self.identity)
        self._signed.setdefault(RunId(body["run"]), []).append(said)

    def _read_fork(self, entry: Entry) -> None:
        signed, other = entry.body["notes"]
        self.forks.append(Fork((signed, other), entry.body["at"]))

    def _read_gap(self, entry: Entry) -> None:
        body = entry.body
        gap = signed_gap(body["gap"].encode())
        self._gaps.add(sha256_hex(body["gap"].encode()))
        if gap is not None:
            self._lost.update(lost_of(gap))
        if gap is not None and body["before"]:
            self.bridged.append(Bridged(body["before"], gap.gap.kept.size, gap.gap.reason, body["at"]))
            self.last = SignedNote.parse(body["note"])

    def _read_anew(self, _: Entry) -> None:
        self.last = None
        self.forks.clear()
        self._signed.clear()
        self._good.clear()


def _dumped(statements: Iterable[SignedWitness]) -> list[dict[str, Any]]:
    return [each.model_dump(mode="json") for each in statements]
