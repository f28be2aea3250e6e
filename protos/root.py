"""The root of a federation: whose keys decide who belongs to it, and how many of them it takes.

1. Version 1 counts if its own quorum signed it. Version n+1 counts after n if the quorums of n and of n+1 both signed it, as in The Update
   Framework.
2. A key counts once. What strangers signed is ignored; a wrong signature in the name of a root key is refused.
3. A site pins one version and follows a chain of later ones from it, without a network. A chain that leads elsewhere is refused.
4. Every later version names version 1 by its digest: whoever pins any of them knows the federation by the same name.
5. Past its last moment a root still proves what was signed under it, but nothing new is accepted: the next version is due.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import PublicKey, Signature, Signer, grouped, verify
from protos.moments import Moment
from protos.names import Name, Sha256
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

MOST_LINKS: Final = 100
_MOST_KEYS: Final = 20
_MOST_SIGNATURES: Final = 2 * _MOST_KEYS
_LABEL: Final = "covenant/root/v2"


class RootKey(Part):
    """A key that takes part in decisions, and whose it is."""

    name: Name
    key: PublicKey


class KeySignature(Part):
    """A signature, and the key that is said to have made it."""

    key: PublicKey
    signature: Signature


def _by_key(signatures: tuple[KeySignature, ...]) -> tuple[KeySignature, ...]:
    """In the order of their keys, so that the same signatures make the same document."""
    if len({each.key for each in signatures}) < len(signatures):
        raise ValueError("a key has signed twice; keep one signature of each key")
    return tuple(sorted(signatures, key=lambda each: each.key))


# The signatures under one document, each by another key.
Signatures = Annotated[tuple[KeySignature, ...], Field(max_length=_MOST_SIGNATURES), AfterValidator(_by_key)]


def with_signature(
    signatures: tuple[KeySignature, ...], signer: Signer, label: str, message: bytes
) -> tuple[KeySignature, ...]:
    """`signatures` and `signer`'s own, which takes the place of an earlier one."""
    others = tuple(each for each in signatures if each.key != signer.public)
    return (*others, KeySignature(key=signer.public, signature=signer.sign(label, message)))


def _by_name(keys: tuple[RootKey, ...]) -> tuple[RootKey, ...]:
    return tuple(sorted(keys, key=lambda each: each.name))


class Root(Document):
    """A version of a root. Worth nothing before `follow` has led to it."""

    covenant: Literal["root/v2"] = "root/v2"
    federation: Name
    version: Annotated[int, Field(ge=1, lt=10**9)]
    keys: Annotated[tuple[RootKey, ...], Field(min_length=1, max_length=_MOST_KEYS), AfterValidator(_by_name)]
    quorum: Annotated[int, Field(ge=1)]
    expires: Moment
    first: Sha256 | None = None
    """Digest of version 1, in every later one."""

    @model_validator(mode="after")
    def _can_decide(self) -> Self:
        for field in ("name", "key"):
            if len({getattr(each, field) for each in self.keys}) < len(self.keys):
                raise FieldError(
                    "keys", f"two of them have the same {field}; each person has one name and one key"
                )
        if self.quorum > len(self.keys):
            raise FieldError(
                "quorum",
                f"{self.quorum} of {len(self.keys)} keys can never sign; use at most {len(self.keys)}",
            )
        if (self.version > 1) != (self.first is not None):
            raise FieldError(
                "first", "version 1 has none, and every later version has the digest of version 1 there"
            )
        return self

    @property
    def fingerprint(self) -> str:
        """What people compare: of version 1 it names the federation for good."""
        return grouped(self.digest)

    @property
    def identity(self) -> Digest:
        """The digest of version 1: the federation itself, whatever it or another one is called."""
        return self.first or self.digest

    def has(self, key: str) -> bool:
        """Whether `key` is one of this root's."""
        return any(each.key == key for each in self.keys)

    def signed(self, signatures: Iterable[KeySignature], label: str, message: bytes) -> tuple[str, ...]:
        """The names of those who signed `message` for the purpose `label`. Refused for a wrong signature by one of this root's keys."""
        names = {each.key: each.name for each in self.keys}
        found = set()
        for each in signatures:
            if each.key not in names:
                continue
            if not verify(each.key, each.signature, label, message):
                raise Refused(
                    f"the signature of {names[each.key]} is not over this document: one of the two was changed; have it signed again"
                )
            found.add(names[each.key])
        return tuple(sorted(found))

    def require_quorum(
        self, signatures: Iterable[KeySignature], label: str, message: bytes, *, what: str
    ) -> None:
        """Check that this root's quorum signed `message`, which people call `what`. Raises Refused."""
        signed = self.signed(signatures, label, message)
        if len(signed) < self.quorum:
            others = ", ".join(each.name for each in self.keys if each.name not in signed)
            raise Refused(
                f"{what} has {len(signed)} of the {self.quorum} signatures that root version {self.version} of {self.federation} asks for"
                f" (fingerprint {self.fingerprint}); {self.quorum - len(signed)} more of {others} must sign it"
            )

    def require_current(self, now: datetime) -> None:
        """Check that something new may be accepted under this root at `now`. Raises Refused."""
        if now > self.expires:
            raise Refused(
                f"root version {self.version} of {self.federation} was good until {self.expires:%Y-%m-%d}: nothing new is accepted under it;"
                " its officers make the next version with `covenant root next`"
            )

    def next(
        self, *, add: Sequence[RootKey], remove: Collection[str], quorum: int | None, expires: datetime
    ) -> Self:
        """The draft of the version after this one, without the keys that are named in `remove`. Raises UsageError."""
        unknown = sorted(set(remove) - {each.name for each in self.keys})
        if unknown:
            raise UsageError(
                f"{unknown[0]} has no key in root version {self.version}; it has those of {', '.join(each.name for each in self.keys)}"
            )
        return make_document(
            type(self),
            "the next root",
            federation=self.federation,
            version=self.version + 1,
            keys=(*(each for each in self.keys if each.name not in remove), *add),
            quorum=self.quorum if quorum is None else quorum,
            expires=expires,
            first=self.identity,
        )


