"""The sites of a run become its witnesses, before anything is asked of them that is computed from rows.

1. Each driver asks anew: what sites sign says where their journals stand now. A site that comes later is asked then.
2. As many as the plan asks for sign one head of the log. Only then is the run witnessed, and the entry that says so is in the log before any sum
   is settled; who signs later is in a further entry before it is on a roster that settles.
3. Every request with documents carries the statements (`task`): sites count for themselves.
4. Who has not copied all of the log (`log_shown`) when it has signed is sent more at once, within bounds, and nothing depends on it.
5. A site whose statement is behind one that it has signed before was set back, or runs twice, and is not asked again.
6. What a site says of other journals is passed on if they have signed it: a made-up place would keep its site from every run. Whoever says such a
   thing is not counted, and heard again at the next attempt, since a database that was set back knows less than sites.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Final

import structlog

from coordinator.governance.gaps import lost_heads
from coordinator.governance.log import TransparencyLog
from coordinator.governance.witnesses import SET_BACK, Seen, WitnessBook, keep
from coordinator.rounds.asking import Asked, Asking, NotYet, note_missing
from coordinator.rounds.log_shown import LogShown
from coordinator.rounds.progress import WITNESS
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.roster import because
from coordinator.rounds.store import RoundStore
from coordinator.rounds.vouching import Starts
from protos.frames import Body, Stage, Task, WitnessAnswer, WitnessRequest
from protos.log_run_events import RunWitnessed
from protos.membership import MemberList
from protos.secure_codec import encode_witness_request
from protos.witness import Evidence, Witnessed, difference_of, view_digest
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import SiteName

_LONGEST_S: Final = 60.0
"""Nothing is computed for a statement, so nobody is waited for as long as for a round."""
_A_SITE_S: Final = 0.5
_AT_THE_END_S: Final = 3.0
_COPYING_S: Final = 10.0
_MOST_PIECES: Final = 16
"""Of the log that a site is sent at a start, beyond the first."""
_IN_ONE_ENTRY: Final = 400
"""Statements of at most 2 KiB each, so that an entry is within its bound."""
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Answers:
    """What came of one exchange, by site."""

    signed: dict[SiteName, Seen] = field(default_factory=dict)
    missing: dict[SiteName, str] = field(default_factory=dict)
    """Why a site has signed nothing that counts."""
    behind: dict[SiteName, int] = field(default_factory=dict)
    """Who has witnessed so many entries, and was sent no proof from there."""
    heard: list[Seen] = field(default_factory=list)
    """Statements that are kept, and do not count."""


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
    _shown: LogShown = field(init=False)

    _starts: Starts = field(init=False)

    def __post_init__(self) -> None:
        self._shown = LogShown(self.documents, self.log)
        self._starts = Starts(self.members, self.asking)

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
            deadline = min(self.asking.deadline_s, _LONGEST_S + _A_SITE_S * len(asked))
            signed, missing = self._ask(asked, deadline)
            if not self._seen and len(signed) < needed:
                raise NotYet(
                    f"{len(signed)} of at least {needed} sites have witnessed {self.documents.run} in the log: {because(missing)}"
                )
            self._count(signed)
            self._have_copied(signed)
        self._starts.have_vouched(roster, self._bare())
        waiting = self._starts.waiting
        missing |= {
            site: "was started, and too few have vouched for it" for site in waiting if site in roster
        }
        ready = tuple(site for site in roster if site in self._seen and site not in waiting)
        if len(ready) < self.documents.plan.sites.minimum:
            raise NotYet(
                f"{len(ready)} of at least {self.documents.plan.sites.minimum} sites have witnessed the run: {because(missing)}"
            )
        return ready

    def note_start(self, site: SiteName, start: bytes) -> None:
        """A site refuses because it was started, and is to be vouched for first."""
        self._starts.note_bytes(site, start)

    def _bare(self) -> WitnessRequest:
        """A request of this run that asks for nothing yet."""
        return replace(self._shown.request({}, ()), gaps=())

    def conclude(self) -> None:
        """Ask the sites once more when the run is done, so that they have seen what came of it. Nothing waits for it, and nothing fails by it."""
        online = set(self.asking.exchange.online())
        asked = [site for site in self._seen if site in online]
        if asked:
            signed, _ = self._ask(asked, _AT_THE_END_S)
            self._record(signed)

    def _ask(
        self, sites: Collection[SiteName], deadline_s: float
    ) -> tuple[dict[SiteName, Seen], dict[SiteName, str]]:
        """One exchange, and another for those who need a proof from a head that is not the last that is known of them."""
        known = self.book.newest(self.members)
        asking = replace(self.asking, deadline_s=deadline_s)
        answers = self._exchange(asking, sites, known)
        signed, missing = answers.signed, answers.missing
        if answers.behind:
            more = self._exchange(asking, tuple(answers.behind), known, answers.behind.values())
            signed, missing = signed | more.signed, missing | more.missing
            if more.signed and len({each.signed.statement.checkpoint for each in signed.values()}) > 1:
                # All that are counted first are over one head.
                rest = [site for site in signed if site not in more.signed]
                signed |= self._exchange(asking, rest, self.book.newest(self.members)).signed
        missing = {site: why for site, why in missing.items() if site not in signed}
        note_missing(Stage.PREPARE, 0, missing)
        return signed, missing

    def _exchange(
        self,
        asking: Asking,
        sites: Collection[SiteName],
        known: Mapping[SiteName, Seen],
        sizes: Collection[int] = (),
    ) -> _Answers:
        """Ask `sites` to sign the newest head, with proofs from what is `known` of them and from heads of `sizes`."""
        request = self._shown.request(known, sizes)
        frames = self._frames(request, sites, known)
        echoes = {site: sha256_hex(frame) for site, frame in frames.items()}
        answers = _Answers()
        unsigned = cache(lambda view: self.book.unsigned(dict(view), self.members))

        def take(site: SiteName, body: Body) -> None:
            if isinstance(body, WitnessAnswer):
                self._copied[site] = body.copied
                self._starts.note(site, body.start)
                asking.progress.version(site, body.version)
                if body.statement is None:
                    answers.behind[site] = body.size
            try:
                seen = self._judged(site, body, request, known.get(site))
            except Refused as refused:
                answers.missing[site] = str(refused)
                return
            strangers = sorted(unsigned(tuple(sorted(seen.view.items()))) - {site})
            if strangers:
                answers.missing[site] = (
                    f"says of the journal of {strangers[0]} what {strangers[0]} has not signed"
                )
                answers.heard.append(Seen(seen.signed, {}))
            else:
                answers.signed[site] = seen

        answers.missing.update(asking.ask(Stage.PREPARE, 0, Asked(frames, echoes.__getitem__, WITNESS), take))
        self._keep((*answers.signed.values(), *answers.heard))
        if answers.signed:
            self._note = request.note
        return answers

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
            made[first] = encode_witness_request(self._shown.with_entries(request, first))
        return {site: made[first] for site, first in starts.items()}

    def _have_copied(self, sites: Collection[SiteName]) -> None:
        """Send more of the log to those of `sites` whose copies do not reach the head that they have just signed, as long as they grow."""
        if not sites:
            return
        size = self._shown.head_of(self._note).size
        asking = replace(self.asking, deadline_s=min(self.asking.deadline_s, _COPYING_S))
        lacking = [site for site in sites if self._copied.get(site, size) < size]
        for _ in range(_MOST_PIECES):
            if not lacking:
                return
            before = dict(self._copied)
            self._exchange(asking, lacking, self.book.newest(self.members))
            lacking = [site for site in lacking if before[site] < self._copied[site] < size]

    def _judged(self, site: SiteName, answer: Body, request: WitnessRequest, known: Seen | None) -> Seen:
        """A statement that is the answer to this request, from a journal that has gone on since the last. Raises Refused."""
        if not isinstance(answer, WitnessAnswer):
            raise Refused(f"sent {type(answer).__name__}")
        if answer.statement is None:
            raise Refused(f"has witnessed {answer.size} entries, from which it was sent no proof")
        witness = answer.statement.verify(self.members)
        said = witness.said
        named = (said.site, said.run, said.launch, said.plan, said.view)
        if witness.head != self._shown.head_of(request.note) or named != (
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
            self._bundle = self._shown.bundle(self._note, self._seen).canonical

    def _record(self, signed: Mapping[SiteName, Seen]) -> None:
        statements = tuple(signed[site].signed for site in sorted(signed))
        entries = [
            RunWitnessed(run=self.documents.run, statements=statements[first : first + _IN_ONE_ENTRY])
            for first in range(0, len(statements), _IN_ONE_ENTRY)
        ]
        if entries:
            self.store.tell("recording the witnesses of", entries)
