"""`covenant key`: keys of officers and services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.keys import make_key
from protos.passphrases import choose_passphrase, read_passphrase
from protos.shell import people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Keys of officers and services.")


@app.command("new")
def new(
    name: Annotated[str, typer.Argument(help="Whose key it is: lower-case letters, digits, hyphens.")],
    out: Annotated[Path, typer.Option(help="Folder for NAME.key and NAME.pub.")],
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the passphrase that the key is to have, mode 0600. Without it the terminal is asked."
        ),
    ] = None,
    no_passphrase: Annotated[
        bool,
        typer.Option("--no-passphrase", help="Leave the key unencrypted: whoever reads the file has it."),
    ] = False,
) -> None:
    """Make a key: NAME.key is secret and stays; NAME.pub, an identity card, goes to the officers. Never overwrites a key."""
    if no_passphrase and passphrase_file is not None:
        raise UsageError("use --passphrase-file or --no-passphrase, and not both")
    out.mkdir(parents=True, exist_ok=True)
    key = out / f"{name}.key"
    if no_passphrase:
        passphrase = None
    elif passphrase_file is not None:
        passphrase = read_passphrase(passphrase_file)
    else:
        passphrase = choose_passphrase(key)
    card = make_key(out, name, passphrase)
    people.print(
        f"made {key} (secret) and {out / f'{name}.pub'}; read this fingerprint to the officers:",
        highlight=False,
    )
    people.print(f"  {card.fingerprint}", highlight=False)