class SignedRoot(Document):
    """`root.json`: a root and signatures over its canonical bytes; a draft as long as they are too few."""

    root: Root
    signatures: Signatures = ()

    def require_own_quorum(self) -> None:
        """Check that this version's own quorum signed it, which is all that version 1 takes. Raises Refused."""
        self.root.require_quorum(self.signatures, _LABEL, self.root.canonical, what=self._words)

    def require_follows(self, before: Root) -> None:
        """Check that this is the version after `before`, by the quorums of both. Raises Refused."""
        if self.root.federation != before.federation:
            raise Refused(f"{self._words} is for another federation than {before.federation}")
        if self.root.version != before.version + 1:
            raise Refused(
                f"{self._words} does not follow version {before.version}; a chain of roots has every version, one after the other"
            )
        if self.root.first != before.identity:
            raise Refused(
                f"{self._words} names another version 1 ({self.root.first}) than the one that it follows ({before.identity}): it is of another"
                " federation with the same name"
            )
        before.require_quorum(self.signatures, _LABEL, self.root.canonical, what=self._words)
        self.require_own_quorum()

    def signed(self, by: Root) -> tuple[str, ...]:
        """The names of those of root `by` who have signed this one. Raises Refused for a wrong signature."""
        return by.signed(self.signatures, _LABEL, self.root.canonical)

    def signed_with(self, signer: Signer, before: Root | None) -> Self:
        """This root with one more signature. UsageError for a key that neither this version nor the one `before` it has."""
        if not self.root.has(signer.public) and not (before is not None and before.has(signer.public)):
            raise UsageError(
                f"the key is in no version that may sign {self._words}; those of {', '.join(each.name for each in self.root.keys)} may"
                + ("" if before is None else f", and those of version {before.version}")
            )
        signatures = with_signature(self.signatures, signer, _LABEL, self.root.canonical)
        return make_document(type(self), self._words, root=self.root, signatures=signatures)

    @property
    def _words(self) -> str:
        return f"root version {self.root.version} of {self.root.federation}"


def follow(pinned: SignedRoot, chain: Sequence[SignedRoot]) -> Root:
    """The newest root that `chain` leads to from the `pinned` one. Raises Refused as `lineage`."""
    return lineage(pinned, chain)[-1]


def lineage(pinned: SignedRoot, chain: Sequence[SignedRoot]) -> tuple[Root, ...]:
    """The roots from the `pinned` one to the newest that `chain` leads to: every version in it after the one before.

    A chain may begin before the pinned version, and must then pass through it. What comes before is left out, because nothing vouches for it:
    anybody can make a root whose keys are those that signed the pinned one. At most 100 links are read. Raises Refused.
    """
    pinned.require_own_quorum()
    if len(chain) > MOST_LINKS:
        raise Refused(f"a chain of {len(chain)} roots; at most {MOST_LINKS} are read")
    if not chain:
        return (pinned.root,)
    for before, after in pairwise(chain):
        after.require_follows(before.root)
    ahead = pinned.root.version - chain[0].root.version
    if ahead < 0:
        chain[0].require_follows(pinned.root)
    elif ahead >= len(chain):
        raise Refused(
            f"the chain of roots ends at version {chain[-1].root.version}, before version {pinned.root.version}, which is pinned here; ask for"
            " the newest"
        )
    elif chain[ahead].root != pinned.root:
        raise Refused(
            f"the chain has another root version {pinned.root.version} of {chain[ahead].root.federation} (fingerprint {chain[ahead].root.fingerprint})"
            f" than the one pinned here ({pinned.root.fingerprint}); compare fingerprints with the officers"
        )
    return (pinned.root, *(each.root for each in chain if each.root.version > pinned.root.version))
