"""Restoring a backup into an empty database, and what is known to have come after it.

1. Everything is verified before anything is written: the backup, the copies, the gap. What the tables say of halts and charges must be what the
   log says (`told`), before anything is kept.
2. One transaction makes the schema of the backup, loads its rows, brings the schema up to date, appends the entries that the longest copy has and
   replays their effects, and ends what was going. Whatever interrupts it leaves the database empty; artifacts in their store do no harm.
3. With a later head known and neither a copy that reaches it nor a signed gap, the database waits: it is restored, and does nothing (`restores`).
4. A gap becomes the first entry after the head that was kept, if an auditor would believe it there: an entry that nobody believes spoils the log for
   good.
5. Who led is not restored: whoever serves the restored database takes its lease anew. Nor are sessions of the console and links to it: those that were
   ended or used since would open it again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Final

from sqlalchemy import Connection, Engine, Table, select
from sqlalchemy.orm import Session

from coordinator.db.console_schema import ConsoleLink, ConsoleSession
from coordinator.db.engine import writing
from coordinator.db.errors import clear_errors
from coordinator.db.halt_schema import LeadershipRow
from coordinator.db.log_schema import LoggedCheckpoint
from coordinator.db.migrate import revision_of, upgrade
from coordinator.db.recovery_schema import Restore
from coordinator.db.schema import FINAL_STATES, Run
from coordinator.governance.log import TransparencyLog, append, append_again, require_head
from coordinator.governance.members import newest_root
from coordinator.governance.replay import Replay
from coordinator.recovery.checked import CheckedBackup
from coordinator.recovery.copies import Reach
from coordinator.recovery.endings import end_open_runs
from coordinator.recovery.rows import set_sequences, tables_of, write_rows
from coordinator.recovery.told import require_as_told
from coordinator.registry.artifacts import ArtifactStore
from protos.gaps import SoundGap
from protos.log_clock import CLOCKS_DIFFER
from protos.log_entries import GapLogged, LoggedDocument
from strategies.errors import Refused, UsageError
from strategies.transparency.notes import Checkpoint, SignedNote

_PAGE = 500
_DOING = "restoring the backup"
_LEASE: Final = LeadershipRow.__tablename__
_NOT_RESTORED: Final = frozenset({_LEASE, ConsoleLink.__tablename__, ConsoleSession.__tablename__})
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a restore came to: `size` is that of the log now, `replayed` how many entries came from a copy. It `waits` for later ones or a gap."""

    size: int
    kept: int
    replayed: int
    waits: bool
    gap: int | None
    ended: int


def restore(
    reach: Reach,
    engine: Engine,
    *,
    artifacts: ArtifactStore | None,
    gap: SoundGap | None,
    clock: Callable[[], datetime],
    say: Say,
) -> Restored:
    """Restore as far as `reach` leads, into the empty database of `engine`, and the artifacts into their store unless it is None.

    Raises UsageError for a database that is not empty, Refused for a gap of another head or one that does not name all later ones.
    """
    _require_bridged(reach, gap)
    with clear_errors(engine, _DOING), engine.begin() as connection:
        _prepare(connection, reach.backup)
        if artifacts is not None:
            say(f"artifacts: {_copy_artifacts(reach.backup, artifacts)}")
        _load(connection, reach.backup, say)
        upgrade(connection)
        with Session(bind=connection, expire_on_commit=False) as session:
            require_as_told(session, reach.backup.story)
            replayed = _replay(session, engine, reach, clock())
            say(f"replayed {replayed} entries of a copy of the log")
            row = _record(session, reach, gap, clock())
            ended = _resume_log(session, gap, row, clock())
            size = append(session, clock(), ()) if not row.waits else row.size
            session.commit()
    return Restored(
        size=size,
        kept=reach.backup.head.size,
        replayed=replayed,
        waits=row.waits,
        gap=row.gap_entry,
        ended=ended,
    )


def apply_gap(log: TransparencyLog, gap: SoundGap) -> int:
    """Let a restored database that waits go on after a signed `gap`; returns the number of its entry. Raises Refused, and UsageError where none waits."""
    with writing(log.engine, "applying a gap") as session:
        row = session.scalar(select(Restore).where(Restore.waits).with_for_update())
        if row is None:
            raise UsageError("no restore waits for a gap here; there is nothing to bridge")
        gap.require_after(log.head(row.size))
        for each in row.later:
            gap.require_names(Checkpoint.parse(SignedNote.parse(each).text))
        now = log.clock()
        entry = _append_gap(session, row, gap, now)
        append(session, now, end_open_runs(session, now, _why(row)))
    return entry


def _require_bridged(reach: Reach, gap: SoundGap | None) -> None:
    if gap is None:
        return
    gap.require_after(reach.head)
    for each in reach.later:
        gap.require_names(each.head)


