"""`covenant-agent init`: makes a site."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from client.enrolment.new_site import CONFIG_FILE, REQUEST_FILE, NewSite, unfolded
from client.keystore import read_root
from protos.documents import load_document
from protos.invitation import Invitation
from protos.shell import people
from strategies.errors import UsageError

Data = Annotated[
    Path,
    typer.Option(
        help="The file with this site's rows: Parquet, CSV or Arrow, by its ending. Rows of another kind are named in site.yaml afterwards, in its place."
    ),
]
Purpose = Annotated[list[str], typer.Option(help="A purpose that this site admits; repeatable.")]
InvitationFile = Annotated[
    Path | None,
    typer.Option(help="SITE.invitation, from the centre: instead of the six options that follow."),
]
Site = Annotated[str | None, typer.Option(help="This site's name, as agreed with the federation.")]
Federation = Annotated[str | None, typer.Option(help="The federation's name.")]
SuperLink = Annotated[str | None, typer.Option(help="host:port of the federation's SuperLink.")]
Authority = Annotated[Path | None, typer.Option(help="ca.crt, from the centre.")]
Root = Annotated[Path | None, typer.Option(help="root.json, from the officers.")]
ContractFile = Annotated[Path | None, typer.Option(help="The data contract that this site's data follows.")]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        help="A site that this one recognises as real; repeatable. Secure aggregation needs two or more."
    ),
]
AllowPlain = Annotated[
    bool,
    typer.Option("--allow-plain", help="Admit plans under which the centre sees this site's updates."),
]
Privacy = Annotated[
    list[str] | None,
    typer.Option(
        help="A privacy mode that this site admits: distributed (the default), local, central or none; repeatable."
    ),
]
Account = Annotated[
    str | None,
    typer.Option(
        help="The most that may ever become known of one unit, as UNIT,EPSILON,DELTA[,ORDER], such as record,8,1e-5 or"
        " customer:customer_id:4,8,1e-6. Needed for every mode but none."
    ),
]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        help="File with the passphrase that the identity key is to have, mode 0600. Without it the key is not encrypted."
    ),
]


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("init")(init)


def init(  # noqa: PLR0917 (each is an option of the command)
    folder: Annotated[Path, typer.Argument(help="The folder to make for this site.")],
    data: Data,
    purpose: Purpose,
    invitation: InvitationFile = None,
    site: Site = None,
    federation: Federation = None,
    superlink: SuperLink = None,
    ca: Authority = None,
    root: Root = None,
    contract: ContractFile = None,
    peer: Peers = None,
    allow_plain: AllowPlain = False,
    privacy: Privacy = None,
    account: Account = None,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Make a site's configuration, with comments, its keys, and the enrolment request that the federation's officers must certify."""
    with _given(invitation, site, federation, superlink, ca, root, contract) as given:
        made = NewSite(
            site=given.site,
            federation=given.federation,
            superlink=given.superlink,
            ca=given.ca,
            root=given.root,
            contract=given.contract,
            data=data,
            purposes=purpose,
            peers=peer or (),
            allow_plain=allow_plain,
            privacy=privacy or ("distributed",),
            account=account,
            passphrase_file=passphrase_file,
        )
        request = made.make(folder)
        pinned = read_root(given.root, given.federation).root.fingerprint
    _tell(folder, invitation, request.fingerprint, pinned)


@dataclass(frozen=True, slots=True)
class _Given:
    """What a site is told of its federation."""

    site: str
    federation: str
    superlink: str
    ca: Path
    root: Path
    contract: Path


@contextmanager
def _given(
    invitation: Path | None,
    site: str | None,
    federation: str | None,
    superlink: str | None,
    ca: Path | None,
    root: Path | None,
    contract: Path | None,
) -> Iterator[_Given]:
    """From an invitation, or one by one. Raises UsageError where something is missing, or given twice."""
    if invitation is None:
        if None in {site, federation, superlink, ca, root, contract}:
            raise UsageError(
                "name --invitation, or all of --site, --federation, --superlink, --ca, --root and --contract"
            )
        yield _Given(
            site or "", federation or "", superlink or "", ca or Path(), root or Path(), contract or Path()
        )
        return
    if any(each is not None for each in (site, federation, superlink, ca, root)):
        raise UsageError(
            "the invitation says site, federation, SuperLink, authority and root; leave those options out"
        )
    read = load_document(invitation, Invitation)
    with unfolded(read, contract) as (its_ca, its_root, its_contract):
        yield _Given(read.site, read.federation, read.superlink, its_ca, its_root, its_contract)


def _tell(folder: Path, invitation: Path | None, fingerprint: str, pinned: str) -> None:
    config = folder / CONFIG_FILE
    people.print(f"made {folder}: read {config}, which says what this site admits", highlight=False)
    if invitation is None:
        people.print(f"send {folder / REQUEST_FILE} to the officers and tell them this fingerprint:")
    else:
        people.print(
            f"then hand the request in with `covenant-agent enroll {invitation} --config {config}`, and tell the officers this fingerprint:",
            highlight=False,
        )
    people.print(f"  {fingerprint}", highlight=False)
    people.print(
        f"the root that this site pins has fingerprint {pinned}; compare it with theirs",
        highlight=False,
    )
