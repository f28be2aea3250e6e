"""`covenant key`: keys of officers and services."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import TrustedRoot
from coordinator.cli.signing import now, open_key, read_card, read_signed_root
from coordinator.keys import CARD_SUFFIX, SIGNING_NAME, make_artifact_key, make_key
from protos.key_files import is_encrypted
from protos.passphrases import Passphrase, ask_passphrase, choose_passphrase, read_passphrase
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


@app.command("signing")
def signing(
    out: Annotated[
        Path, typer.Option(help="The coordinator's folder, for signing.key and its certificate signing.json.")
    ],
    service: Annotated[
        Path,
        typer.Option(
            "--service",
            help="The private key of the `artifacts` service on the member list; its card NAME.pub lies beside it.",
        ),
    ],
    root: TrustedRoot,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the passphrase of both keys, mode 0600. Without it the terminal is asked."
        ),
    ] = None,
    no_passphrase: Annotated[
        bool,
        typer.Option("--no-passphrase", help="Leave a new key unencrypted: whoever reads the file has it."),
    ] = False,
) -> None:
    """Make the P-256 key that signs models, and have the `artifacts` service vouch for it. A key that is there is kept, and certified anew."""
    if no_passphrase and passphrase_file is not None:
        raise UsageError("use --passphrase-file or --no-passphrase, and not both")
    federation = read_signed_root(root).identity
    card = read_card(service.with_suffix(CARD_SUFFIX))
    signer = open_key(service, passphrase_file)
    if signer.public != card.public_key:
        raise UsageError(
            f"{service.with_suffix(CARD_SUFFIX)} is the card of another key than {service}; name both of one service"
        )
    made = make_artifact_key(
        out,
        signer,
        card.name,
        _passphrase_of(out / f"{SIGNING_NAME}.key", passphrase_file, bare=no_passphrase),
        federation=federation,
        at=now(),
    )
    people.print(
        f"models are signed with {out / f'{SIGNING_NAME}.key'} (secret); {out / f'{SIGNING_NAME}.json'} says that {made.service} vouches for it",
        highlight=False,
    )


def _passphrase_of(key: Path, passphrase_file: Path | None, *, bare: bool) -> Passphrase | None:
    """The passphrase of a key that is there, or that a new one is to have."""
    if key.exists() and not is_encrypted(key):
        return None
    if passphrase_file is not None:
        return read_passphrase(passphrase_file)
    if key.exists():
        return ask_passphrase(key)
    return None if bare else choose_passphrase(key)
