"""The officers of a federation with their root keys, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from protos.keys import SigningKey
from protos.membership import MemberList, Membership, SignedMembers
from protos.root import Root, RootKey, SignedRoot

FAR = datetime(2999, 12, 31, tzinfo=UTC)


@cache
def key_of(name: str) -> SigningKey:
    """The key of a person: the same for the same name in one run of the tests."""
    return SigningKey.generate()


def root_of(
    *names: str,
    quorum: int = 2,
    version: int = 1,
    federation: str = "demo",
    expires: datetime = FAR,
    of: Root | None = None,
) -> Root:
    """A root in which `names` have their keys; a later version is of the federation `of`."""
    first = None if version == 1 else (of or root_of("ash", "birch", "cedar")).identity
    keys = tuple(RootKey(name=name, key=key_of(name).public) for name in names)
    return Root(
        federation=federation, version=version, keys=keys, quorum=quorum, expires=expires, first=first
    )


def signed_by(root: Root, *names: str, before: Root | None = None) -> SignedRoot:
    """A root that `names` have signed."""
    signed = SignedRoot(root=root)
    for name in names:
        signed = signed.signed_with(key_of(name), before)
    return signed


@dataclass(frozen=True)
class Officers:
    """Officers whose root has a chain of versions; all of the newest sign."""

    roots: tuple[SignedRoot, ...]

    @classmethod
    def of(cls, *names: str, quorum: int = 2, federation: str = "demo", expires: datetime = FAR) -> Officers:
        root = root_of(*names, quorum=quorum, federation=federation, expires=expires)
        return cls((signed_by(root, *names),))

    @property
    def pinned(self) -> SignedRoot:
        return self.roots[0]

    @property
    def newest(self) -> Root:
        return self.roots[-1].root

    def save(self, folder: Path) -> None:
        """Write `root.json`, as sites pin it."""
        (folder / "root.json").write_bytes(self.pinned.canonical)

    def sign(self, members: MemberList, by: Sequence[str] | None = None) -> Membership:
        """`members` with the signatures of `by`, or of everybody, and the roots that lead to them."""
        signed = SignedMembers(list=members)
        for name in [each.name for each in self.newest.keys] if by is None else by:
            signed = signed.signed_with(key_of(name), self.newest)
        return Membership(roots=self.roots[1:], signed=signed)

    def rotated(self, *names: str, quorum: int = 2, expires: datetime = FAR) -> Officers:
        """The same federation after its officers became `names`."""
        before = self.newest
        root = root_of(
            *names,
            quorum=quorum,
            version=before.version + 1,
            federation=before.federation,
            expires=expires,
            of=before,
        )
        everybody = dict.fromkeys((*(each.name for each in before.keys), *names))
        return Officers((*self.roots, signed_by(root, *everybody, before=before)))


def officers(federation: str = "demo") -> Officers:
    """Three officers, of whom two decide."""
    return Officers.of("ash", "birch", "cedar", federation=federation)


def impostors() -> Officers:
    """Others who call themselves the same."""
    return Officers.of("impostor-1", "impostor-2", "impostor-3")
