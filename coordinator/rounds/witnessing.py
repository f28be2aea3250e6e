"""The sites of a run become its witnesses, before anything is asked of them that is computed from rows.

1. Each driver asks anew: what sites sign says where their journals stand now. A site that comes later is asked then.
2. As many as the plan asks for sign one head of the log. Only then is the run witnessed, and the entry that says so is in the log before any sum
   is settled; who signs later is in a further entry before it is on a roster that settles.
3. Every request with documents carries the statements (`task`): sites count for themselves.
4. Requests carry entries of the log for the sites' copies. Who has not copied all when it has signed is sent more at once, within bounds, and
   nothing depends on it; so does nothing on the gaps of the log, which every request has.
5. A site whose statement is behind one that it has signed before was set back, or runs twice, and is not asked again.
6. What a site says of other journals is passed on if they have signed it: a made-up place would keep its site from every run. Whoever says such a
   thing is not counted, and heard again at the next attempt, since a database that was set back knows less than sites.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from typing import Final

import structlog

from coordinator.governance.gaps import gap_leaves, lost_heads
from coordinator.governance.log import TransparencyLog
from coordinator.governance.witnesses import SET_BACK, Seen, WitnessBook, keep
from coordinator.rounds.asking import Asked, Asking, NotYet, note_missing
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.roster import because
from coordinator.rounds.store import RoundStore
from protos.frames import Body, LogLeaf, Stage, Task, WitnessAnswer, WitnessRequest
from protos.log_entries import LogEntry, PlanRecorded, RunLaunched, RunWitnessed
from protos.membership import MemberList
from protos.secure_codec import encode_witness_request
from protos.witness import (
    MOST_COPIED,
    MOST_COPIED_BYTES,
    Evidence,
    Grown,
    Shown,
    WitnessBundle,
    Witnessed,
    difference_of,
    view_digest,
)
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, Refused
from strategies.ids import SiteName

_LONGEST_S: Final = 60.0
"""Nothing is computed for a statement, so nobody is waited for as long as for a round."""
_AT_THE_END_S: Final = 3.0
_COPYING_S: Final = 10.0
_MOST_PIECES: Final = 16
"""Of the log that a site is sent at a start, beyond the first."""
_IN_ONE_ENTRY: Final = 400
"""Statements of at most 2 KiB each, so that an entry is within its bound."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Launch:
    """Where a run stands in the log."""

    launch: int
    launch_body: bytes
    plan: int
    plan_body: bytes


