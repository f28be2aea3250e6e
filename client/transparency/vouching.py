"""What this site says of the starts of others, and what it asks of them before it takes part in anything after its own.

1. A start is drawn once a process, when this site is first asked to witness a run, and is in the journal before it is signed.
2. This site vouches for any member that was started, with what it has seen of it until then. It keeps the start first: so a second start of one site, from
   a copy of its journal, is shown the first.
3. This site acts once as many others as are asked for have vouched for this very start, each over positions and answers that its own journal holds.
   One that knows more than the journal shows that this is an older copy, or that this site runs twice: then it takes part in nothing under this key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import structlog

from client.admission.documents import Accepted
from client.journal.answers import Answers
from client.refusal import TaskRefused
from client.transparency.memory import REENROL, SET_BACK, WitnessMemory
from protos.frames import RefusalCode
from protos.membership import MemberList
from protos.vouching import SignedStart, SignedVoucher, Start, Voucher
from protos.witness import Position, SignedWitness, WitnessStatement, key_part
from strategies.errors import Refused
from strategies.ids import SiteName

_log = structlog.get_logger(__name__)
_Asked = tuple[SignedStart, Start]


@dataclass
class Vouching:
    """The start of one process of a site's agent, and who has vouched for it."""

    memory: WitnessMemory
    answers: Answers
    federation: str
    policy_asks: int | None = None
    _start: SignedStart | None = None
    _by: set[SiteName] = field(default_factory=set)
    _behind: TaskRefused | None = None
    """What was seen of this site that its journal does not have: for as long as this process lives, whoever vouches besides."""

    def start(self) -> SignedStart:
        """This process's start, as it asks to be vouched for. Raises `JournalBroken`."""
        if self._start is None:
            self._start = self.memory.record_start(self.federation)
        return self._start

    def asked_for(self, accepted: Accepted) -> SignedStart | None:
        """The start, as long as too few have vouched for it to take part under these documents."""
        return None if self._is_vouched(accepted) else self.start()

    def require_not_behind(self) -> None:
        """Check that nobody has shown this site to be behind, or to run twice. Raises `TaskRefused`."""
        if self._behind is not None:
            raise self._behind

    def vouch(self, starts: Iterable[SignedStart], accepted: Accepted) -> tuple[SignedVoucher, ...]:
        """This site's word on the starts of others. Raises Refused for one that is not signed, and `JournalBroken`."""
        asked = [(signed, signed.verify(accepted.members)) for signed in starts]
        others = [(signed, start) for signed, start in asked if start.site != self.memory.site]
        said: list[SignedVoucher] = []
        for batch in _of_different_sites(others):
            seen = [self.memory.seen_of(start.site, start.identity) for _, start in batch]
            self.memory.meet_starts([signed for signed, _ in batch])
            said += [self._word_on(*of, *before) for of, before in zip(batch, seen, strict=True)]
        return tuple(said)

    def _word_on(
        self, signed: SignedStart, start: Start, statement: SignedWitness | None, earlier: SignedStart | None
    ) -> SignedVoucher:
        voucher = Voucher(
            federation=start.federation,
            by=self.memory.site,
            identity=self.memory.identity.public,
            site=start.site,
            nonce=start.nonce,
            statement=statement,
            start=earlier if earlier != signed else None,
            met=self.answers.met(start.site),
            at=self.memory.clock(),
        )
        return SignedVoucher.sign(voucher, self.memory.identity)

    def take(self, vouchers: Iterable[SignedVoucher], accepted: Accepted) -> None:
        """Hold this site's journal against what others have seen. Raises `TaskRefused` where it is behind. Those for another start say nothing."""
        if self._start is None:
            return
        for signed in vouchers:
            try:
                said = signed.verify(accepted.members)
                positions = _positions(said, accepted.members)
            except Refused as refused:
                _log.warning("a voucher that is none", reason=str(refused))
                continue
            if (said.site, said.nonce) != (self.memory.site, self._start.start.nonce):
                continue
            self._require_held(said, positions)
            if said.by in accepted.plan.sites.invite:
                self._by.add(said.by)

    def require(self, accepted: Accepted) -> None:
        """Check that so many have vouched that this site may act. Raises `TaskRefused`, with the start to vouch for."""
        self.require_not_behind()
        start = self.asked_for(accepted)
        if start is not None:
            raise TaskRefused(
                RefusalCode.AWAY,
                f"this site was started, and {len(self._by)} of {self._needed(accepted)} other sites have vouched for its journal since; it may be asked again",
                evidence=start.canonical,
            )

    @property
    def is_fresh(self) -> bool:
        """Whether nobody has vouched for this process yet."""
        return not self._by

    def _needed(self, accepted: Accepted) -> int:
        """So many others as witnesses are asked for, this site not counted."""
        return max(accepted.plan.witnesses, self.policy_asks or 1) - 1

    def _is_vouched(self, accepted: Accepted) -> bool:
        return len(self._by & set(accepted.plan.sites.invite)) >= self._needed(accepted)

    def _require_held(self, said: Voucher, positions: Iterable[Position]) -> None:
        for position in positions:
            if not self._holds(position):
                raise self._found_behind(
                    f"{said.by} has seen this site's journal at entry {position.sequence}, which it does not have: it has"
                    f" {self.memory.journal.head[0]} entries"
                )
        for met in said.met:
            if met.run in self.memory.witnessed and not self.answers.has_masked(met):
                raise self._found_behind(
                    f"{said.by} was in a sum with this site in round {met.round} of {met.run} (attempt {met.attempt}), which this site's journal does not have"
                )

    def _holds(self, position: Position) -> bool:
        if not position.epoch.startswith(key_part(self.memory.identity.public)):
            return True  # of a key that this site had before
        held = self.memory.journal.holds((position.sequence, position.head))
        return position.epoch == self.memory.epoch and held

    def _found_behind(self, why: str) -> TaskRefused:
        _log.error("this site is behind what others have seen of it", reason=why)
        self._behind = TaskRefused(
            RefusalCode.SIGNATURE,
            f"{SET_BACK}: {why}. {REENROL}",
        )
        return self._behind


def _of_different_sites(asked: Sequence[_Asked]) -> Iterator[list[_Asked]]:
    """`asked` in order, in batches that have no site twice: of two starts of one site the second is shown the first."""
    batch: list[_Asked] = []
    for each in asked:
        if any(each[1].site == other.site for _, other in batch):
            yield batch
            batch = []
        batch.append(each)
    if batch:
        yield batch


def _positions(said: Voucher, members: MemberList) -> list[Position]:
    """Where a voucher shows that the site's journal stood, by that site's own signatures. Raises Refused."""
    found: list[WitnessStatement | Start] = []
    if said.statement is not None:
        found.append(said.statement.verify(members).said)
    if said.start is not None:
        found.append(said.start.verify(members))
    if any(each.site != said.site for each in found):
        raise Refused(f"{said.by} vouches for {said.site} with what another site has signed")
    return [each.position for each in found]