def _prepare(connection: Connection, backup: CheckedBackup) -> None:
    """Have an empty database at the backup's revision. Raises UsageError where it is not empty, or at another revision."""
    revision = revision_of(connection)
    for table in tables_of(connection):
        if _is_fresh_lease(connection, table):
            continue
        if connection.execute(select(table).limit(1)).first() is not None:
            raise UsageError(
                f"the database has rows in {table.name}; a backup is restored into an empty one only. Name a new database in covenant.yaml"
            )
    wanted = backup.manifest.revision
    if revision not in {None, wanted}:
        raise UsageError(
            f"the empty database has the schema of revision {revision}, and the backup is of {wanted}: name one without any table"
        )
    if revision is None:
        upgrade(connection, wanted)


def _is_fresh_lease(connection: Connection, table: Table) -> bool:
    """Whether it is the row that says who leads, as its table is made: nobody has led here."""
    return table.name == _LEASE and all(row.term == 0 for row in connection.execute(select(table)))


def _load(connection: Connection, backup: CheckedBackup, say: Say) -> None:
    tables = tables_of(connection)
    files = {each.name.removeprefix("tables/").removesuffix(".jsonl"): each for each in backup.tables()}
    if unknown := sorted(set(files) ^ {table.name for table in tables}):
        raise Refused(f"the backup and the schema of its revision differ in table {unknown[0]}")
    for table in tables:
        file = files[table.name]
        name, _, rows = backup.rows(file)
        if name == table.name and name in _NOT_RESTORED:
            continue
        written = write_rows(connection, table, rows)
        if (name, written) != (table.name, file.rows):
            raise Refused(f"{file.name} has {written} rows of {name}; the manifest says {file.rows}")
        say(f"{table.name}: {written} rows")
    set_sequences(connection, tables)


def _copy_artifacts(backup: CheckedBackup, artifacts: ArtifactStore) -> int:
    count = 0
    for _, data in backup.artifacts():
        artifacts.put(data)
        count += 1
    return count


def _replay(session: Session, engine: Engine, reach: Reach, now: datetime) -> int:
    """Append what the longest copy has, byte for byte, and replay it; how many entries that were."""
    replay, seq = Replay(session, engine, reach.backup.story.pinned), reach.backup.head.size
    missing = reach.missing()
    while page := list(islice(missing, _PAGE)):
        for each in page:
            append_again(session, [each])
            replay.take(seq, each)
            seq += 1
    require_head(session, reach.head)
    if session.get(LoggedCheckpoint, reach.head.size) is None:
        session.add(LoggedCheckpoint(size=reach.head.size, note=reach.note.encoded, signed_at=now))
    return seq - reach.backup.head.size


def _record(session: Session, reach: Reach, gap: SoundGap | None, now: datetime) -> Restore:
    backup = reach.backup
    row = Restore(
        restored_at=now,
        backup=backup.digest,
        made_at=backup.manifest.made,
        kept_size=backup.head.size,
        kept_root=backup.head.root.hex(),
        size=reach.head.size,
        later=[each.note.encoded for each in reach.later],
        waits=bool(reach.later) and gap is None,
    )
    session.add(row)
    session.flush()
    return row


def _resume_log(session: Session, gap: SoundGap | None, row: Restore, now: datetime) -> int:
    """The first entries of the restored log: the gap, and the ends of the runs that were going, whose number is returned."""
    if row.waits:
        return 0
    if gap is not None:
        _append_gap(session, row, gap, now)
    going = len(session.scalars(select(Run.id).where(Run.state.not_in(FINAL_STATES))).all())
    append(session, now, end_open_runs(session, now, _why(row)))
    return going


def _append_gap(session: Session, row: Restore, gap: SoundGap, now: datetime) -> int:
    row.waits, row.gap_entry = False, row.size
    session.flush()
    append(session, now, _gap_entry(session, gap, now))
    session.flush()
    return row.size


def _gap_entry(session: Session, gap: SoundGap, now: datetime) -> Iterator[GapLogged]:
    newest = newest_root(session)
    if gap.root.version < newest:
        raise Refused(
            f"the gap is signed under root version {gap.root.version}, and the log has come to version {newest}: have its officers sign one"
        )
    if gap.declared.declared > now + CLOCKS_DIFFER:
        raise Refused(
            f"the gap is declared for {gap.declared.declared:%Y-%m-%d %H:%M:%S} UTC, which has not come: no site's statement would be later. Have one"
            " signed for today"
        )
    yield GapLogged(gap=LoggedDocument.of(gap.signed))


def _why(row: Restore) -> str:
    copied = f" and a copy of the log up to {row.size} entries" if row.size > row.kept_size else ""
    return f"restored from the backup of {row.made_at:%Y-%m-%d %H:%M} UTC{copied}"
