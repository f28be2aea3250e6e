"""Whom this site trusts: the root that it has pinned, and the newest root and member list that it has accepted since.

1. A member list counts if a chain of roots leads from the pinned one to the quorum that signed it.
2. What is accepted is in the journal before anything is done under it. From then on only what follows it is accepted (`protos.succession`), also
   after a restart: so who is taken off the list stays off, and so do the keys that a newer root has replaced.
3. That holds for a run that goes on under the list that its plan names: once this site has seen a newer one, the run is over for it. It makes
   no keys, masks nothing and confirms nothing. What it has promised to open by confirming, it still opens.
4. Under a root past its last moment no list is accepted and no run begun. A run that has begun goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Final

from client.journal.file import Journal
from protos.membership import Membership, Trusted
from protos.root import SignedRoot
from protos.succession import Newest, newest_after

_KIND: Final = "trusted"


@dataclass
class Trust:
    """What a site believes about its federation. `pinned` is what its people compared with the officers."""

    pinned: SignedRoot
    journal: Journal
    clock: Callable[[], datetime]
    _newest: Newest | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for entry in self.journal.entries(_KIND):
            self._newest = Newest(**entry.body)

    def accept(self, membership: bytes, *, begun: bool) -> Trusted:
        """Judge a `Membership` as it arrived, and remember it; `begun` says whether the run that it came with has.

        Raises `Refused`, and `JournalBroken` if it could not be recorded.
        """
        trusted = Membership.from_canonical(membership).verify(self.pinned)
        self.require(trusted, begun=begun)
        return trusted

    def require(self, trusted: Trusted, *, begun: bool) -> None:
        """Judge again what was verified before: something newer may have come since. Raises as `accept`."""
        before = self._newest
        newest = newest_after(trusted, before)
        known = before is not None and newest.members_digest == before.members_digest
        if not (known and begun):
            trusted.root.require_current(self.clock())
        if newest != before:
            self.journal.append(_KIND, asdict(newest))
            self._newest = newest
