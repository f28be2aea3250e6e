"""Making a backup: a snapshot of every table, what the rows name, and a manifest that the log's key signs.

A backup's folder holds `snapshots/TIME/` for each backup, and `artifacts/`, which they share: it only grows, so a later backup copies what is new.

1. A snapshot is written under another name, flushed, and renamed as a whole: there is none that is half-written.
2. Artifacts are verified as they are copied. They are there before the snapshot that names them.
3. No private key, passphrase, token or database password goes into it.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Table
from sqlalchemy.engine import make_url

from coordinator.db.migrate import revision_of
from coordinator.governance.log import TransparencyLog
from coordinator.keys import CARD_SUFFIX, log_signer
from coordinator.recovery.rows import header_of, line_of, read_rows, tables_of
from coordinator.recovery.snapshot import snapshot
from coordinator.registry.artifacts import ArtifactStore
from coordinator.settings import CONFIG_NAME, Settings
from protos.backups import BackupFile, BackupManifest, SignedManifest
from protos.documents import load_document
from protos.root import SignedRoot
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, UsageError
from strategies.ids import Digest
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint, SignedNote

MANIFEST: Final = "MANIFEST.json"
SNAPSHOTS: Final = "snapshots"
ARTIFACTS: Final = "artifacts"
ARTIFACT_LIST: Final = "documents/artifacts.txt"
MEMBERS: Final = "documents/members.json"
LOG_TABLE: Final = "log_entries"
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_NAMING: Final = {
    "checkpoints": ("model_artifact", "optimizer_artifact"),
    "rounds": ("aggregate_digest",),
    "models": ("artifacts", "signature"),
}
"""The columns that name artifacts."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A backup that was made."""

    snapshot: Path
    manifest: BackupManifest
    copied: int
    """How many artifacts an earlier backup did not have."""


def make_backup(
    settings: Settings, log: TransparencyLog, artifacts: ArtifactStore, folder: Path, say: Say
) -> Made:
    """Back the coordinator of `settings` up into `folder`, which is new or holds its earlier backups. Raises CovenantError, and leaves no snapshot."""
    root = load_document(settings.root_file, SignedRoot)
    if not settings.members_file.exists():
        raise UsageError(
            f"{settings.members_file} does not exist, so nothing would say whose key signs a backup; put the member list there first"
        )
    now = log.clock()
    name = f"{now:%Y-%m-%dT%H-%M-%SZ}"
    _prepare(folder)
    final, making = folder / SNAPSHOTS / name, folder / SNAPSHOTS / f".{name}.making"
    if final.exists():
        raise UsageError(f"{final} exists; a backup of this second is there already")
    try:
        with _made_as(making):
            kept = ArtifactStore(folder / ARTIFACTS)
            kept.remove_left_over(now)
            manifest, copied = _write_snapshot(
                settings, root.root.digest, log, (artifacts, kept), making, now, say
            )
            making.rename(final)
        _sync_folder(folder / SNAPSHOTS)
    except OSError as error:
        raise CovenantError(
            f"{making} cannot be written: {error.strerror}; no backup was made, earlier ones are as they were"
        ) from error
    return Made(snapshot=final, manifest=manifest, copied=copied)


@contextmanager
def _made_as(making: Path) -> Iterator[None]:
    """Have the folder `making` while the block writes it; it is gone if the block raises. Another's is left alone. Raises UsageError, OSError."""
    try:
        making.mkdir(mode=0o700)
    except FileExistsError as error:
        raise UsageError(
            f"{making} exists; another backup of this second is being made, make this one again"
        ) from error
    try:
        yield
    except BaseException:
        with suppress(OSError):
            shutil.rmtree(making)
        raise


def snapshots_of(folder: Path) -> list[Path]:
    """The backups in `folder`, oldest first. Raises UsageError where there are none."""
    found = sorted(each for each in (folder / SNAPSHOTS).glob("[0-9]*") if each.is_dir())
    if not found:
        raise UsageError(f"{folder} holds no backup; make one with `covenant backup {folder}`")
    return found


def _artifacts_named(table: str, columns: Sequence[str], row: Sequence[Any]) -> Iterator[Digest]:
    """The artifacts that a row names."""
    for column in _NAMING.get(table, ()):
        value = row[columns.index(column)] if column in columns else None
        found = value.values() if isinstance(value, dict) else [value]
        yield from (Digest(each) for each in found if isinstance(each, str) and _DIGEST.fullmatch(each))


def _prepare(folder: Path) -> None:
    try:
        if folder.exists() and any(folder.iterdir()) and not (folder / SNAPSHOTS).is_dir():
            raise UsageError(f"{folder} is not empty and holds no backups; name a new folder")
        (folder / SNAPSHOTS).mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
    except OSError as error:
        raise UsageError(f"{folder} cannot be written: {error.strerror}") from error


def _write_snapshot(
    settings: Settings,
    fingerprint: Digest,
    log: TransparencyLog,
    stores: tuple[ArtifactStore, ArtifactStore],
    making: Path,
    now: datetime,
    say: Say,
) -> tuple[BackupManifest, int]:
    """Write all that a snapshot holds into the folder `making`, on disk, and its artifacts from the first of `stores` to the second.

    Returns the manifest, and how many artifacts the second did not have.
    """
    files, named, note, revision = _write_tables(log, making, say)
    copied, missing, artifact_list = _copy_artifacts(*stores, named, say)
    files += _write_documents(settings, making, artifact_list)
    manifest = BackupManifest(
        federation=settings.config.federation,
        fingerprint=fingerprint,
        revision=revision,
        made=now,
        head=note.encoded,
        files=tuple(files),
        artifacts=len(named) - missing,
        missing=missing,
    )
    signed = SignedManifest.of(manifest, log_signer(settings))
    _write(making / MANIFEST, [signed.canonical + b"\n"])
    for each in (making / "tables", making / "documents", making):
        _sync_folder(each)
    return manifest, copied


