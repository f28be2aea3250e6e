"""`covenant-agent init`: makes a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from client.enrolment.new_site import REQUEST_FILE, NewSite
from client.keystore import read_root
from protos.shell import people


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("init")(init)


def init(  # noqa: PLR0917 (each is an option of the command)
    folder: Annotated[Path, typer.Argument(help="The folder to make for this site.")],
    site: Annotated[str, typer.Option(help="This site's name, as agreed with the federation.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    superlink: Annotated[str, typer.Option(help="host:port of the federation's SuperLink.")],
    ca: Annotated[Path, typer.Option(help="ca.crt, from the centre.")],
    root: Annotated[Path, typer.Option(help="root.json, from the officers.")],
    contract: Annotated[Path, typer.Option(help="The data contract that this site's data follows.")],
    data: Annotated[Path, typer.Option(help="The Parquet file with this site's rows.")],
    purpose: Annotated[list[str], typer.Option(help="A purpose that this site admits; repeatable.")],
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="A site that this one recognises as real; repeatable. Secure aggregation needs two or more."
        ),
    ] = None,
    allow_plain: Annotated[
        bool,
        typer.Option("--allow-plain", help="Admit plans under which the centre sees this site's updates."),
    ] = False,
    privacy: Annotated[
        list[str] | None,
        typer.Option(
            help="A privacy mode that this site admits: distributed (the default), local, central or none; repeatable."
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="The most that may ever become known of one unit, as UNIT,EPSILON,DELTA[,ORDER], such as record,8,1e-5 or"
            " customer:customer_id:4,8,1e-6. Needed for every mode but none."
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the passphrase that the identity key is to have, mode 0600. Without it the key is not encrypted."
        ),
    ] = None,
) -> None:
    """Make a site's configuration and keys, and the enrolment request that the federation's officers must certify."""
    made = NewSite(
        site=site,
        federation=federation,
        superlink=superlink,
        ca=ca,
        root=root,
        contract=contract,
        data=data,
        purposes=purpose,
        peers=peer or (),
        allow_plain=allow_plain,
        privacy=privacy or ("distributed",),
        account=account,
        passphrase_file=passphrase_file,
    )
    request = made.make(folder)
    people.print(
        f"made {folder}; send {folder / REQUEST_FILE} to the officers and tell them this fingerprint:"
    )
    people.print(f"  {request.fingerprint}", highlight=False)
    people.print(
        f"the root that this site pins has fingerprint {read_root(root, federation).root.fingerprint}; compare it with theirs",
        highlight=False,
    )
