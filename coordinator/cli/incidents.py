"""`covenant incident`: the evidence of an incident in one file, and its verification."""

from __future__ import annotations

from datetime import datetime, time
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import Home, Json, KnownMembers, TrustedRoot, centre_at
from coordinator.documents import read_membership
from coordinator.governance.incidents import export_incident
from protos.documents import load_document
from protos.incident import verify_incident
from protos.log_facts import facts_of
from protos.moments import end_of_day
from protos.root import SignedRoot
from protos.shell import emit, people
from strategies.ids import run_id

app = typer.Typer(no_args_is_help=True, help="The evidence of an incident.")


@app.command("export")
def export(
    target: Annotated[Path, typer.Argument(help="The .zip file to write, or a folder in which one is made.")],
    run: Annotated[
        list[str] | None,
        typer.Option(help="A run that is concerned; repeatable. Without it, all of --since."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            help="Day, YYYY-MM-DD, from its beginning in UTC: runs that were over before are left out."
        ),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Pack log, witnesses with evidence of forks, halts, runs, accounts and the ends of the logs into one signed file: no rows, no keys, nothing of a sum before noise."""
    runs = tuple(run_id(each) for each in run or ())
    path, manifest = export_incident(centre_at(home), target, runs, None if since is None else _begins(since))
    if json:
        emit({"file": str(path), "files": sorted(manifest.files), "runs": list(manifest.runs)})
        return
    people.print(
        f"wrote {len(manifest.files)} files about {len(manifest.runs)} runs to {path}; whoever has root.json checks it with"
        " `covenant incident verify`",
        highlight=False,
    )


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="What `covenant incident export` wrote.")],
    root: TrustedRoot,
    members: KnownMembers = None,
    json: Json = False,
) -> None:
    """Check an incident's file without its coordinator: its log from the first entry, its manifest, and that both agree."""
    pinned = load_document(root, SignedRoot)
    found = verify_incident(file, pinned, None if members is None else read_membership(members))
    if json:
        emit(
            {
                "at": found.manifest.at.isoformat(),
                "files": sorted(found.manifest.files),
                "concerns": list(found.manifest.runs),
                "versions": found.manifest.versions,
                **facts_of(found.log, pinned),
            }
        )
        return
    people.print(
        f"verified: {len(found.manifest.files)} files of {found.manifest.at:%Y-%m-%d %H:%M:%S} UTC are those that the log's key signed for, and"
        f" the log of {found.log.head.size} entries among them is whole (fingerprint of its root {pinned.root.fingerprint}). Process logs are"
        " what the coordinator says of itself",
        highlight=False,
        markup=False,
    )


def _begins(day: str) -> datetime:
    return datetime.combine(end_of_day(day).date(), time.min, end_of_day(day).tzinfo)
