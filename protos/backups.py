"""The manifest of a backup: what is in it, by digest, and up to which head of the log, signed with the log's key.

1. It is worth nothing before `SignedManifest.require` accepted it against the log's key on a member list that leads from the pinned root.
2. It names every file, so that one that is missing, added or changed is told.
3. No private key and no secret belongs into a backup. Whoever restores needs those from their own safe.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import Document, FieldError, Part
from protos.keys import Signature, Signer, verify
from protos.moments import Moment
from protos.names import Name, Sha256, matching
from strategies.errors import Refused
from strategies.transparency.notes import Checkpoint, SignedNote

_LABEL: Final = "covenant/backup/v1"
_MOST_FILES: Final = 1000
_LONGEST_NOTE: Final = 64 * 1024

FileName = Annotated[
    str, matching(r"(tables|documents)/[a-z0-9][a-z0-9._-]{0,99}", "a plain name in tables/ or documents/")
]


class BackupFile(Part):
    """A file: `rows` are its lines but the first, for a table."""

    name: FileName
    sha256: Sha256
    bytes: Annotated[int, Field(ge=0, le=2**53 - 1)]
    rows: Annotated[int, Field(ge=0, le=2**53 - 1)] = 0


def _by_name(files: tuple[BackupFile, ...]) -> tuple[BackupFile, ...]:
    if len({each.name for each in files}) < len(files):
        raise ValueError("a file is named twice")
    return tuple(sorted(files, key=lambda each: each.name))


class BackupManifest(Document):
    """What a backup holds: `head` is the signed note of its log, `fingerprint` the digest of the root, `revision` that of the schema."""

    covenant: Literal["backup/v1"] = "backup/v1"
    federation: Name
    fingerprint: Sha256
    revision: Annotated[str, matching(r"[0-9a-z_]{1,40}", "a revision of the schema, such as 0010")]
    made: Moment
    head: Annotated[str, Field(max_length=_LONGEST_NOTE)]
    files: Annotated[tuple[BackupFile, ...], Field(max_length=_MOST_FILES), AfterValidator(_by_name)]
    artifacts: Annotated[int, Field(ge=0, le=10**9)]
    missing: Annotated[int, Field(ge=0, le=10**9)] = 0
    """How many artifacts are named by rows and were not in the store when the backup was made."""

    @model_validator(mode="after")
    def _head_is_a_note(self) -> Self:
        try:
            self.checkpoint()
        except Refused as error:
            raise FieldError("head", str(error)) from error
        return self

    def checkpoint(self) -> Checkpoint:
        """The head of the log in it, whose signature nobody has checked. Raises Refused."""
        return Checkpoint.parse(SignedNote.parse(self.head).text)

    def file(self, name: str) -> BackupFile:
        """One file. Raises Refused where there is none of that name."""
        for each in self.files:
            if each.name == name:
                return each
        raise Refused(f"this backup has no {name}; use one that was made whole")

    def age_words(self, now: datetime) -> str:
        """How old it is, for people."""
        seconds = int((now - self.made).total_seconds())
        days, rest = divmod(max(0, seconds), 86_400)
        return f"{days} days {rest // 3600}:{rest % 3600 // 60:02}:{rest % 60:02}"


class SignedManifest(Document):
    """`MANIFEST.json`: a manifest and the signature of the log's key over its canonical bytes."""

    manifest: BackupManifest
    signature: Signature

    @classmethod
    def of(cls, manifest: BackupManifest, signer: Signer) -> Self:
        """`manifest`, signed."""
        return cls(manifest=manifest, signature=signer.sign(_LABEL, manifest.canonical))

    def require(self, key: str) -> BackupManifest:
        """The manifest, if the holder of the public `key` (base64) signed it. Raises Refused."""
        if not verify(key, self.signature, _LABEL, self.manifest.canonical):
            raise Refused(
                "the manifest of this backup is not signed with the log's key on the member list: it was changed, or made by somebody else"
            )
        return self.manifest
