"""Sites that were started are vouched for by the others, whose word is carried to them: the coordinator adds nothing to it and cannot.

1. A start is noted from an answer, or from the refusal of a site that was started in the middle of a run.
2. All who are asked vouch for all who were started, in one exchange; in another each of those is sent what was said of it.
3. Of each who vouches one voucher for each start is carried, if it is that: nobody fills the message to another until that cannot read it.
4. What was said of a start is kept for as long as that is waited for: who has vouched is not asked again, so each attempt goes on where the last one ended.
5. A site that is satisfied says so by asking no more. One that is not is left out until it is, or refuses for good because it is behind.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from typing import Final

import structlog

from coordinator.rounds.asking import Asked, Asking
from coordinator.rounds.progress import VOUCH
from protos.frames import Body, Stage, WitnessAnswer, WitnessRequest
from protos.membership import MemberList
from protos.secure_codec import encode_witness_request
from protos.vouching import SignedStart, SignedVoucher
from strategies.encoding import sha256_hex
from strategies.errors import Refused
from strategies.ids import SiteName

_LONGEST_S: Final = 30.0
_A_SITE_S: Final = 0.5
"""Everybody vouches for everybody where all were started, so that takes the longer the more there are."""
_log = structlog.get_logger(__name__)


@dataclass
class Starts:
    """Who was started and is not vouched for yet, in the life of one driver."""

    members: MemberList
    asking: Asking
    _waiting: dict[SiteName, SignedStart] = field(default_factory=dict)
    _vouchers: dict[SiteName, dict[SiteName, SignedVoucher]] = field(default_factory=dict)
    """What was said of the start that a site waits with, by who said it."""

    @property
    def waiting(self) -> frozenset[SiteName]:
        """The sites that take part in nothing before somebody has vouched for them."""
        return frozenset(self._waiting)

    def note(self, site: SiteName, start: SignedStart | None) -> None:
        """Take what a site says of its start; None that it is satisfied. One that it has not signed is left."""
        if start is None:
            self._waiting.pop(site, None)
            self._vouchers.pop(site, None)
            return
        try:
            said = start.verify(self.members)
        except Refused as refused:
            _log.warning("a start that is none", site=site, reason=str(refused))
            return
        if said.site == site:
            if self._waiting.get(site) != start:
                self._vouchers.pop(site, None)
            self._waiting[site] = start

    def note_bytes(self, site: SiteName, data: bytes) -> None:
        """The same from a refusal."""
        try:
            self.note(site, SignedStart.from_canonical(data))
        except Refused as refused:
            _log.warning("a start that is none", site=site, reason=str(refused))

    def have_vouched(self, sites: Collection[SiteName], bare: WitnessRequest) -> None:
        """Ask `sites` to vouch for those who wait, and tell these; `bare` is a request of the run that asks for nothing."""
        if not self._waiting:
            return

        def collect(by: SiteName, body: Body) -> None:
            if isinstance(body, WitnessAnswer):
                for each in body.vouchers:
                    if self._is_asked_for(each, by):
                        self._vouchers.setdefault(each.voucher.site, {})[by] = each

        def hear(site: SiteName, body: Body) -> None:
            if isinstance(body, WitnessAnswer):
                self.note(site, body.start)

        owed = {site: self._owed_by(site) for site in sites}
        asked = {site: replace(bare, starts=starts) for site, starts in owed.items() if starts}
        self._exchange(asked, collect)
        told = {
            site: replace(bare, vouchers=tuple(self._vouchers[site].values()))
            for site in self._waiting
            if site in self._vouchers and site in sites
        }
        self._exchange(told, hear)
        _log.info(
            "started sites", vouched=sorted(set(told) - self._waiting.keys()), waiting=sorted(self._waiting)
        )

    def _owed_by(self, site: SiteName) -> tuple[SignedStart, ...]:
        """The starts of others that `site` has not vouched for."""
        return tuple(
            start
            for other, start in self._waiting.items()
            if other != site and site not in self._vouchers.get(other, {})
        )

    def _is_asked_for(self, signed: SignedVoucher, by: SiteName) -> bool:
        """Whether it is the word of `by` on a start that it was asked about. One site's other words would only fill the message to another."""
        start = self._waiting.get(signed.voucher.site)
        try:
            said = signed.verify(self.members)
        except Refused as refused:
            _log.warning("a voucher that is none", site=by, reason=str(refused))
            return False
        return start is not None and (said.by, said.nonce) == (by, start.start.nonce)

    def _exchange(
        self, requests: dict[SiteName, WitnessRequest], take: Callable[[SiteName, Body], None]
    ) -> None:
        if not requests:
            return
        frames = {site: encode_witness_request(each) for site, each in requests.items()}
        echoes = {site: sha256_hex(frame) for site, frame in frames.items()}
        longest_s = _LONGEST_S + _A_SITE_S * len(requests)
        asking = replace(self.asking, deadline_s=min(self.asking.deadline_s, longest_s))
        asking.ask(Stage.PREPARE, 0, Asked(frames, echoes.__getitem__, VOUCH), take)
