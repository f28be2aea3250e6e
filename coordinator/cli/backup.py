"""`covenant backup`: the coordinator's record, kept where it can be had back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import click
import typer
from typer.core import TyperGroup

from coordinator.cli.options import Home, Json, TrustedRoot, centre_at
from coordinator.cli.signing import now
from coordinator.governance.log import open_log
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import CheckedBackup, check_backup
from protos.documents import load_document
from protos.root import SignedRoot
from protos.shell import emit, people, tell


class WithDefault(TyperGroup):
    """A group whose first word may be an argument: `covenant backup FOLDER` is `covenant backup make FOLDER`."""

    default = "make"

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put the default command before what names none."""
        if args and args[0] not in self.commands and args[0] not in {"--help", "-h"}:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=WithDefault,
    no_args_is_help=True,
    help="Backups of the database, the artifacts and the log: `covenant backup FOLDER` makes one. Private keys are not in it.",
)
Folder = Annotated[Path, typer.Argument(help="The folder of the backups.")]
Snapshot = Annotated[
    str | None, typer.Option(help="Which backup in the folder, by its time; the newest if left out.")
]


@app.command("make")
def make(folder: Folder, home: Home = None, json: Json = False) -> None:
    """Make a backup in a new folder, or a further one in a folder of backups. The coordinator may go on meanwhile.

    Private keys, passphrases and tokens are not in it: keep those of their own, apart from it.
    """
    centre = centre_at(home)
    log = open_log(centre.engine, centre.settings, centre.clock)
    made = make_backup(centre.settings, log, centre.artifacts, folder, tell)
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
    tell(
        f"made {made.snapshot}, up to entry {head.size} of the log. Private keys and secrets are not in it: back up log.key, console.key, tls/ and secrets/ of their own"
    )


@app.command("verify")
def verify(folder: Folder, root: TrustedRoot, snapshot: Snapshot = None, json: Json = False) -> None:
    """Check a backup as a whole: every file, the signature, every artifact, and the log entry by entry."""
    with people.status(f"reading {folder}"):
        found = check_backup(folder, load_document(root, SignedRoot), snapshot)
    if json:
        emit(_facts(found))
        return
    manifest = found.manifest
    tell(
        f"verified: {found.snapshot} of {manifest.federation}, {manifest.age_words(now())} old, with all {found.head.size} entries of the log and"
        f" {manifest.artifacts} artifacts"
    )
    if manifest.missing:
        tell(f"{manifest.missing} artifacts that rows name were missing already when it was made")


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
