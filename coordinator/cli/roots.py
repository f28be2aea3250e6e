"""`covenant root`: the federation's root, drafted by one officer and signed by as many as it takes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Json
from coordinator.cli.signing import (
    PUBLIC_MODE,
    Day,
    PassphraseFiles,
    SigningKeys,
    Standing,
    last_moment,
    open_keys,
    read_card,
    read_signed_root,
    show_standings,
    standings,
)
from protos.documents import load_document, make_document
from protos.files import replace_file, write_new
from protos.keys import fingerprint
from protos.root import Root, RootKey, SignedRoot
from protos.shell import emit, people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The federation's root: whose keys decide who belongs to it.")

After = Annotated[
    Path | None,
    typer.Option(help="The version before this one, whose quorum must sign too; none for version 1."),
]


@app.command("new")
def new(
    federation: Annotated[str, typer.Option(help="Name of the federation.")],
    key: Annotated[list[Path], typer.Option(help="Identity card (NAME.pub) of an officer; repeatable.")],
    quorum: Annotated[int, typer.Option(help="How many of them decide.")],
    out: Annotated[Path, typer.Option(help="The draft to write, such as root.json.")],
    expires: Day = None,
) -> None:
    """Draft version 1 of a root. It counts once its own quorum has signed it; its fingerprint then names the federation for good."""
    root = make_document(
        Root,
        "the root",
        federation=federation,
        version=1,
        keys=_keys(key),
        quorum=quorum,
        expires=last_moment(expires),
    )
    _write_draft(root, out)


@app.command("next")
def next_root(
    root: Annotated[Path, typer.Argument(help="The newest version of the root.")],
    out: Annotated[Path, typer.Option(help="The draft to write, such as root-2.json.")],
    add: Annotated[
        list[Path] | None, typer.Option(help="Identity card of an officer who joins; repeatable.")
    ] = None,
    remove: Annotated[
        list[str] | None, typer.Option(help="Name of an officer whose key goes; repeatable.")
    ] = None,
    quorum: Annotated[
        int | None, typer.Option(help="How many decide from now on; as before if left out.")
    ] = None,
    expires: Day = None,
) -> None:
    """Draft the next version of a root. It counts once the quorums of both versions have signed it."""
    following = read_signed_root(root).next(
        add=_keys(add or ()), remove=remove or (), quorum=quorum, expires=last_moment(expires)
    )
    _write_draft(following, out)


@app.command("sign")
def sign(
    root: Annotated[Path, typer.Argument(help="The root to sign, in place.")],
    key: SigningKeys = None,
    after: After = None,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Add a signature to a root, after `covenant root show` and a comparison of fingerprints with the other officers."""
    signed, before = load_document(root, SignedRoot), _before(after)
    _require_after(signed.root, after)
    signers = open_keys(key, passphrase_file)
    if not signers:
        raise UsageError("nobody signs; name a private key with --key")
    for signer in signers:
        signed = signed.signed_with(signer, before)
    found = _standings(signed, before)
    replace_file(root, signed.canonical + b"\n", mode=PUBLIC_MODE)
    show_standings(_words(signed.root), found, root)


@app.command("show")
def show(
    root: Annotated[Path, typer.Argument(help="The root to look at.")],
    after: After = None,
    json: Json = False,
) -> None:
    """Show a root: fingerprint, keys, quorum, who has signed, and whether it counts."""
    signed, before = load_document(root, SignedRoot), _before(after)
    _require_after(signed.root, after)
    found, shown = _standings(signed, before), signed.root
    if json:
        emit(
            {
                "federation": shown.federation,
                "version": shown.version,
                "fingerprint": shown.fingerprint,
                "keys": {each.name: fingerprint(each.key) for each in shown.keys},
                "quorum": shown.quorum,
                "expires": shown.expires.isoformat(),
                "signatures": [each.facts() for each in found],
                "valid": not any(each.lacking for each in found),
            }
        )
        return
    table = Table(
        "officer", "key's fingerprint", title=f"{_words(shown)}: {shown.quorum} of {len(shown.keys)} decide"
    )
    for each in shown.keys:
        table.add_row(each.name, fingerprint(each.key))
    people.print(table)
    people.print(f"fingerprint {shown.fingerprint}", highlight=False)
    people.print(f"good until {shown.expires:%Y-%m-%d}", highlight=False)
    show_standings(_words(shown), found, root)


def _keys(cards: list[Path] | tuple[()]) -> tuple[RootKey, ...]:
    read = (read_card(path) for path in cards)
    return tuple(RootKey(name=card.name, key=card.public_key) for card in read)


def _write_draft(root: Root, out: Path) -> None:
    write_new(out, SignedRoot(root=root).canonical + b"\n", mode=PUBLIC_MODE)
    people.print(f"drafted {_words(root)} with fingerprint {root.fingerprint}: {out}", highlight=False)
    people.print("it counts once enough officers have signed it with `covenant root sign`")


def _before(after: Path | None) -> Root | None:
    return None if after is None else read_signed_root(after)


def _require_after(root: Root, after: Path | None) -> None:
    if (root.version > 1) != (after is not None):
        raise UsageError(
            f"{_words(root)} follows no other; leave --after out"
            if root.version == 1
            else f"{_words(root)} counts only with signatures of version {root.version - 1}; name that with --after"
        )


def _standings(signed: SignedRoot, before: Root | None) -> list[Standing]:
    return standings(signed.signed, [signed.root] if before is None else [before, signed.root])


def _words(root: Root) -> str:
    return f"root version {root.version} of {root.federation}"
