"""`covenant backup` and `covenant restore`: keeping the coordinator's record, and getting it back without losing a charge or an entry."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import click
import typer
from sqlalchemy import func, select
from sqlalchemy.engine import make_url
from typer.core import TyperGroup

from coordinator.cli.options import Home, Json, centre_at
from coordinator.cli.signing import (
    PUBLIC_MODE,
    PassphraseFiles,
    RootFiles,
    SigningKeys,
    now,
    open_keys,
    read_roots,
    show_standings,
    standings,
)
from coordinator.db.engine import open_database, reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.governance.log import open_log
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import CheckedBackup, check_backup
from coordinator.recovery.copies import Reach, reach
from coordinator.recovery.restore import Restored, apply_gap, restore
from coordinator.registry.artifacts import ArtifactStore
from coordinator.settings import Settings, load_settings
from protos.documents import load_document, make_document
from protos.files import replace_file, write_new
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap
from protos.root import SignedRoot
from protos.shell import emit, people
from strategies.errors import Refused, UsageError


class WithDefault(TyperGroup):
    """A group whose first word may be an argument: `covenant backup FOLDER` is `covenant backup make FOLDER`."""

    default = "make"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command before what names none."""
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


class _Restores(WithDefault):
    default = "into"


app = typer.Typer(
    cls=WithDefault,
    no_args_is_help=True,
    help="Backups of the database, the artifacts and the log: `covenant backup FOLDER` makes one. Private keys are not in it.",
)
restores = typer.Typer(
    cls=_Restores,
    no_args_is_help=True,
    help="Restoring a backup, and what came after it: `covenant restore FOLDER` does it.",
)
gaps = typer.Typer(
    no_args_is_help=True,
    help="Entries that are lost for good: the officers sign that the log goes on without.",
)
restores.add_typer(gaps, name="gap")

Folder = Annotated[Path, typer.Argument(help="The folder of the backups.")]
Root = Annotated[Path, typer.Option(help="The federation's root.json, from where you trust it.")]
Snapshot = Annotated[
    str | None, typer.Option(help="Which backup in the folder, by its time; the newest if left out.")
]
Copies = Annotated[
    list[Path] | None,
    typer.Option("--copy", help="An export of the log that somebody kept, such as an auditor; repeatable."),
]
Witnessed = Annotated[
    list[Path] | None,
    typer.Option("--witnessed", help="A signed note of a head that somebody knows of; repeatable."),
]
GapFile = Annotated[Path, typer.Argument(help="The gap.")]


@app.command("make")
def make(folder: Folder, home: Home = None, json: Json = False) -> None:
    """Make a backup in a new folder, or a further one in a folder of backups. The coordinator may go on meanwhile.

    Private keys, passphrases and tokens are not in it: keep those of their own, apart from it.
    """
    centre = centre_at(home)
    log = open_log(centre.engine, centre.settings, centre.clock)
    made = make_backup(centre.settings, log, centre.artifacts, folder, _say)
    head = made.manifest.checkpoint()
    if json:
        emit(
            {
                "snapshot": str(made.snapshot),
                "entries": head.size,
                "root": head.root.hex(),
                "artifacts": made.manifest.artifacts,
                "artifacts_missing": made.manifest.missing,
                "artifacts_new": made.copied,
                "digest": made.manifest.digest,
            }
        )
        return
    _tell(
        f"made {made.snapshot}, up to entry {head.size} of the log. Private keys and secrets are not in it: back up log.key, tls/ and secrets/ of their own"
    )


@app.command("verify")
def verify(folder: Folder, root: Root, snapshot: Snapshot = None, json: Json = False) -> None:
    """Check a backup as a whole: every file, the signature, every artifact, and the log entry by entry."""
    with people.status(f"reading {folder}"):
        found = check_backup(folder, load_document(root, SignedRoot), snapshot)
    if json:
        emit(_facts(found))
        return
    manifest = found.manifest
    _tell(
        f"verified: {found.snapshot} of {manifest.federation}, {manifest.age_words(now())} old, with all {found.head.size} entries of the log and"
        f" {manifest.artifacts} artifacts"
    )
    if manifest.missing:
        _tell(f"{manifest.missing} artifacts that rows name were missing already when it was made")


