"""An export of the transparency log: one file that is checked without its coordinator, without a network, and without trusting who made it.

The first line is the head that the log's key signed, with the newest statement of each site; every further line is an entry. What is checked:

1. The entries are those of the head: their number, and the root hash over their bytes.
2. Every entry fits those before it (`log_audit`); member lists lead from the root that the reader has pinned.
3. The head is signed by the log's key on the newest of those lists.
4. Heads that sites have co-signed, in entries and in the first line, are heads that this log had: another one is a split view, and refused.
5. A reader who knows a member list refuses a log that ends before it: whoever kept an old key of the log could sign no more than that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, BinaryIO, Final, Literal, Self

from pydantic import Field

from protos.documents import Document
from protos.log_audit import Audit
from protos.log_proofs import MOST_ENTRY_BYTES, log_key_of
from protos.membership import Membership
from protos.names import Name
from protos.root import SignedRoot
from protos.witness import MOST_WITNESSES, SignedWitness
from strategies.errors import Refused, UsageError
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_LONGEST_HEADER: Final = 2 << 20


class ExportHeader(Document):
    """The first line: `checkpoint` is the signed note of the head, `witnesses` are the newest statements of the sites on the newest list."""

    covenant: Literal["log-export/v1"] = "log-export/v1"
    federation: Name
    checkpoint: str
    witnesses: Annotated[tuple[SignedWitness, ...], Field(max_length=MOST_WITNESSES)] | None = None


@dataclass(frozen=True, slots=True)
class Verified:
    """A log that was verified to its last entry."""

    federation: str
    head: Checkpoint
    log_key: NoteKey
    story: Audit


@dataclass(frozen=True, slots=True)
class Export:
    """An export that is read piece by piece; nothing in it is believed yet."""

    header: ExportHeader
    entries: Iterator[bytes]

    @classmethod
    def read(cls, file: BinaryIO) -> Self:
        """The header, and the entries as they come. Raises Refused for another kind of file."""
        first = file.readline(_LONGEST_HEADER + 1)
        if len(first) > _LONGEST_HEADER or not first.endswith(b"\n"):
            raise Refused("this is no export of a transparency log: its first line has no end")
        return cls(ExportHeader.from_canonical(first[:-1]), _lines(file))

    def verify(self, pinned: SignedRoot, known: Membership | None = None) -> Verified:
        """Everything that the module promises, or Refused with the first thing that is wrong. `known` is the newest list that the reader has."""
        federation = self.header.federation
        if federation != pinned.root.federation:
            raise Refused(f"this log is of federation {federation}; the root is of {pinned.root.federation}")
        note = SignedNote.parse(self.header.checkpoint)
        head = Checkpoint.parse(note.text)
        story = Audit(pinned)
        for seq, data in enumerate(self.entries):
            story.take(seq, data)
        story.require_whole()
        tree = story.witnesses.tree
        if (tree.size, tree.root) != (head.size, head.root):
            raise Refused(
                f"the head is of {head.size} entries, and the {tree.size} in this file are not those: entries were changed, added or removed"
            )
        if story.members is None:
            raise Refused("this log has no member list yet, so nothing says whose key signs its head")
        key = log_key_of(story.members)
        note.require(key)
        if head.origin != key.name:
            raise Refused(f"the head is of log {head.origin}; the log of this federation is {key.name}")
        story.witnesses.note_all(self.header.witnesses or (), story.members)
        if known is not None:
            story.lists.require_reaches(known)
        return Verified(federation, head, key, story)


def write_export(file: BinaryIO, header: ExportHeader, entries: Iterable[bytes]) -> int:
    """Write an export; returns the number of entries."""
    file.write(header.canonical + b"\n")
    written = 0
    for data in entries:
        file.write(data + b"\n")
        written += 1
    return written


def verify_file(path: Path, pinned: SignedRoot, known: Membership | None = None) -> Verified:
    """Verify the export in `path`. Raises UsageError where it cannot be read, Refused where it is not what it must be."""
    try:
        with path.open("rb") as file:
            return Export.read(file).verify(pinned, known)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(MOST_ENTRY_BYTES + 2):
        if not line.endswith(b"\n") or len(line) > MOST_ENTRY_BYTES + 1:
            raise Refused(
                f"a line of this export has no end within {MOST_ENTRY_BYTES} bytes: the file was cut short or changed"
            )
        yield line[:-1]
