"""What the coordinator makes of a refusal that a site has signed: an entry of the log, and of its evidence, a fork of the log if it shows one.

1. A lasting refusal is a site's decision, and goes into the log as the site signed it.
2. Evidence counts by what it shows, whoever sent it: a head that the log's own key has signed, or a site in answer to this coordinator, and that
   this log does not have. What a site signs otherwise says nothing of the log: it could make up any head.
3. A fork ends the run, and nothing is launched until a person has dealt with it: whatever would be done next could be in one history only.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import structlog

from coordinator.governance.gaps import lost_heads
from coordinator.governance.log import TransparencyLog
from coordinator.governance.witnesses import SET_BACK, WitnessBook
from coordinator.rounds.store import RoundStore
from protos.frames import Refusal, RefusalCode
from protos.log_run_events import CODE_NAMES, SiteRefused
from protos.membership import MemberList
from protos.witness import Evidence
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, RunId, SiteName
from strategies.transparency.notes import Checkpoint, SignedNote

_LASTING: Final = frozenset(
    {RefusalCode.POLICY, RefusalCode.SIGNATURE, RefusalCode.CONTRACT, RefusalCode.BUDGET}
)
"""Refusals of the plan; the others are of one attempt, and the next may be answered."""
_log = structlog.get_logger(__name__)


class ForkFound(CovenantError):  # noqa: N818 (names what happened)
    """A site has shown a head of the log that this log does not have."""


@dataclass
class Refusals:
    """The refusals of one run."""

    run: RunId
    members: MemberList
    log: TransparencyLog
    book: WitnessBook
    store: RoundStore
    _told: set[tuple[SiteName, RefusalCode, str]] = field(default_factory=set)

    def take(self, site: SiteName, echo: Digest, refusal: Refusal) -> bool:
        """Record a refusal whose signature was checked; whether the site is not asked again. Raises `ForkFound`."""
        if refusal.code not in _LASTING:
            return False
        try:
            evidence = Evidence.from_canonical(refusal.evidence) if refusal.evidence else None
        except Refused as refused:
            _log.warning("evidence that is none", site=site, reason=str(refused))
            evidence = None
        fork = None if evidence is None else self._fork(site, evidence)
        self._tell(site, echo, refusal)
        if evidence is not None and (fork or evidence.shows == SET_BACK):
            self.book.add(self.run, evidence)
        if fork:
            raise ForkFound(fork)
        # A head that this log has is no reason: what the site was shown was overtaken on its way.
        return evidence is None or evidence.shows == SET_BACK

    def _tell(self, site: SiteName, echo: Digest, refusal: Refusal) -> None:
        said = (site, refusal.code, refusal.reason)
        if said in self._told:
            return
        self._told.add(said)
        sent = refusal.as_sent
        entry = SiteRefused(
            run=self.run,
            site=site,
            code=CODE_NAMES[sent.code],
            reason=sent.reason,
            request=echo,
            accused=sent.accused,
            evidence=sha256_hex(sent.evidence) if sent.evidence else None,
            signature=b64encode(sent.signature).decode(),
        )
        self.store.tell(f"logging that {site} refuses", [entry])

    def _fork(self, site: SiteName, evidence: Evidence) -> str | None:
        """What is wrong with this log, if the evidence shows it."""
        size, lost = self.log.size(), lost_heads(self.log)
        for head, who in self._heads(evidence):
            if head in lost:
                continue
            if head.size > size:
                wrong = f"had {head.size} entries and has {size}: its database was set back to an older copy"
            elif self.log.head(head.size).root != head.root:
                wrong = f"had another head at {head.size} entries than its database has now: it was split, or changed"
            else:
                continue
            return (
                f"{site} has shown, signed by {who}, that the transparency log {wrong}. The run ends here and nothing is launched; `covenant log"
                " witnesses` shows the evidence, and the runbook says what to do"
            )
        return None

    def _heads(self, evidence: Evidence) -> Iterator[tuple[Checkpoint, str]]:
        """The heads in evidence that somebody has signed whose signature counts."""
        for note in evidence.notes:
            try:
                yield Checkpoint.parse(SignedNote.parse(note).require(self.log.key)), "the log's own key"
            except Refused:
                continue  # of a key that the log had before, or of nobody
        for statement in evidence.statements:
            try:
                witness = statement.verify(self.members)
            except Refused:
                continue
            if self.book.has(statement):
                yield witness.head, witness.said.site
