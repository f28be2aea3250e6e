"""A backup as it is believed: every file by its digest, the manifest by its signature, and the whole log in it entry by entry.

1. The member list whose log key counts is the newest that the backup has, in its log or beside it, and leads from the root that the reader has pinned.
2. The log's entries are those of the manifest's head, each fits those before it, and each row has the hashes that its proofs are made of.
3. Files that the manifest does not name are refused, and files that it names and that are not there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from coordinator.recovery.backup import (
    ARTIFACT_LIST,
    ARTIFACTS,
    LOG_TABLE,
    MANIFEST,
    MEMBERS,
    SNAPSHOTS,
    snapshots_of,
)
from coordinator.recovery.rows import Row, lines, parse_header, parse_line
from coordinator.registry.artifacts import ArtifactStore
from protos.backups import BackupFile, BackupManifest, SignedManifest
from protos.log_audit import Audit
from protos.log_proofs import log_key_of
from protos.membership import MemberList, Membership
from protos.root import SignedRoot
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, digest
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_PIECE = 1 << 20
_LONGEST_MANIFEST = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedBackup:
    """A backup that was verified as a whole; `check_backup` is its only maker. `story` is what its log tells."""

    folder: Path
    snapshot: Path
    manifest: BackupManifest
    digest: Digest
    head: Checkpoint
    key: NoteKey
    members: MemberList
    membership: Membership
    story: Audit

    def rows(self, file: BackupFile) -> tuple[str, list[str], Iterator[Row]]:
        """A table's name, columns and rows, whose bytes are verified once more: whoever keeps the backup may show others this time.

        Their end raises Refused where they are others.
        """
        with (self.snapshot / file.name).open("rb") as opened:
            name, columns = parse_header(opened.readline())
        return name, columns, _rows(self.snapshot / file.name, file)

    def tables(self) -> Iterator[BackupFile]:
        """The files of tables."""
        return (each for each in self.manifest.files if each.name.startswith("tables/"))

    def bodies(self) -> Iterator[bytes]:
        """The log's entries."""
        return (row["body"] for row in _rows(self.snapshot / f"tables/{LOG_TABLE}.jsonl"))

    def artifacts(self) -> Iterator[tuple[Digest, bytes]]:
        """Every artifact, verified as it is read. Raises CovenantError for one that is missing or altered."""
        store = ArtifactStore(self.folder / ARTIFACTS)
        for name in (self.snapshot / ARTIFACT_LIST).read_text().split():
            yield digest(name), store.get(digest(name))


def check_backup(folder: Path, pinned: SignedRoot, snapshot: str | None = None) -> CheckedBackup:
    """Verify the backup in `folder`, its newest one unless a `snapshot` is named. Raises CovenantError at the first thing that is wrong."""
    known = snapshots_of(folder)
    chosen = known[-1] if snapshot is None else folder / SNAPSHOTS / snapshot
    if chosen not in known:
        raise UsageError(
            f"{folder} has no backup {snapshot}; it has {', '.join(each.name for each in known)}"
        )
    try:
        return _checked(folder, chosen, pinned)
    except OSError as error:
        raise UsageError(f"the backup in {chosen} cannot be read: {error.strerror}") from error


def _checked(folder: Path, chosen: Path, pinned: SignedRoot) -> CheckedBackup:
    with (chosen / MANIFEST).open("rb") as file:
        signed = SignedManifest.from_canonical(file.read(_LONGEST_MANIFEST).strip())
    claimed = signed.manifest
    if (claimed.federation, claimed.fingerprint) != (pinned.root.federation, pinned.root.digest):
        raise Refused(
            f"this backup is of {claimed.federation} with root {claimed.fingerprint}; the root that you have is of {pinned.root.federation}, {pinned.root.digest}"
        )
    _require_files(chosen, claimed)
    story = Audit(pinned)
    for seq, (row, nodes) in enumerate(_log_rows(chosen)):
        if row["seq"] != seq or row["nodes"] != nodes:
            raise Refused(f"entry {seq} of the log in this backup is not stored as it must be")
        story.take(seq, row["body"])
    story.require_whole()
    membership, members = _members(chosen, story, pinned)
    manifest, key = signed.require(members.service("log").key), log_key_of(members)
    head, tree = Checkpoint.parse(SignedNote.parse(manifest.head).require(key)), story.witnesses.tree
    if (head.origin, head.size, head.root) != (key.name, tree.size, tree.root):
        raise Refused(
            f"the head of this backup is of {head.size} entries, and the {tree.size} in it are not those: entries were changed, added or removed"
        )
    checked = CheckedBackup(
        folder=folder,
        snapshot=chosen,
        manifest=manifest,
        digest=manifest.digest,
        head=head,
        key=key,
        members=members,
        membership=membership,
        story=story,
    )
    _require_artifacts(checked)
    return checked


def _require_files(chosen: Path, claimed: BackupManifest) -> None:
    there = {str(each.relative_to(chosen)) for each in chosen.rglob("*") if each.is_file()} - {MANIFEST}
    named = {each.name for each in claimed.files}
    for name in sorted(there ^ named):
        raise Refused(f"{name} is {'not in' if name in named else 'no file of'} this backup")
    for each in claimed.files:
        if (size := (chosen / each.name).stat().st_size) != each.bytes:
            raise Refused(
                f"{each.name} has {size} bytes; the manifest says {each.bytes}: it was cut short or changed"
            )
        if (found := _digest_of(chosen / each.name)) != (each.sha256, each.bytes):
            raise Refused(
                f"{each.name} has {found[1]} bytes and digest {found[0]}; the manifest says {each.bytes} and {each.sha256}: it was cut short or changed"
            )


def _require_artifacts(checked: CheckedBackup) -> None:
    count = 0
    for _ in checked.artifacts():
        count += 1
    if count != checked.manifest.artifacts:
        raise Refused(f"this backup lists {count} artifacts; its manifest says {checked.manifest.artifacts}")


def _members(chosen: Path, story: Audit, pinned: SignedRoot) -> tuple[Membership, MemberList]:
    """The newest member list of a backup: the one beside the log, unless the log has come to a newer one."""
    data = (chosen / MEMBERS).read_bytes().strip()
    if not data:
        raise Refused("this backup has no member list, so nothing says whose key signs it")
    membership = Membership.from_canonical(data)
    members = membership.verify(pinned).members
    if story.members is not None and story.members.version > members.version:
        raise Refused(
            f"the log of this backup has member list {story.members.ref}, and beside it lies an older one, {members.ref}"
        )
    return membership, members


def _log_rows(chosen: Path) -> Iterator[tuple[Row, bytes]]:
    """The log's rows, and the hashes of the subtrees that each completes."""
    tree = Frontier()
    for row in _rows(chosen / f"tables/{LOG_TABLE}.jsonl"):
        tree, completed = tree.append(leaf_hash(row["body"]))
        yield row, b"".join(node for _, _, node in completed)


def _rows(path: Path, expected: BackupFile | None = None) -> Iterator[Row]:
    found = hashlib.sha256()
    with path.open("rb") as file:
        content = lines(file)
        first = next(content, b"")
        found.update(first + b"\n")
        _, columns = parse_header(first)
        for line in content:
            found.update(line + b"\n")
            yield parse_line(line, columns)
    if expected is not None and found.hexdigest() != expected.sha256:
        raise Refused(f"{expected.name} was changed after it was verified; nothing was kept")


def _digest_of(path: Path) -> tuple[str, int]:
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            found.update(piece)
            size += len(piece)
    return found.hexdigest(), size