def _write_tables(
    log: TransparencyLog, making: Path, say: Say
) -> tuple[list[BackupFile], set[Digest], SignedNote, str]:
    (making / "tables").mkdir()
    files: list[BackupFile] = []
    named: set[Digest] = set()
    log_head = _Head()
    with snapshot(log.engine, making) as connection:
        revision = revision_of(connection)
        if revision is None:
            raise CovenantError("the database has no schema yet: there is nothing to back up")
        for table in tables_of(connection):
            file = _write_table(connection, table, making, named, log_head)
            say(f"{table.name}: {file.rows} rows")
            files.append(file)
    return files, named, _signed_head(log, log_head.tree), revision


class _Head:
    """The tree over the log's entries as they pass."""

    def __init__(self) -> None:
        self.tree = Frontier()

    def take(self, seq: int, body: bytes) -> None:
        if seq != self.tree.size:
            raise CovenantError(
                f"entry {self.tree.size} of the transparency log is missing: the database was changed by somebody"
            )
        self.tree, _ = self.tree.append(leaf_hash(body))


def _write_table(
    connection: Connection, table: Table, making: Path, named: set[Digest], head: _Head
) -> BackupFile:
    columns = [column.name for column in table.columns]
    rows = 0

    def lines() -> Iterator[bytes]:
        nonlocal rows
        yield header_of(table)
        for row in read_rows(connection, table):
            rows += 1
            named.update(_artifacts_named(table.name, columns, row))
            if table.name == LOG_TABLE:
                head.take(row[columns.index("seq")], bytes(row[columns.index("body")]))
            yield line_of(row, table)

    name = f"tables/{table.name}.jsonl"
    digest, size = _write(making / name, lines())
    return BackupFile(name=name, sha256=digest, bytes=size, rows=rows)


def _signed_head(log: TransparencyLog, tree: Frontier) -> SignedNote:
    """The signed note of the snapshot's head, which must be the one that the log itself has there."""
    head = Checkpoint(origin=log.key.name, size=tree.size, root=tree.root)
    if log.head(tree.size) != head:
        raise CovenantError(
            f"the log's {tree.size} entries do not have the head that the log keeps: the database was changed by somebody. Stop, and keep it as it is"
        )
    return SignedNote(head.text, (log.key.line(log.sign(head.text)),))


def _copy_artifacts(
    source: ArtifactStore, target: ArtifactStore, named: set[Digest], say: Say
) -> tuple[int, int, bytes]:
    """Copy what `target` does not have; how many that were, how many `source` lacks, and the list of those that are there."""
    copied = missing = 0
    there: list[Digest] = []
    for name in sorted(named):
        if not source.path(name).exists():
            missing += 1
            continue
        if not _has(target, name):
            target.put(source.get(name))
            copied += 1
        there.append(name)
    say(f"artifacts: {len(there)}, of which {copied} are new")
    if missing:
        say(f"{missing} artifacts that rows name are not in the store: this backup does not have them either")
    return copied, missing, "".join(f"{name}\n" for name in there).encode()


def _has(store: ArtifactStore, name: Digest) -> bool:
    """Whether a store has an artifact, unaltered."""
    try:
        return sha256_hex(store.path(name).read_bytes()) == name
    except OSError:
        return False


def _write_documents(settings: Settings, making: Path, artifact_list: bytes) -> list[BackupFile]:
    (making / "documents").mkdir()
    found = {ARTIFACT_LIST: artifact_list, f"documents/{CONFIG_NAME}": _config(settings)}
    tls = settings.home / "tls"
    for source in (
        settings.members_file,
        settings.root_file,
        settings.log_key_file.with_suffix(CARD_SUFFIX),
        *sorted(tls.glob("*.crt")),
    ):
        if source.exists():
            found[f"documents/{_plain(source)}"] = source.read_bytes()
    found[MEMBERS] = settings.members_file.read_bytes()  # whatever it is called in the configuration
    files = []
    for name, data in sorted(found.items()):
        digest, size = _write(making / name, [data])
        files.append(BackupFile(name=name, sha256=digest, bytes=size))
    return files


def _plain(path: Path) -> str:
    return re.sub(r"[^a-z0-9._-]", "-", path.name.lower())


def _config(settings: Settings) -> bytes:
    """What the configuration says, without the password that the database's URL may have.

    Not its text: a password may stand in a comment, or be written in another form than it is read in.
    """
    facts = settings.config.model_dump(mode="json", exclude_unset=True)
    if settings.config.database is not None:
        facts["database"] = make_url(settings.config.database).render_as_string(hide_password=True)
    return json.dumps(facts, indent=1, ensure_ascii=False).encode() + b"\n"


def _write(path: Path, lines: Iterable[bytes]) -> tuple[Digest, int]:
    """Write a new file, flushed; its digest and size."""
    digest, size = hashlib.sha256(), 0
    with path.open("xb") as file:
        for line in lines:
            file.write(line)
            digest.update(line)
            size += len(line)
        file.flush()
        os.fsync(file.fileno())
    return Digest(digest.hexdigest()), size


def _sync_folder(folder: Path) -> None:
    """Flush the entries of a folder: a rename is not durable before that."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