@dataclass
class Witnessing:
    """Who has witnessed one run, in the life of one driver."""

    documents: RunDocuments
    members: MemberList
    log: TransparencyLog
    book: WitnessBook
    store: RoundStore
    asking: Asking
    _seen: dict[SiteName, Seen] = field(default_factory=dict)
    """Those that count, by site."""
    _note: str = ""
    """The newest head that one of them is over."""
    _bundle: bytes = b""
    _copied: dict[SiteName, int] = field(default_factory=dict)
    """How much of the log each site has said that it has copied."""

    @property
    def task(self) -> Task:
        """The run's documents, with the statements of its witnesses."""
        return replace(self.documents.task, witness=self._bundle)

    def ensure(self, roster: tuple[SiteName, ...]) -> tuple[SiteName, ...]:
        """Those of `roster` that have witnessed the run; asks whoever has not. Raises `NotYet`, and CovenantError for a forked log."""
        needed = self.documents.plan.witnesses
        asked = [site for site in roster if site not in self._seen]
        missing: dict[SiteName, str] = {}
        if asked:
            deadline = min(self.asking.deadline_s, _LONGEST_S)
            signed, missing = self._ask(asked, deadline)
            if not self._seen and len(signed) < needed:
                raise NotYet(
                    f"{len(signed)} of at least {needed} sites have witnessed {self.documents.run} in the log: {because(missing)}"
                )
            self._count(signed)
            self._have_copied(signed)
        ready = tuple(site for site in roster if site in self._seen)
        if len(ready) < self.documents.plan.sites.minimum:
            raise NotYet(
                f"{len(ready)} of at least {self.documents.plan.sites.minimum} sites have witnessed the run: {because(missing)}"
            )
        return ready

    def conclude(self) -> None:
        """Ask the sites once more when the run is done, so that they have seen what came of it. Nothing waits for it, and nothing fails by it."""
        online = set(self.asking.exchange.online())
        asked = [site for site in self._seen if site in online]
        if asked:
            signed, _ = self._ask(asked, _AT_THE_END_S)
            self._record(signed)

    @cached_property
    def _launch(self) -> _Launch:
        """The run's own entries. Raises CovenantError where the log does not have them."""
        run, plan = self.documents.run, self.documents.plan.digest
        for position in self.log.newest_first("launch"):
            launch = LogEntry.from_canonical(position.body).what
            if isinstance(launch, RunLaunched) and launch.run == run:
                break
        else:
            raise CovenantError(f"the log has no launch of {run}; no site would take part in it")
        wanted = (plan, launch.contract, launch.evidence)
        for recorded in self.log.newest_first("plan", before=position.seq):
            what = LogEntry.from_canonical(recorded.body).what
            if isinstance(what, PlanRecorded):
                evidence = None if what.evidence is None else what.evidence.digest
                if (what.plan.digest, what.contract.digest, evidence) == wanted:
                    return _Launch(position.seq, position.body, recorded.seq, recorded.body)
        raise CovenantError(f"the log does not have the plan of {run} before its launch")

    def _ask(
        self, sites: Collection[SiteName], deadline_s: float
    ) -> tuple[dict[SiteName, Seen], dict[SiteName, str]]:
        """One exchange, and another for those who need a proof from a head that is not the last that is known of them."""
        known = self.book.newest(self.members)
        asking = replace(self.asking, deadline_s=deadline_s)
        behind: dict[SiteName, int] = {}
        signed, missing = self._exchange(asking, sites, known, (), behind)
        if behind:
            more, still = self._exchange(asking, tuple(behind), known, behind.values(), {})
            signed, missing = signed | more, missing | still
            if more and len({each.signed.statement.checkpoint for each in signed.values()}) > 1:
                # All that are counted first are over one head.
                rest = [site for site in signed if site not in more]
                again, _ = self._exchange(asking, rest, self.book.newest(self.members), (), {})
                signed |= again
        note_missing(Stage.PREPARE, 0, missing)
        return signed, missing

    def _exchange(
        self,
        asking: Asking,
        sites: Collection[SiteName],
        known: Mapping[SiteName, Seen],
        sizes: Collection[int],
        behind: dict[SiteName, int],
    ) -> tuple[dict[SiteName, Seen], dict[SiteName, str]]:
        request = self._request(known, sizes)
        frames = self._frames(request, sites, known)
        echoes = {site: sha256_hex(frame) for site, frame in frames.items()}
        signed: dict[SiteName, Seen] = {}
        unfit: dict[SiteName, str] = {}
        heard: list[Seen] = []
        unsigned = cache(lambda view: self.book.unsigned(dict(view), self.members))

        def take(site: SiteName, body: Body) -> None:
            if not isinstance(body, WitnessAnswer):
                unfit[site] = f"sent {type(body).__name__}"
                return
            self._copied[site] = body.copied
            if body.statement is None:
                behind[site] = body.size
                unfit[site] = f"has witnessed {body.size} entries, from which it was sent no proof"
            else:
                try:
                    seen = self._judged(site, body, request, known.get(site))
                except Refused as refused:
                    unfit[site] = str(refused)
                    return
                strangers = sorted(unsigned(tuple(sorted(seen.view.items()))) - {site})
                if strangers:
                    unfit[site] = f"says of the journal of {strangers[0]} what {strangers[0]} has not signed"
                    heard.append(Seen(seen.signed, {}))
                else:
                    signed[site] = seen

        asked = Asked(frames, echoes.__getitem__)
        missing = asking.ask(Stage.PREPARE, 0, asked, take) | unfit
        self._keep((*signed.values(), *heard))
        if signed:
            self._note = request.note
        return signed, missing

    def _request(self, known: Mapping[SiteName, Seen], sizes: Collection[int]) -> WitnessRequest:
        note, run = self.log.checkpoint(), self._launch
        head = Shown.of(note.encoded, (), self.log.key).head
        invited = [known[site] for site in self.documents.plan.sites.invite if site in known]
        told = [each for each in invited if each.signed.statement.head.size <= head.size]
        gaps = gap_leaves(self.log, head.size)
        starts = {each.signed.statement.head.size for each in told} | {size for size in sizes if size}
        starts |= {each.seq for each in gaps}
        return WitnessRequest(
            run=self.documents.run,
            note=note.encoded,
            task=self.documents.task,
            launch=LogLeaf(run.launch, run.launch_body, self.log.inclusion(run.launch, head.size)),
            plan=LogLeaf(run.plan, run.plan_body, self.log.inclusion(run.plan, head.size)),
            grown=self._grown(starts, head.size),
            statements=tuple(each.signed for each in told),
            views=tuple({view_digest(each.view): each.view for each in told if each.view}.values()),
            again=bool(sizes),
            gaps=gaps,
        )

    def _frames(
        self, request: WitnessRequest, sites: Collection[SiteName], known: Mapping[SiteName, Seen]
    ) -> dict[SiteName, bytes]:
        """The request to each site, with what its copy of the log lacks as far as that is known: up to the head that it has signed last, if nothing is."""
        made: dict[int, bytes] = {}
        starts = {
            site: self._copied.get(site, known[site].signed.statement.head.size if site in known else 0)
            for site in sites
        }
        for first in set(starts.values()):
            made[first] = encode_witness_request(self._with_entries(request, first))
        return {site: made[first] for site, first in starts.items()}

    def _with_entries(self, request: WitnessRequest, first: int) -> WitnessRequest:
        size = Shown.of(request.note, (), self.log.key).head.size
        entries, left = [], MOST_COPIED_BYTES
        for each in self.log.entries(first, min(size, first + MOST_COPIED)):
            left -= len(each.body)
            if left < 0:
                break
            entries.append(each.body)
        if not entries:
            return request
        there = {each.size for each in request.grown}
        grown = self._grown({first, first + len(entries)} - there, size)
        return replace(request, first=first, entries=tuple(entries), grown=(*request.grown, *grown))

    def _have_copied(self, sites: Collection[SiteName]) -> None:
        """Send more of the log to those of `sites` whose copies do not reach the head that they have just signed, as long as they grow."""
        if not sites:
            return
        size = Shown.of(self._note, (), self.log.key).head.size
        asking = replace(self.asking, deadline_s=min(self.asking.deadline_s, _COPYING_S))
        lacking = [site for site in sites if self._copied.get(site, size) < size]
        for _ in range(_MOST_PIECES):
            if not lacking:
                return
            before = dict(self._copied)
            self._exchange(asking, lacking, self.book.newest(self.members), (), {})
            lacking = [site for site in lacking if before[site] < self._copied[site] < size]

    def _grown(self, sizes: Iterable[int], size: int) -> tuple[Grown, ...]:
        """Proofs that the log of `size` entries extends each of the smaller ones."""
        return tuple(
            Grown.of(each, self.log.consistency(each, size)) for each in sorted(set(sizes)) if 0 < each < size
        )

    def _judged(
        self, site: SiteName, answer: WitnessAnswer, request: WitnessRequest, known: Seen | None
    ) -> Seen:
        """A statement that is the answer to this request, from a journal that has gone on since the last. Raises Refused."""
        if answer.statement is None:
            raise Refused("sent no statement")
        witness = answer.statement.verify(self.members)
        said, shown = witness.said, Shown.of(request.note, (), self.log.key)
        named = (said.site, said.run, said.launch, said.plan, said.view)
        if witness.head != shown.head or named != (
            site,
            request.run,
            request.launch.seq,
            self.documents.plan.digest,
            view_digest(answer.view),
        ):
            raise Refused("signed something else than it was asked for")
        if known is not None:
            self._require_ahead(known, witness)
        return Seen(answer.statement, answer.view)

    def _require_ahead(self, known: Seen, witness: Witnessed) -> None:
        before, site = known.signed.statement, witness.said.site
        wrong = difference_of(before, witness.said, lost=lost_heads(self.log))
        if wrong is None and witness.said.position.sequence <= before.position.sequence:
            wrong = f"it answers from entry {witness.said.position.sequence} of its journal, and has signed entry {before.position.sequence} before"
        if wrong is not None:
            reason = f"was set back to an older copy of its journal, or runs twice: {wrong}"
            self.asking.roster.refused[site] = reason
            self.book.add(
                self.documents.run,
                Evidence(shows=SET_BACK, site=site, statements=(known.signed, witness.signed)),
            )
            _log.error("site set back", site=site, reason=wrong)
            raise Refused(reason)

    def _keep(self, seen: Iterable[Seen]) -> None:
        """On disk before anybody is shown them, so that nobody is shown an older one later."""
        kept = list(seen)
        if kept:
            self.store.tell("keeping what sites have witnessed of", (), lambda s, at: keep(s, at, kept))

    def _count(self, signed: Mapping[SiteName, Seen]) -> None:
        """Record who has witnessed the run, and let every request from now on say so."""
        self._record(signed)
        self._seen |= signed
        if signed:
            self._bundle = self._bundled().canonical

    def _record(self, signed: Mapping[SiteName, Seen]) -> None:
        statements = tuple(signed[site].signed for site in sorted(signed))
        entries = [
            RunWitnessed(run=self.documents.run, statements=statements[first : first + _IN_ONE_ENTRY])
            for first in range(0, len(statements), _IN_ONE_ENTRY)
        ]
        if entries:
            self.store.tell("recording the witnesses of", entries)

    def _bundled(self) -> WitnessBundle:
        size = Shown.of(self._note, (), self.log.key).head.size
        sizes = {each.signed.statement.head.size for each in self._seen.values()}
        return WitnessBundle(
            note=self._note,
            statements=tuple(self._seen[site].signed for site in sorted(self._seen)),
            views={view_digest(each.view): dict(each.view) for each in self._seen.values()},
            grown=self._grown(sizes, size),
        )
