"""`covenant log`: what was decided and done, kept so that others can check it."""

from __future__ import annotations

import sys
from json import dumps
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.log_tables import show_entries, show_verified
from coordinator.cli.log_witnesses import show_witnesses
from coordinator.cli.log_words import words_of
from coordinator.cli.options import Access, Home, Json, KnownMembers, TrustedRoot, centre_at, desk_at
from coordinator.cli.signing import PUBLIC_MODE
from coordinator.documents import read_membership
from coordinator.governance.exports import newest_witnesses, witness_facts
from coordinator.governance.log import open_log
from coordinator.governance.witnesses import WitnessBook
from protos.documents import load_document
from protos.files import write_new
from protos.log_entries import LogEntry
from protos.log_export import verify_file
from protos.log_facts import facts_of
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
    access: Access = None,
    json: Json = False,
) -> None:
    """The newest entries of the log."""
    size, found = desk_at(home, access).entries(last, kind)
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
    access: Access = None,
    json: Json = False,
) -> None:
    """The signed head of the log, as a note that other tools read too."""
    note, key = desk_at(home, access).checkpoint()
    head = Checkpoint.parse(note.require(key))
    if out is not None:
        write_new(out, note.encoded.encode(), mode=PUBLIC_MODE)
    if json:
        emit({"size": head.size, "root": head.root.hex(), "note": note.encoded, "key": key.words})
        return
    people.print(note.encoded, highlight=False, markup=False)
    people.print(f"signed with {key.words}", highlight=False, markup=False)


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="The file to write; it must not exist.")],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Write the whole log to one file, which anybody can check with `covenant log verify`."""
    head = desk_at(home, access).export(file)
    if json:
        emit({"file": str(file), "entries": head.size, "root": head.root.hex()})
    else:
        people.print(
            f"wrote {head.size} entries to {file}; whoever has root.json checks it with `covenant log verify`"
        )


@app.command("watch")
def watch(
    start: Annotated[
        int | None,
        typer.Option("--from", min=0, help="The first entry to tell; else what comes from now on."),
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Entries as they are committed, until interrupted; with --json one object a line on stdout."""
    for each in desk_at(home, access).events(start):
        entry = LogEntry.from_canonical(each.body)
        if json:
            told = {"seq": each.seq, **entry.model_dump(mode="json")}
            sys.stdout.write(dumps(told, sort_keys=True) + "\n")
            sys.stdout.flush()
        else:
            people.print(
                f"{each.seq} {entry.at:%Y-%m-%d %H:%M:%S} {entry.what.kind}: {words_of(entry.what)}",
                highlight=False,
                markup=False,
            )


@app.command("witnesses")
def witnesses(home: Home = None, json: Json = False) -> None:
    """How far each site has witnessed the log, and the evidence of histories that do not fit."""
    centre = centre_at(home)
    log = open_log(centre.engine, centre.settings, centre.clock)
    if json:
        emit(witness_facts(centre, log))
        return
    found = WitnessBook(centre.engine, centre.clock).found()
    show_witnesses(log.size(), newest_witnesses(centre), found)


@app.command("settle-evidence")
def settle_evidence(
    number: Annotated[int, typer.Argument(help="The evidence, as `covenant log witnesses` numbers it.")],
    reason: Annotated[str, typer.Option(help="What was found, and what was done about it.")],
    home: Home = None,
) -> None:
    """Say that a person has dealt with evidence of a fork, so that runs may be launched again."""
    centre = centre_at(home)
    WitnessBook(centre.engine, centre.clock).settle(number, reason)
    people.print(f"evidence {number} is settled: {reason}", markup=False, highlight=False)


@app.command("verify")
def verify(
    file: Annotated[Path, typer.Argument(help="An export of the log.")],
    root: TrustedRoot,
    members: KnownMembers = None,
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
