"""A signed gap: the officers say that entries of the transparency log are lost, so that a restored log may go on without them.

1. A gap counts if the root's quorum signed it. No key of the coordinator's can: going back is no decision of whoever holds the database.
2. It names the head that was kept, and every later head that is known, each with the note by which it is known. Whoever has signed a head that is
   not among them does not follow: that one has to be named as well.
3. It is the first entry after the kept head, and stands there once. What it says is lost is said for good.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part, make_document
from protos.keys import Signer
from protos.log_names import origin_of
from protos.log_proofs import NoteText, Size
from protos.moments import Moment
from protos.names import Name, Sha256
from protos.root import MOST_LINKS, Root, Signatures, SignedRoot, lineage, with_signature
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from strategies.transparency.notes import Checkpoint, SignedNote

_LABEL: Final = "covenant/gap/v1"
_MOST_LOST: Final = 100
_LONGEST_REASON: Final = 2000


class GapHead(Part):
    """A head of the log: `root` is its hash, in hexadecimal."""

    size: Size
    root: Sha256

    @classmethod
    def of(cls, head: Checkpoint) -> Self:
        """As a gap names it."""
        return cls(size=head.size, root=Digest(head.root.hex()))

    def is_of(self, head: Checkpoint) -> bool:
        """Whether this is `head`."""
        return (self.size, self.root) == (head.size, head.root.hex())

    @property
    def words(self) -> str:
        """For people."""
        return f"{self.size} entries, {self.root}"


class LostHead(GapHead):
    """A head after the one that was kept. `note` is the signed note by which it is known."""

    note: NoteText

    @classmethod
    def known_by(cls, note: SignedNote) -> Self:
        """The head that `note` is of, with the log's own signatures alone: witnesses' would make a gap long. Raises NoteRefused."""
        head = Checkpoint.parse(note.text)
        lines = tuple(each for each in note.lines if each.startswith(f"\u2014 {head.origin} "))
        return cls(
            size=head.size,
            root=Digest(head.root.hex()),
            note=SignedNote(note.text, lines or note.lines).encoded,
        )

    def checkpoint(self) -> Checkpoint:
        """The head in its note, whose signatures nobody has checked. Raises Refused."""
        return Checkpoint.parse(SignedNote.parse(self.note).text)


def _each_once(lost: tuple[LostHead, ...]) -> tuple[LostHead, ...]:
    """In the order of their sizes. Two of one size with different roots are a fork, and both are lost."""
    if len({(each.size, each.root) for each in lost}) < len(lost):
        raise ValueError("a head is named twice; name it once")
    return tuple(sorted(lost, key=lambda each: (each.size, each.root)))


class GapDeclared(Document):
    """What is lost: everything after `kept`, of which `lost` heads are known. Worth nothing before `SignedGap.verify`."""

    covenant: Literal["gap/v1"] = "gap/v1"
    federation: Name
    kept: GapHead
    lost: Annotated[tuple[LostHead, ...], Field(max_length=_MOST_LOST), AfterValidator(_each_once)] = ()
    reason: Annotated[str, Field(min_length=1, max_length=_LONGEST_REASON)]
    declared: Moment

    @model_validator(mode="after")
    def _lost_come_after_kept(self) -> Self:
        for each in self.lost:
            try:
                head = each.checkpoint()
            except (Refused, UsageError) as error:
                raise FieldError("lost", f"the note of {each.size} entries: {error}") from error
            if head.origin != origin_of(self.federation) or not each.is_of(head):
                raise FieldError("lost", f"the note of {each.size} entries is of another head")
            if each.size <= self.kept.size:
                raise FieldError(
                    "lost", f"a head of {each.size} entries is none after the {self.kept.size} that were kept"
                )
        return self

    @property
    def lost_heads(self) -> tuple[Checkpoint, ...]:
        """The heads that are said to be lost."""
        return tuple(each.checkpoint() for each in self.lost)


class SignedGap(Document):
    """A gap with signatures over its canonical bytes, and the roots after the pinned one that lead to whose they are."""

    gap: GapDeclared
    roots: Annotated[tuple[SignedRoot, ...], Field(max_length=MOST_LINKS)] = ()
    signatures: Signatures = ()

    def verify(self, pinned: SignedRoot) -> SoundGap:
        """The gap, if the quorum of the root that its chain leads to from the `pinned` one signed it for that federation. Raises Refused."""
        root = lineage(pinned, self.roots)[-1]
        if self.gap.federation != root.federation:
            raise Refused(f"the gap is declared for {self.gap.federation}; this root is of {root.federation}")
        root.require_quorum(self.signatures, _LABEL, self.gap.canonical, what=self._words)
        return SoundGap(self, root)

    def signed(self, by: Root) -> tuple[str, ...]:
        """The names of those of root `by` who have signed. Raises Refused for a wrong signature."""
        return by.signed(self.signatures, _LABEL, self.gap.canonical)

    def signed_with(self, signer: Signer, root: Root) -> Self:
        """This gap with one more signature. UsageError for a key that `root` does not have, or another federation's."""
        if self.gap.federation != root.federation or not root.has(signer.public):
            raise UsageError(
                f"the key is not in root version {root.version} of {root.federation}; those of"
                f" {', '.join(each.name for each in root.keys)} may sign a gap of that federation"
            )
        signatures = with_signature(self.signatures, signer, _LABEL, self.gap.canonical)
        return make_document(type(self), "the gap", gap=self.gap, roots=self.roots, signatures=signatures)

    @property
    def _words(self) -> str:
        return f"the gap after {self.gap.kept.size} entries"


class SoundGap:
    """A gap that the officers signed, and the root whose quorum that was; `SignedGap.verify` is its only maker."""

    __slots__ = ("root", "signed")

    def __init__(self, signed: SignedGap, root: Root) -> None:
        self.signed = signed
        self.root = root

    @property
    def declared(self) -> GapDeclared:
        """What it says."""
        return self.signed.gap

    def require_after(self, kept: Checkpoint) -> None:
        """Check that the gap begins after the head `kept`. Raises Refused."""
        if not self.declared.kept.is_of(kept):
            raise Refused(
                f"the gap begins after another head ({self.declared.kept.words}) than the log has there ({kept.size} entries, {kept.root.hex()}): have one"
                " signed for this"
            )

    def require_names(self, head: Checkpoint) -> None:
        """Check that a later `head` is said to be lost. Raises Refused."""
        if not any(each.is_of(head) for each in self.declared.lost):
            raise Refused(
                f"the gap does not name the head of {head.size} entries, {head.root.hex()}, as lost: add its note, and have the gap signed anew"
            )


def require_bridges(
    gap: SignedGap, last: Checkpoint, pinned: SignedRoot, *, newest: int | None = None
) -> SoundGap:
    """Check that `gap` allows whoever has signed the head `last` to follow a log that goes on after it without the entries in between.

    `newest` is the newest version of the root that the reader has accepted: an older one declares nothing any more. A head that the kept one
    extends needs no gap, but a proof of that. Raises Refused.
    """
    if last.origin != origin_of(pinned.root.federation):
        raise Refused(f"the head is of log {last.origin}; the root is of {pinned.root.federation}")
    sound = gap.verify(pinned)
    if newest is not None and sound.root.version < newest:
        raise Refused(
            f"the gap is signed under root version {sound.root.version}, and version {newest} has been accepted; its officers must sign"
        )
    if last.size <= sound.declared.kept.size:
        raise Refused(
            f"the gap begins after {sound.declared.kept.size} entries, and of the {last.size} before it none is lost: a proof must show that they are"
            " those that were kept"
        )
    sound.require_names(last)
    return sound
