"""This site as a witness of the transparency log: what it has signed about it, and what it asks of others before it takes part in a run.

1. A head is signed by the log's key on the newest member list that this site trusts, and extends the last head that this site has signed.
2. The launch of the run is in that log, and names this run, this plan with its contract and approvals, and this member list; and so is the entry
   that has the plan. No launch without that, whatever the coordinator says; and no second one of the same run.
3. What is signed is in the journal first, and says where the journal then stood (`Position`).
4. What others have signed is of the same log, and no site is behind its own signature: not a peer, and not this site, whose journal must hold
   every position that it or its peers have ever signed for it.
5. A run is taken part in, under the very documents that were witnessed, after as many of its sites have witnessed it as the plan and this site's
   policy ask for, this one among them: each over a head that this site's own extends, and each with what it knows of this site's journal. Whoever
   is in a sum with this site is among them.
6. A log that does not extend what this site has signed is followed only over a gap that the officers have signed, which names that very head as
   lost (`gap_check`). The old head stays in the journal.
7. Two heads of one size are a split. It is kept with both signed notes, and this site signs nothing and takes part in nothing until a person
   here has dealt with it.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal, NoReturn

import structlog

from client.admission.documents import Accepted
from client.refusal import TaskRefused
from client.transparency.gap_check import bridges_in, lost_of
from client.transparency.launch_check import require_launched
from client.transparency.log_copy import Contradicted, Fresh, LogCopy
from client.transparency.memory import WitnessMemory
from protos.frames import RefusalCode, WitnessAnswer, WitnessRequest
from protos.log_proofs import ProofMissing, Shown, log_key_of
from protos.membership import MemberList
from protos.root import SignedRoot
from protos.witness import (
    Evidence,
    Position,
    SignedWitness,
    View,
    WitnessBundle,
    Witnessed,
    difference_of,
    key_part,
    view_digest,
    witnesses_of,
)
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName
from strategies.transparency.merkle import ProofRefused

_KEPT_BUNDLES: Final = 8
_KEPT_RUNS: Final = 64
Shows = Literal["split", "shorter", "not extended"]
_log = structlog.get_logger(__name__)


@dataclass
class Witness:
    """What this site signs and believes, by what it remembers. `policy_asks` is its own rule of how many witnesses a run needs, `copy` its copy
    of the log."""

    memory: WitnessMemory
    pinned: SignedRoot
    policy_asks: int | None = None
    copy: LogCopy | None = None
    _good: OrderedDict[tuple[RunId, Digest, Digest], frozenset[SiteName]] = field(
        default_factory=OrderedDict, init=False
    )
    """By run, documents and statements, which were all checked: who has signed."""
    _shown: dict[RunId, frozenset[SiteName]] = field(default_factory=dict, init=False)
    """By run: whom the statements are of that this site was shown last."""

    @property
    def site(self) -> SiteName:
        """This site's name."""
        return self.memory.site

    @property
    def newest(self) -> SignedWitness | None:
        """The last statement of this site."""
        return self.memory.known.get(self.site)

    def require_sound(self) -> None:
        """Check that no split of the log is known here. Raises `TaskRefused`."""
        if self.memory.forks:
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                "this site has two different heads of one size of the log, both signed by the log's key, and takes part in nothing until its people"
                " have dealt with it: `covenant-agent witness` shows both",
                evidence=self._evidence("split", self.memory.forks[0].notes),
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
            return WitnessAnswer(self.memory.last_head.size, copied=self._copied)
        fresh = self._weighed(request, shown)
        try:
            require_launched(request, accepted, shown.head)
            self._require_one_launch(request, accepted)
        except Refused as refused:
            raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
        peers = [self._shown_by(each, shown, accepted.members) for each in request.statements]
        news = self._met(peers, {view_digest(each): each for each in request.views})
        view = self.memory.view(accepted.members, news)
        signed = self.memory.record(request, accepted, view, news)
        if self.copy is not None:
            self.copy.keep(fresh)
        _log.info("witnessed", run=request.run, entries=shown.head.size, copied=self._copied)
        return WitnessAnswer(shown.head.size, signed, view, copied=self._copied)

    def require(self, bundle: bytes, accepted: Accepted, run: RunId) -> None:
        """Check that enough sites have witnessed `run`, this one among them. Raises `TaskRefused`, and `JournalBroken`."""
        self.require_sound()
        key = (run, accepted.documents, sha256_hex(bundle))
        if key not in self._good:
            try:
                self._good[key] = self._require_witnessed(bundle, accepted, run)
            except TaskRefused:
                raise
            except Refused as refused:
                raise TaskRefused(RefusalCode.SIGNATURE, str(refused)) from refused
            while len(self._good) > _KEPT_BUNDLES:
                self._good.popitem(last=False)
        self._shown.pop(run, None)
        self._shown[run] = self._good[key]
        while len(self._shown) > _KEPT_RUNS:
            self._shown.pop(next(iter(self._shown)))

    def require_all(self, roster: Collection[SiteName], run: RunId) -> None:
        """Check that all who are to be in a sum have witnessed `run` in one log with this site. Raises `TaskRefused`."""
        unaware = sorted(set(roster) - self._shown.get(run, frozenset()))
        if unaware:
            raise TaskRefused(
                RefusalCode.PROTOCOL,
                f"{unaware[0]} is on the roster, and not among the witnesses of {run} that this site was shown: it may have been shown another log",
            )

    def begin_anew(self, reason: str) -> None:
        """A person decides that what this site has seen of the log counts no more. Raises `JournalBroken`."""
        self.memory.begin_anew(reason)
        self._good.clear()
        self._shown.clear()

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

    def _follow_over_gaps(self, request: WitnessRequest, shown: Shown, accepted: Accepted) -> None:
        """Learn which heads are lost, and go on from the one that was kept where the last is among them: in the journal before anything is signed.

        Raises Refused for gaps that are none.
        """
        last = self.memory.last
        if last is None:
            return
        for bridge in bridges_in(request.gaps, shown, self.pinned):
            if self.memory.last_head in lost_of(bridge.sound.signed):
                bridge.require_leads(self.memory.last_head, shown, self.pinned, accepted.trusted)
                _log.warning("follows the log over a gap", kept=bridge.kept.size)
                if self.copy is not None:
                    self.copy.leave_behind(bridge.kept.size, "lost, as a gap says")
                self.memory.note_gap(bridge.body, before=last.encoded, note=shown.note.encoded)
            elif sha256_hex(bridge.body) not in self.memory.gaps:
                self.memory.note_gap(bridge.body)

    def _extends_the_last(self, shown: Shown, *, again: bool) -> bool:
        """Whether the head extends the last one that this site has signed; False where it may, and nothing shows it."""
        last = self.memory.last_head
        if self.memory.last is None:
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
        notes = (self.memory.last.encoded if self.memory.last else "", shown.note.encoded)
        _log.error("history refused", shows=shows, reason=reason)
        if shows == "split":
            self.memory.keep_fork(notes)
        raise TaskRefused(RefusalCode.SIGNATURE, reason, evidence=self._evidence(shows, notes))

    def _evidence(self, shows: Shows, notes: tuple[str, ...]) -> bytes:
        own = self.newest
        return Evidence(
            shows=shows, site=self.site, notes=notes, statements=() if own is None else (own,)
        ).encoded

    # --- rule 2

    def _require_one_launch(self, request: WitnessRequest, accepted: Accepted) -> None:
        """What this site has signed of the run before is of this launch, and of these documents. Raises Refused."""
        for own in self.memory.signed.get(request.run, ()):
            if own.said.launch != request.launch.seq or own.documents not in {"", accepted.documents}:
                raise Refused(
                    f"this site has witnessed the launch of {request.run} as entry {own.said.launch} of the log already; a run is launched once, and"
                    " under one plan, contract, member list and list of approvals"
                )

    # --- rule 4

    def _shown_by(self, statement: SignedWitness, shown: Shown, members: MemberList) -> Witnessed:
        """A statement that is signed, and over a head that this one extends."""
        try:
            witness = statement.verify(members)
            if witness.head not in self.memory.lost:
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
            known = self.memory.known.get(each.said.site)
            if known is not None and known.statement.identity == each.said.identity:
                self._require_fits(known, each)
                if known.statement.position.sequence >= each.said.position.sequence:
                    continue
            news.append(each.signed)
        return news

    def _require_fits(self, known: SignedWitness, witness: Witnessed) -> None:
        site = witness.said.site
        wrong = difference_of(
            known.statement, witness.said, lost=self.memory.lost, one_log=site not in self.memory.past
        )
        if wrong is not None:
            raise TaskRefused(
                RefusalCode.SIGNATURE,
                f"site {site} was set back to an older copy of its journal, or runs twice: {wrong}",
                evidence=Evidence(shows="set back", site=site, statements=(known, witness.signed)).encoded,
            )

    def _require_mine(self, claimed: Position | None, signed: SignedWitness, view: View | None) -> None:
        """This site's journal holds what somebody has signed that it did."""
        if claimed is None or not claimed.epoch.startswith(key_part(self.memory.identity.public)):
            return  # of a key that this site had before
        journal = self.memory.journal
        if claimed.epoch == self.memory.epoch and journal.holds((claimed.sequence, claimed.head)):
            return
        whose = "it" if signed.statement.site == self.site else f"site {signed.statement.site}"
        evidence = Evidence(
            shows="set back", site=self.site, statements=(signed,), view=None if view is None else dict(view)
        )
        raise TaskRefused(
            RefusalCode.SIGNATURE,
            f"this site's journal was set back to an older copy, or this site runs twice: {whose} has signed that the journal had an entry"
            f" {claimed.sequence} which it does not have, and it has {journal.head[0]} entries. Put the newest journal back; if it is lost, this"
            " site is enrolled anew under a new key",
            evidence=evidence.encoded,
        )

    # --- rule 5

    def _require_witnessed(self, data: bytes, accepted: Accepted, run: RunId) -> frozenset[SiteName]:
        own = [each.said for each in self.memory.signed.get(run, ()) if each.documents == accepted.documents]
        if not own:
            raise Refused(
                f"this site has not witnessed {run} in the transparency log with these documents, and takes part in no run before"
            )
        if not data:
            raise Refused(f"the request does not say who has witnessed {run} in the transparency log")
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
            if each.said.view not in bundle.views:
                # Else a site that was set back would not hear of it from whoever knows.
                raise Refused(f"the request does not have the view that the statement of {site} names")
        self._require_enough(found, accepted, run)
        news = self._met(found.values(), bundle.views)
        if news:
            self.memory.meet(news)
        return frozenset(found)

    def _require_enough(self, found: Mapping[SiteName, Witnessed], accepted: Accepted, run: RunId) -> None:
        """As many as are asked for, over heads that this site has seen. Raises Refused."""
        seen = found[self.site].head.size
        counted = [each for each in found.values() if each.head.size <= seen]
        for who, needed in (
            ("the plan", accepted.plan.witnesses),
            ("`policy.witnesses_at_least` at this site", self.policy_asks or 1),
        ):
            if len(counted) < needed:
                raise Refused(
                    f"{len(counted)} sites have witnessed {run} in a log that this site has seen; {who} asks for {needed}"
                )
