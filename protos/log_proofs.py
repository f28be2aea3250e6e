"""A head of the transparency log as it is shown to somebody, with proofs of what is in the log and of which earlier heads it extends.

1. A head counts if the log's key on the member list signed it; `Shown.of` is its only maker.
2. That it extends an earlier one is proven, or is not known (`ProofMissing`), or is wrong (`ProofRefused`): three different things.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Final, Self

from pydantic import Field

from protos.documents import Part
from protos.keys import decode_base64, public_bytes
from protos.log_names import origin_of
from protos.membership import MemberList
from protos.names import checked
from strategies.errors import Refused
from strategies.transparency.merkle import (
    HASH_BYTES,
    MOST_LEAVES,
    ProofRefused,
    leaf_hash,
    verify_consistency,
    verify_inclusion,
)
from strategies.transparency.notes import Checkpoint, NoteKey, NoteRefused, SignedNote

MOST_HASHES: Final = 128
"""In one proof: twice the levels of the largest tree, and some."""
MOST_ENTRY_BYTES: Final = 1 << 20
MOST_COPIED: Final = 5000
MOST_COPIED_BYTES: Final = 1 << 20
"""Of entries in one request, for a site's copy."""
MOST_GAPS: Final = 16
"""In one request."""
_LONGEST_NOTE: Final = 4096


def _hash_bytes(text: str) -> bytes:
    return decode_base64(text, HASH_BYTES)


Hash = Annotated[str, checked(_hash_bytes)]
Size = Annotated[int, Field(ge=0, le=MOST_LEAVES)]
NoteText = Annotated[str, Field(max_length=_LONGEST_NOTE)]


def log_key_of(members: MemberList) -> NoteKey:
    """Who signs the heads of a federation's log. Raises Refused where its member list names nobody."""
    return NoteKey(origin_of(members.name), public_bytes(members.service("log").key))


class Grown(Part):
    """The proof (RFC 9162) that a log begins with the `size` entries that it had before."""

    size: Size
    hashes: Annotated[tuple[Hash, ...], Field(max_length=MOST_HASHES)] = ()

    @classmethod
    def of(cls, size: int, hashes: Iterable[bytes]) -> Self:
        """From the hashes as bytes."""
        return cls(size=size, hashes=tuple(base64.b64encode(each).decode() for each in hashes))

    @property
    def proof(self) -> tuple[bytes, ...]:
        """The hashes as bytes."""
        return tuple(base64.b64decode(each) for each in self.hashes)


@dataclass(frozen=True, slots=True)
class LogLeaf:
    """Entry `seq` of the transparency log, and the hashes that show that it is in it."""

    seq: int
    body: bytes
    hashes: tuple[bytes, ...]

    def require_in(self, head: Checkpoint) -> None:
        """Check that the entry is in the log of `head`, at its place. Raises ProofRefused."""
        verify_inclusion(
            leaf_hash(self.body), index=self.seq, size=head.size, proof=self.hashes, root=head.root
        )


class ProofMissing(Refused):
    """Nothing shows whether a head extends another; somebody may still show it."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A head that the log's key signed, and proofs of what it extends; `of` is its only maker."""

    note: SignedNote
    head: Checkpoint
    grown: Mapping[int, Grown]

    @classmethod
    def of(cls, note: str, grown: Sequence[Grown], key: NoteKey) -> Self:
        """The head of a signed note. Raises NoteRefused."""
        signed = SignedNote.parse(note)
        head = Checkpoint.parse(signed.require(key))
        if head.origin != key.name:
            raise NoteRefused(f"the note is of log {head.origin}; the log of this federation is {key.name}")
        return cls(signed, head, {each.size: each for each in grown})

    def require_extends(self, earlier: Checkpoint) -> None:
        """Check that this head extends `earlier`. Raises ProofRefused where it does not, ProofMissing where nothing says."""
        if earlier.size > self.head.size:
            raise ProofRefused(
                f"the log has {self.head.size} entries, and had {earlier.size} before: entries were taken away"
            )
        if earlier.size == self.head.size:
            if earlier.root != self.head.root:
                raise ProofRefused(f"the log of {earlier.size} entries has two different heads: it was split")
            return
        if not earlier.size:
            return
        found = self.grown.get(earlier.size)
        if found is None:
            raise ProofMissing(
                f"nothing shows that the {self.head.size} entries begin with the {earlier.size}"
            )
        verify_consistency(
            old=earlier.size,
            old_root=earlier.root,
            new=self.head.size,
            new_root=self.head.root,
            proof=found.proof,
        )
