"""`covenant restore`: getting the coordinator's record back without losing a charge or an entry that somebody has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer
from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from coordinator.cli.backup import Folder, Snapshot, WithDefault
from coordinator.cli.options import Home, Json, TrustedRoot
from coordinator.cli.signing import now
from coordinator.db.engine import open_database, reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.documents import read_membership
from coordinator.recovery.checked import check_backup
from coordinator.recovery.copies import Reach, reach
from coordinator.recovery.restore import Restored, restore
from coordinator.registry.artifacts import ArtifactStore
from coordinator.settings import Settings, load_settings
from protos.documents import load_document
from protos.gaps import SignedGap
from protos.membership import MemberList
from protos.root import SignedRoot
from protos.shell import emit, people, tell
from strategies.errors import Refused, UsageError


class _Restores(WithDefault):
    default = "into"


app = typer.Typer(
    cls=_Restores,
    no_args_is_help=True,
    help="Restoring a backup, and what came after it: `covenant restore FOLDER` does it.",
)
Copies = Annotated[
    list[Path] | None,
    typer.Option("--copy", help="An export of the log that somebody kept, such as an auditor; repeatable."),
]
Witnessed = Annotated[
    list[Path] | None,
    typer.Option("--witnessed", help="A signed note of a head that somebody knows of; repeatable."),
]


@app.command("into")
def into(
    folder: Folder,
    root: TrustedRoot,
    *,
    copy: Copies = None,
    witnessed: Witnessed = None,
    gap: Annotated[
        Path | None, typer.Option(help="A signed gap, where what came after is lost for good.")
    ] = None,
    snapshot: Snapshot = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Restore a backup into the empty database of a coordinator, and what copies of the log have beyond it.

    Nothing is written before everything was verified. With a later head known and no way to it, the coordinator does not serve.
    """
    settings, pinned = load_settings(home), load_document(root, SignedRoot)
    _require_same_federation(settings, pinned)
    found = reach_of(folder, pinned, snapshot, copy, witnessed, _listed(settings, pinned))
    signed = None if gap is None else load_document(gap, SignedGap).verify(pinned)
    engine = open_database(settings.database_url)
    done = restore(
        found,
        engine,
        artifacts=ArtifactStore(settings.artifacts),
        gap=signed,
        clock=now,
        say=tell,
    )
    if json:
        emit(_outcome(found, done))
    else:
        _show(found, done)


@app.command("drill")
def drill(
    folder: Folder,
    root: TrustedRoot,
    *,
    copy: Copies = None,
    witnessed: Witnessed = None,
    snapshot: Snapshot = None,
    database: Annotated[
        str | None, typer.Option(help="An empty database to restore into; a scratch file if left out.")
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Restore into a scratch database and say what would be lost today. The coordinator is looked at, and nothing of it changes."""
    pinned = load_document(root, SignedRoot)
    found = reach_of(folder, pinned, snapshot, copy, witnessed)
    with TemporaryDirectory(prefix="covenant-drill-") as scratch:
        engine = open_database(database or f"sqlite:///{Path(scratch) / 'drill.db'}")
        try:
            done = restore(found, engine, artifacts=None, gap=None, clock=now, say=tell)
        finally:
            engine.dispose()
    behind = _entries_behind(found, home)
    facts = {
        **_outcome(found, done),
        "age_s": (now() - found.backup.manifest.made).total_seconds(),
        "entries_behind": behind,
    }
    if json:
        emit(facts)
        return
    _show(found, done)
    lost = (
        "no coordinator is here to compare with"
        if behind is None
        else f"{behind} entries of the log here would be lost"
    )
    tell(f"drill: the backup is {found.backup.manifest.age_words(now())} old; {lost}. Nothing was changed")


def reach_of(
    folder: Path,
    pinned: SignedRoot,
    snapshot: str | None,
    copies: Sequence[Path] | None,
    witnessed: Sequence[Path] | None,
    known: MemberList | None = None,
) -> Reach:
    """How far a verified backup, copies and notes lead, for whoever has the member list `known`."""
    with people.status(f"verifying {folder}"):
        return reach(check_backup(folder, pinned, snapshot), copies or (), witnessed or (), pinned, known)


def _listed(settings: Settings, pinned: SignedRoot) -> MemberList | None:
    """The member list that lies in the coordinator's home, if there is one. Raises Refused for one that does not lead from the root."""
    if not settings.members_file.exists():
        return None
    return read_membership(settings.members_file).verify(pinned).members


def _require_same_federation(settings: Settings, pinned: SignedRoot) -> None:
    if settings.config.federation != pinned.root.federation:
        raise Refused(
            f"the coordinator in {settings.home} is of {settings.config.federation}, and the root of {pinned.root.federation}"
        )


def _entries_behind(found: Reach, home: Path | None) -> int | None:
    """How many entries the log of the coordinator here has beyond what a restore would come to; None where there is none."""
    try:
        url = load_settings(home).database_url
    except UsageError:
        return None
    file = make_url(url).database if url.startswith("sqlite") else None
    if file is not None and not Path(file).exists():
        return None
    engine = open_database(url)
    try:
        with reading(engine, "reading the log's size") as session:
            last = session.scalar(select(func.max(LoggedEntry.seq)))
    finally:
        engine.dispose()
    return max(0, (-1 if last is None else last) + 1 - found.head.size)


def _outcome(found: Reach, done: Restored) -> dict[str, Any]:
    return {
        "backup": str(found.backup.snapshot),
        "kept": done.kept,
        "replayed": done.replayed,
        "entries": done.size,
        "later": [{"size": each.head.size, "root": each.head.root.hex()} for each in found.later],
        "waits": done.waits,
        "gap_entry": done.gap,
        "runs_ended": done.ended,
    }


def _show(found: Reach, done: Restored) -> None:
    tell(
        f"restored {done.kept} entries of the log from {found.backup.snapshot} and {done.replayed} from copies; {done.ended} runs that were going are"
        " ended as failed"
    )
    for each in found.later:
        tell(f"a later head is known: {each.head.size} entries, {each.head.root.hex()} ({each.source})")
    if done.gap is not None:
        tell(
            f"the gap is entry {done.gap}: read each site's statement with `covenant ledger reconcile` before its accounts are charged again"
        )
    if done.waits:
        tell(
            "this coordinator does not serve: restore into an empty database with a copy that reaches that head, or have a gap signed"
            " (`covenant restore gap draft`) and apply it"
        )