@restores.command("into")
def into(
    folder: Folder,
    root: Root,
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
    found = _reach(folder, pinned, snapshot, copy, witnessed)
    signed = None if gap is None else load_document(gap, SignedGap).verify(pinned)
    engine = open_database(settings.database_url)
    done = restore(
        found,
        engine,
        artifacts=ArtifactStore(settings.artifacts),
        gap=signed,
        clock=lambda: datetime.now(UTC),
        say=_say,
    )
    if json:
        emit(_outcome(found, done))
    else:
        _show(found, done)


@restores.command("drill")
def drill(
    folder: Folder,
    root: Root,
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
    found = _reach(folder, pinned, snapshot, copy, witnessed)
    with TemporaryDirectory(prefix="covenant-drill-") as scratch:
        engine = open_database(database or f"sqlite:///{Path(scratch) / 'drill.db'}")
        try:
            done = restore(found, engine, artifacts=None, gap=None, clock=lambda: datetime.now(UTC), say=_say)
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
    _tell(f"drill: the backup is {found.backup.manifest.age_words(now())} old; {lost}. Nothing was changed")


@gaps.command("draft")
def draft(
    file: GapFile,
    *,
    backup: Annotated[Path, typer.Option(help="The folder of the backup that is to be restored.")],
    root: RootFiles,
    reason: Annotated[str, typer.Option(help="What happened; it is in the log for good.")],
    copy: Copies = None,
    witnessed: Witnessed = None,
    snapshot: Snapshot = None,
) -> None:
    """Draft a gap: what is kept of the log, by the backup and its copies, and which later heads are lost. Officers sign it."""
    roots = read_roots(root)
    found = _reach(backup, roots.pinned, snapshot, copy, witnessed)
    roots = roots.with_chain(found.backup.membership.roots)
    declared = make_document(
        GapDeclared,
        "the gap",
        federation=roots.pinned.root.federation,
        kept=GapHead.of(found.head),
        lost=tuple(LostHead.known_by(each.note) for each in found.later),
        reason=reason,
        declared=now().replace(microsecond=0),
    )
    made = make_document(SignedGap, "the gap", gap=declared, roots=roots.chain)
    write_new(file, made.canonical + b"\n", mode=PUBLIC_MODE)
    _show_gap(made)
    _tell(f"drafted {file}; its officers sign it with `covenant restore gap sign`")


@gaps.command("sign")
def sign(
    file: GapFile, root: RootFiles, key: SigningKeys = None, passphrase_file: PassphraseFiles = None
) -> None:
    """Add a signature to a gap, in place. Look at it with `covenant restore gap show` first: it gives up what it names."""
    signed = load_document(file, SignedGap)
    roots = read_roots(root).with_chain(signed.roots)
    roots.newest.require_current(now())
    signers = open_keys(key, passphrase_file)
    if not signers:
        raise UsageError("nobody signs; name a private key with --key")
    for signer in signers:
        signed = signed.signed_with(signer, roots.newest)
    replace_file(file, signed.canonical + b"\n", mode=PUBLIC_MODE)
    show_standings("the gap", standings(signed.signed, [roots.newest]), file)


@gaps.command("show")
def show(file: GapFile, root: RootFiles, json: Json = False) -> None:
    """Show a gap: what is kept, which heads are lost, why, and who has signed."""
    signed = load_document(file, SignedGap)
    roots = read_roots(root).with_chain(signed.roots)
    (standing,) = standings(signed.signed, [roots.newest])
    if json:
        emit(
            {
                "gap": signed.gap.model_dump(mode="json"),
                "signatures": standing.facts(),
                "valid": not standing.lacking,
            }
        )
        return
    _show_gap(signed)
    show_standings("the gap", [standing], file)


@gaps.command("apply")
def apply(file: GapFile, root: Root, home: Home = None, json: Json = False) -> None:
    """Let a restored coordinator that waits go on after a signed gap, which becomes the first entry of its log from there."""
    gap = load_document(file, SignedGap).verify(load_document(root, SignedRoot))
    centre = centre_at(home)
    entry = apply_gap(open_log(centre.engine, centre.settings, centre.clock), gap)
    if json:
        emit({"entry": entry, "gap": gap.signed.digest})
        return
    _tell(
        f"the gap is entry {entry} of the log; the coordinator may serve. A site's accounts are charged again once its statement was read with"
        " `covenant ledger reconcile`"
    )


def _reach(
    folder: Path,
    pinned: SignedRoot,
    snapshot: str | None,
    copies: Sequence[Path] | None,
    witnessed: Sequence[Path] | None,
) -> Reach:
    with people.status(f"verifying {folder}"):
        return reach(check_backup(folder, pinned, snapshot), copies or (), witnessed or (), pinned)


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


def _facts(found: CheckedBackup) -> dict[str, Any]:
    return {
        "verified": True,
        "snapshot": str(found.snapshot),
        "federation": found.manifest.federation,
        "made": found.manifest.made.isoformat(),
        "entries": found.head.size,
        "root": found.head.root.hex(),
        "revision": found.manifest.revision,
        "artifacts": found.manifest.artifacts,
        "artifacts_missing": found.manifest.missing,
        "runs": len(found.story.runs),
        "models": len(found.story.models),
    }


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
    _tell(
        f"restored {done.kept} entries of the log from {found.backup.snapshot} and {done.replayed} from copies; {done.ended} runs that were going are"
        " ended as failed"
    )
    for each in found.later:
        _tell(f"a later head is known: {each.head.size} entries, {each.head.root.hex()} ({each.source})")
    if done.gap is not None:
        _tell(
            f"the gap is entry {done.gap}: read each site's statement with `covenant ledger reconcile` before its accounts are charged again"
        )
    if done.waits:
        _tell(
            "this coordinator does not serve: restore into an empty database with a copy that reaches that head, or have a gap signed"
            " (`covenant restore gap draft`) and apply it"
        )


def _show_gap(signed: SignedGap) -> None:
    gap = signed.gap
    _tell(f"gap of {gap.federation}, declared {gap.declared:%Y-%m-%d %H:%M}: {gap.reason}")
    _tell(f"  kept: {gap.kept.words}")
    for each in gap.lost:
        _tell(f"  lost: {each.words}")
    if not gap.lost:
        _tell("  no later head is known")


def _say(text: str) -> None:
    people.print(text, highlight=False, markup=False)


def _tell(text: str) -> None:
    people.print(text, highlight=False, markup=False, soft_wrap=True)
