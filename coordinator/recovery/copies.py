"""What came after a backup, from whoever kept it: copies of the log, and heads that others know.

1. A copy counts as far as it verifies by itself, from the pinned root to its signed head, and begins with the backup's entries; or the backup with its.
2. All copies and heads agree, or none is taken: two that do not are a fork, and whoever restores must know before anything is restored.
3. A copy that goes beyond the backup is signed with the log's newest key that is known: whoever kept an older one could go on by itself.
4. The longest copy is taken. A head beyond it, signed by the log's key, is a later one: its entries are somewhere, or lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from coordinator.recovery.checked import CheckedBackup
from protos.log_export import Export, Verified, verify_file
from protos.log_proofs import log_key_of
from protos.membership import MemberList
from protos.root import SignedRoot
from strategies.errors import Refused, UsageError
from strategies.transparency.merkle import EMPTY_ROOT, Frontier, leaf_hash
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
    backup: CheckedBackup,
    copies: Sequence[Path],
    witnessed: Sequence[Path],
    pinned: SignedRoot,
    listed: MemberList | None = None,
) -> Reach:
    """How far `copies`, exports of the log, lead beyond a `backup`, and which heads in the notes `witnessed` come later still.

    `listed` is the newest member list that whoever restores has, besides the backup's.
    Raises Refused for a copy that does not verify, for another federation's, and for a fork, with both heads.
    """
    verified = [(path, verify_file(path, pinned)) for path in copies]
    longest, members, head = None, backup.members, backup.head
    note = SignedNote.parse(backup.manifest.head)
    for path, found in verified:
        if found.head.size > backup.head.size:
            _require_newest_key(path, found, backup.members, listed)
        if found.head.size > head.size:
            longest, head, note = path, found.head, _note_of(path, found)
            if found.story.members is not None and found.story.members.version >= members.version:
                members = found.story.members
    note_keys = {log_key_of(each) for each in (backup.members, members)}
    heads = [Known(found.head, _note_of(path, found), path) for path, found in verified]
    heads += [_known(path, note_keys) for path in witnessed]
    heads.append(Known(backup.head, SignedNote.parse(backup.manifest.head), backup.snapshot))
    _require_one_history(backup, longest, head, heads)
    later = {(each.head.size, each.head.root): each for each in heads if each.head.size > head.size}
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
        roots = _roots_at(backup.bodies(), sizes)
    else:
        with longest.open("rb") as file:
            roots = _roots_at(Export.read(file).entries, sizes)
    ours = longest or backup.snapshot
    for each in known:
        if each.head.size <= head.size and roots.get(each.head.size) != each.head.root:
            raise Refused(
                f"this is a fork: {each.source} has the head {each.head.root.hex()} at {each.head.size} entries, and {ours} has"
                f" {roots[each.head.size].hex()} there. The log's key signed both: nothing was restored. Keep both files, and tell the officers"
            )


def _roots_at(bodies: Iterable[bytes], sizes: Iterable[int]) -> dict[int, bytes]:
    """The roots that a log with these entries had at each of `sizes`; a size beyond its end has none."""
    wanted = sorted(set(sizes))
    tree, found = Frontier(), {0: EMPTY_ROOT}
    for body in bodies:
        if not wanted or tree.size >= wanted[-1]:
            break
        tree, _ = tree.append(leaf_hash(body))
        if tree.size in wanted:
            found[tree.size] = tree.root
    return {size: found[size] for size in wanted if size in found}


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


def _require_newest_key(path: Path, found: Verified, ours: MemberList, known: MemberList | None) -> None:
    """Check that no newer member list than the copy's names another key of the log. Raises Refused."""
    newest = ours if known is None or known.version < ours.version else known
    theirs = found.story.members
    if theirs is None or (
        theirs.version < newest.version and theirs.service("log").key != newest.service("log").key
    ):
        raise Refused(
            f"{path} ends before member list {newest.ref}, by which the log has another key than the one that signed it: whoever kept the older key could"
            " have made it. Find a later copy; where there is none, have what came after the backup declared lost (`covenant restore gap draft`)"
        )


def _note_of(path: Path, found: Verified) -> SignedNote:
    """The note of a copy's head, read once more. Raises Refused where it is another one by now."""
    with path.open("rb") as file:
        note = SignedNote.parse(Export.read(file).header.checkpoint)
    if Checkpoint.parse(note.require(found.log_key)) != found.head:
        raise Refused(f"{path} was changed after it was verified; nothing was restored")
    return note
