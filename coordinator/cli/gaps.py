"""`covenant restore gap`: the officers sign that the log goes on without entries that nobody has."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.backup import Snapshot
from coordinator.cli.options import Home, Json, TrustedRoot, centre_at
from coordinator.cli.restores import Copies, Witnessed, reach_of
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
from coordinator.governance.log import open_log
from coordinator.recovery.restore import apply_gap
from protos.documents import load_document, make_document
from protos.files import replace_file, write_new
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap
from protos.root import SignedRoot
from protos.shell import emit, tell
from strategies.errors import UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Entries that are lost for good: the officers sign that the log goes on without.",
)
GapFile = Annotated[Path, typer.Argument(help="The gap.")]


@app.command("draft")
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
    found = reach_of(backup, roots.pinned, snapshot, copy, witnessed)
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
    tell(f"drafted {file}; its officers sign it with `covenant restore gap sign`")


@app.command("sign")
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


@app.command("show")
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


@app.command("apply")
def apply(file: GapFile, root: TrustedRoot, home: Home = None, json: Json = False) -> None:
    """Let a restored coordinator that waits go on after a signed gap, which becomes the first entry of its log from there."""
    gap = load_document(file, SignedGap).verify(load_document(root, SignedRoot))
    centre = centre_at(home)
    entry = apply_gap(open_log(centre.engine, centre.settings, centre.clock), gap)
    if json:
        emit({"entry": entry, "gap": gap.signed.digest})
        return
    tell(
        f"the gap is entry {entry} of the log; the coordinator may serve. A site's accounts are charged again once its statement was read with"
        " `covenant ledger reconcile`"
    )


def _show_gap(signed: SignedGap) -> None:
    gap = signed.gap
    tell(f"gap of {gap.federation}, declared {gap.declared:%Y-%m-%d %H:%M}: {gap.reason}")
    tell(f"  kept: {gap.kept.words}")
    for each in gap.lost:
        tell(f"  lost: {each.words}")
    if not gap.lost:
        tell("  no later head is known")
