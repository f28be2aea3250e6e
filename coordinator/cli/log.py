"""`covenant log`: what was decided and done, kept so that others can check it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from coordinator.cli.log_tables import show_entries, show_verified
from coordinator.cli.options import Home, Json, centre_at
from coordinator.documents import read_membership
from coordinator.governance.exports import export_log
from coordinator.governance.log import TransparencyLog, open_log
from protos.documents import load_document
from protos.files import write_new
from protos.log_entries import LogEntry
from protos.log_export import Verified, verify_file
from protos.root import SignedRoot
from protos.shell import emit, people
from strategies.transparency.notes import Checkpoint

app = typer.Typer(no_args_is_help=True, help="The transparency log.")


@app.command("show")
def show(
    last: Annotated[
        int, typer.Option(min=1, max=10_000, help="How many entries, from the newest back.")
    ] = 50,
    kind: Annotated[
        str | None, typer.Option(help="Only entries of this kind, such as launch or ceiling.")
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """The newest entries of the log."""
    log = _log(home)
    size = log.size()
    found = list(log.entries(max(0, size - last), kind=kind))
    if json:
        told = [
            {"seq": each.seq, **LogEntry.from_canonical(each.body).model_dump(mode="json")} for each in found
        ]
        emit({"size": size, "entries": told})
        return
    show_entries(size, [(each.seq, LogEntry.from_canonical(each.body)) for each in found])


@app.command("checkpoint")
def checkpoint(
    out: Annotated[Path | None, typer.Option(help="A new file to write the note to as well.")] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """The signed head of the log, as a note that other tools read too."""
    log = _log(home)
    note = log.checkpoint()
    head = Checkpoint.parse(note.require(log.key))
    if out is not None:
        write_new(out, note.encoded.encode(), mode=0o644)
    if json:
        emit({"size": head.size, "root": head.root.hex(), "note": note.encoded, "key": log.key.words})
        return
    people.print(note.encoded, highlight=False, markup=False)
    people.print(f"signed with {log.key.words}", highlight=False, markup=False)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    home: Home = None,
    json: Json = False,
) -> None:
    """Write the whole log to one file, which anybody can check with `covenant log verify`."""
    centre = centre_at(home)
    log = open_log(centre.engine, centre.settings, centre.clock)
    head = export_log(log, centre.settings.config.federation, file)
    if json:
        emit({"file": str(file), "entries": head.size, "root": head.root.hex()})
    else:
        people.print(
            f"wrote {head.size} entries to {file}; whoever has root.json checks it with `covenant log verify`"
        )


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="An export of the log.")],
    root: Annotated[Path, typer.Option(help="The federation's root.json, from where you trust it.")],
    members: Annotated[
        Path | None,
        typer.Option(help="The newest members.json that you have: a log that ends before it is refused."),
    ] = None,
    json: Json = False,
) -> None:
    """Check an export from its first entry to its signed head, without the coordinator and without a network."""
    pinned = load_document(root, SignedRoot)
    known = None if members is None else read_membership(members)
    with people.status(f"reading {file}"):
        found = verify_file(file, pinned, known)
    if json:
        emit(facts_of(found, pinned))
    else:
        show_verified(found, pinned)


def facts_of(found: Verified, pinned: SignedRoot) -> dict[str, Any]:
    """What was verified, as JSON."""
    story = found.story
    return {
        "verified": True,
        "federation": found.federation,
        "fingerprint": pinned.root.fingerprint,
        "entries": found.head.size,
        "root": found.head.root.hex(),
        "log_key": found.log_key.words,
        "members": None if story.members is None else story.members.ref,
        "gaps": [
            {
                "entry": each.seq,
                "kept": each.sound.declared.kept.model_dump(mode="json"),
                "lost": [it.model_dump(mode="json") for it in each.sound.declared.lost],
                "reason": each.sound.declared.reason,
                "signed": list(each.sound.signed.signed(each.sound.root)),
            }
            for each in story.gaps
        ],
        "runs": [
            {
                "run": each.run,
                "plan": each.plan.name,
                "plan_digest": each.plan.digest,
                "author": each.approved.author,
                "approved_by": [
                    {"officer": name, "role": str(role)} for name, role in each.approved.approved_by
                ],
                "privacy": each.plan.privacy.mode,
                "state": each.state,
                "rounds": each.committed,
                "sites": sorted(each.survivors),
            }
            for each in story.runs.values()
        ],
        "models": [
            {"model": f"{each.name}@{each.version}", "digest": each.digest, "run": each.run}
            for each in story.models
        ],
        "budgets": [
            {
                "site": each.account.site,
                "population": each.account.population,
                "sums": each.sums,
                "opened": each.opened.facts(),
                "charged": each.charged.facts(),
                "ceiling": each.ceiling.facts(),
                "decisions": [
                    {"ceiling": it.ceiling, "officers": list(it.officers), "reason": it.reason}
                    for it in each.decisions
                ],
            }
            for each in story.budgets.standing()
        ],
    }


def _log(home: Path | None) -> TransparencyLog:
    centre = centre_at(home)
    return open_log(centre.engine, centre.settings, centre.clock)
