"""What came after a backup, from whoever kept it: copies of the log, and heads that others know.

1. A copy counts as far as it verifies by itself, from the pinned root to its signed head, and begins with the backup's entries; or the backup with its.
2. All copies and heads agree, or none is taken: two that do not are a fork, and whoever restores must know before anything is restored.
3. The longest copy is taken. A head beyond it, signed by the log's key, is a later one: its entries are somewhere, or lost.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.recovery.checked import CheckedBackup, roots_at
from protos.keys import public_bytes
from protos.log_export import Export, verify_file
from protos.membership import MemberList
from protos.root import SignedRoot
from strategies.errors import Refused, UsageError
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_LONGEST_NOTE = 64 * 1024


@dataclass(frozen=True, slots=True)
class Known:
    """A head that somebody has shown, and where it was read."""

    head: Checkpoint
    note: SignedNote
    source: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Reach:
    """How far a restore can come: `head` is that of the backup, or of `copy`, the longest; `later` are heads beyond it. `reach` is its only maker."""

    backup: CheckedBackup
    copy: Path | None
    head: Checkpoint
    note: SignedNote
    members: MemberList
    later: tuple[Known, ...]

    def missing(self) -> Iterator[bytes]:
        """The entries that the backup lacks and the copy has, in their order."""
        if self.copy is None:
            return
        with self.copy.open("rb") as file:
            for seq, body in enumerate(Export.read(file).entries):
                if self.backup.head.size <= seq < self.head.size:
                    yield body


def reach(
    backup: CheckedBackup, copies: Sequence[Path], witnessed: Sequence[Path], pinned: SignedRoot
) -> Reach:
    """How far `copies`, exports of the log, lead beyond a `backup`, and which heads in the notes `witnessed` come later still.

    Raises Refused for a copy that does not verify, for another federation's, and for a fork, with both heads.
    """
    verified = [(path, verify_file(path, pinned)) for path in copies]
    longest, members, head = None, backup.members, backup.head
    note = SignedNote.parse(backup.manifest.head)
    for path, found in verified:
        if found.head.size > head.size:
            longest, head, note = path, found.head, _note_of(path)
            if found.story.members is not None and found.story.members.version >= members.version:
                members = found.story.members
    keys = {
        NoteKey(backup.key.name, public_bytes(each.service("log").key)) for each in (backup.members, members)
    }
    known = [Known(found.head, _note_of(path), path) for path, found in verified]
    known += [_known(path, keys) for path in witnessed]
    known.append(Known(backup.head, SignedNote.parse(backup.manifest.head), backup.snapshot))
    _require_one_history(backup, longest, head, known)
    later = {(each.head.size, each.head.root): each for each in known if each.head.size > head.size}
    return Reach(
        backup=backup,
        copy=longest,
        head=head,
        note=note,
        members=members,
        later=tuple(later[key] for key in sorted(later)),
    )


def _require_one_history(
    backup: CheckedBackup, longest: Path | None, head: Checkpoint, known: Sequence[Known]
) -> None:
    """Check that every head up to the longest copy's is one of its own. Raises Refused."""
    sizes = [each.head.size for each in known if each.head.size <= head.size]
    if longest is None:
        roots = roots_at(backup.bodies(), sizes)
    else:
        with longest.open("rb") as file:
            roots = roots_at(Export.read(file).entries, sizes)
    ours = longest or backup.snapshot
    for each in known:
        if each.head.size <= head.size and roots.get(each.head.size) != each.head.root:
            raise Refused(
                f"this is a fork: {each.source} has the head {each.head.root.hex()} at {each.head.size} entries, and {ours} has"
                f" {roots[each.head.size].hex()} there. The log's key signed both: nothing was restored. Keep both files, and tell the officers"
            )


def _known(path: Path, keys: set[NoteKey]) -> Known:
    """The head in a note that the log's key signed. Raises Refused."""
    try:
        with path.open("rb") as file:
            text = file.read(_LONGEST_NOTE + 1).decode(errors="replace")
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    note = SignedNote.parse(text)
    for key in keys:
        try:
            head = Checkpoint.parse(note.require(key))
        except Refused:
            continue
        if head.origin != key.name:
            break
        return Known(head, note, path)
    raise Refused(f"{path} is not signed by the log of this federation with a key that is known of it")


def _note_of(path: Path) -> SignedNote:
    with path.open("rb") as file:
        return SignedNote.parse(Export.read(file).header.checkpoint)
