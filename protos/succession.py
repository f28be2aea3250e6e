"""What may follow the root and member list that were accepted last: the one rule of sites and of whoever audits a log.

1. A chain of roots must pass through the root that was accepted. That its links are signed is not enough: whoever has stolen the keys of an
   older version can sign versions of their own after it, as many as it takes to seem the newest.
2. An older list is refused, another one of the same version, and a newer one under a root before the one that was accepted.
3. The same list counts again: with other signatures, under a newer root, and with the shorter chain that there was when a run was launched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from protos.membership import Trusted
from strategies.errors import Refused
from strategies.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Newest:
    """The newest root and member list that were accepted, by version and digest."""

    root: int
    root_digest: Digest
    members: int
    members_digest: Digest

    @classmethod
    def of(cls, trusted: Trusted) -> Self:
        """As far as `trusted` goes."""
        return cls(
            root=trusted.root.version,
            root_digest=trusted.root_digest,
            members=trusted.members.version,
            members_digest=trusted.members_digest,
        )


def newest_after(offered: Trusted, newest: Newest | None) -> Newest:
    """What is newest once `offered` is accepted after `newest`, which is None before anything was. Raises Refused as `require_follows`."""
    if newest is None:
        return Newest.of(offered)
    require_follows(offered, newest)
    # Without a newer root this is the same list again: a newer one has at least that root.
    return newest if offered.root.version < newest.root else Newest.of(offered)


def require_follows(offered: Trusted, newest: Newest) -> None:
    """Check that `offered` may be accepted after `newest`, both by the same pinned root. Raises Refused."""
    members, root = offered.members, offered.root
    if members.version < newest.members:
        raise Refused(
            f"member list {members.name}@{newest.members} has been accepted, so an older one such as {members.ref} counts no more: whoever was"
            " taken off would be back. Launch a plan that names the newest"
        )
    is_same = offered.members_digest == newest.members_digest
    if members.version == newest.members and not is_same:
        raise Refused(
            f"another member list {members.ref} has been accepted; the officers have signed two of one version, and must sign the next"
        )
    if root.version < newest.root:
        if is_same:
            return
        raise Refused(
            f"member list {members.ref} is signed under root version {root.version}, and version {newest.root} has been accepted; the officers must"
            " sign the list under that"
        )
    if offered.root_at(newest.root) != newest.root_digest:
        raise Refused(
            f"member list {members.ref} comes with another root version {newest.root} of {root.federation} than the one that has been accepted:"
            " somebody who holds the keys of an older version has signed a second one. Compare fingerprints with the officers, and take nothing"
            " from this chain"
        )
