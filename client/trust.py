"""Whom this site trusts: the root that it has pinned, and the newest root and member list that it has accepted since.

1. A member list counts if a chain of roots leads from the pinned one to the quorum that signed it.
2. What is accepted is in the journal before anything is done under it. From then on an older list is refused, another one of the same version,
   and a newer one under an older root, also after a restart: so who is taken off the list stays off.
3. That holds for a run that goes on under the list that its plan names: once this site has seen a newer one, the run is over for it. What it
   has promised to open, it still opens.
4. Under a root past its last moment no list is accepted and no run begun. A run that has begun goes on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from typing import Any, Final, Self

from client.journal.file import Journal
from protos.membership import Membership, Trusted
from protos.root import SignedRoot
from strategies.errors import Refused
from strategies.ids import Digest

_KIND: Final = "trusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Newest:
    """An entry of the journal: versions and digests of a root and of a member list."""

    root: int
    root_digest: Digest
    members: int
    members_digest: Digest

    @classmethod
    def of(cls, trusted: Trusted) -> Self:
        return cls(
            root=trusted.root.version,
            root_digest=trusted.root_digest,
            members=trusted.members.version,
            members_digest=trusted.members_digest,
        )

    @classmethod
    def read(cls, body: Mapping[str, Any]) -> Self:
        return cls(**body)


@dataclass
class Trust:
    """What a site believes about its federation. `pinned` is what its people compared with the officers."""

    pinned: SignedRoot
    journal: Journal
    clock: Callable[[], datetime]
    _newest: _Newest | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        for entry in self.journal.entries(_KIND):
            self._newest = _Newest.read(entry.body)

    def accept(self, membership: bytes, *, begun: bool) -> Trusted:
        """Judge a `Membership` as it arrived, and remember it; `begun` says whether the run that it came with has.

        Raises `Refused`, and `JournalBroken` if it could not be recorded.
        """
        trusted = Membership.from_canonical(membership).verify(self.pinned)
        self.require(trusted, begun=begun)
        return trusted

    def require(self, trusted: Trusted, *, begun: bool) -> None:
        """Judge again what was verified before: something newer may have come since. Raises as `accept`."""
        offered, newest = _Newest.of(trusted), self._newest
        known = newest is not None and offered.members_digest == newest.members_digest
        if newest is not None:
            _require_not_older(trusted, offered, newest)
        if not (known and begun):
            trusted.root.require_current(self.clock())
        if newest is None or not known or offered.root > newest.root:
            self.journal.append(_KIND, asdict(offered))
            self._newest = offered


def _require_not_older(trusted: Trusted, offered: _Newest, newest: _Newest) -> None:
    members, root = trusted.members, trusted.root
    if offered.members < newest.members:
        raise Refused(
            f"this site has accepted member list {members.name}@{newest.members}, and takes no older one such as {members.ref}: whoever was taken"
            " off would be back. Launch a plan that names the newest"
        )
    if offered.members == newest.members and offered.members_digest != newest.members_digest:
        raise Refused(
            f"this site has accepted another member list {members.ref}; the officers have signed two of one version, and must sign the next"
        )
    if offered.root == newest.root and offered.root_digest != newest.root_digest:
        raise Refused(
            f"this site has accepted another root version {root.version} of {root.federation}; the officers have signed two of one version"
        )
    if offered.root < newest.root and offered.members > newest.members:
        raise Refused(
            f"member list {members.ref} is signed under root version {root.version}, and this site has accepted version {newest.root}; the officers"
            " must sign the list under that"
        )
