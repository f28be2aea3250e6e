"""`covenant members`: the member list of sites, officers and services, signed by as many officers as the root says."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.table import Table

from coordinator.cli.options import Json
from coordinator.cli.signing import (
    PUBLIC_MODE,
    PassphraseFiles,
    RootFiles,
    Roots,
    SigningKeys,
    now,
    open_keys,
    read_roots,
    show_standings,
    standings,
)
from coordinator.documents import read_membership
from protos.documents import make_document
from protos.files import replace_file, write_new
from protos.keys import SigningKey, fingerprint
from protos.membership import MemberList, Membership, SignedMembers
from protos.shell import emit, people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="The member list: sites, officers, services.")

ListFile = Annotated[Path, typer.Argument(help="The member list.")]
Out = Annotated[
    Path | None,
    typer.Option(help="A new file for the next version; the one of --members is replaced if left out."),
]


@app.command("sign")
def sign(
    members: ListFile,
    root: RootFiles,
    key: SigningKeys = None,
    passphrase_file: PassphraseFiles = None,
) -> None:
    """Add a signature to a member list, in place. Look at it with `covenant members show` first."""
    membership = read_membership(members)
    roots = read_roots(root).with_chain(membership.roots)
    signers = open_keys(key, passphrase_file)
    if not signers:
        raise UsageError("nobody signs; name a private key with --key")
    _write(membership.signed, roots, signers, members, None)


@app.command("remove")
def remove(
    names: Annotated[list[str], typer.Argument(help="Sites, officers or services to take off the list.")],
    members: Annotated[Path, typer.Option(help="The member list whose next version is drafted.")],
    root: RootFiles,
    kind: Annotated[
        Literal["site", "officer", "service"] | None,
        typer.Option(help="What they are, where a name stands for more than one."),
    ] = None,
    key: SigningKeys = None,
    passphrase_file: PassphraseFiles = None,
    out: Out = None,
) -> None:
    """Draft the next version of a member list without some of its members: their keys count no more where it is known."""
    base, roots = read_base(members, read_roots(root))
    write_next(base.without(names, kind), roots, open_keys(key, passphrase_file), members, out)


@app.command("show")
def show(members: ListFile, root: RootFiles, json: Json = False) -> None:
    """Show a member list: keys with their fingerprints, who has signed, and whether it counts."""
    membership = read_membership(members)
    roots = read_roots(root).with_chain(membership.roots)
    listed = membership.signed.list
    (found,) = standings(membership.signed.signed, [roots.newest])
    if json:
        emit(
            {
                "members": listed.ref,
                "sites": {each.site: fingerprint(each.identity_key) for each in listed.members},
                "officers": {
                    each.name: {
                        "roles": list(each.roles),
                        "fingerprint": fingerprint(each.key),
                        "expires": each.expires.isoformat(),
                    }
                    for each in listed.officers
                },
                "services": {
                    each.name: {"purpose": each.purpose, "fingerprint": fingerprint(each.key)}
                    for each in listed.services
                },
                "signatures": found.facts(),
                "valid": not found.lacking,
            }
        )
        return
    people.print(_table(listed))
    show_standings(f"member list {listed.ref}", [found], members)


def read_base(members: Path, roots: Roots) -> tuple[MemberList, Roots]:
    """The list that a next version is drafted from, and the roots as far as the two know. Raises `Refused` for a draft."""
    membership = read_membership(members)
    base = membership.verify(roots.pinned).members
    return base, roots.with_chain(membership.roots)


def write_next(
    listed: MemberList, roots: Roots, signers: list[SigningKey], members: Path, out: Path | None
) -> None:
    """Sign a drafted list with the keys that are at hand, and write it. Raises `CovenantError`."""
    _write(SignedMembers(list=listed), roots, signers, members, out)


def _write(
    signed: SignedMembers, roots: Roots, signers: list[SigningKey], members: Path, out: Path | None
) -> None:
    roots.newest.require_current(now())
    for signer in signers:
        signed = signed.signed_with(signer, roots.newest)
    found = standings(signed.signed, [roots.newest])
    # More roots than are read, or more than a document holds, must not take the place of a list that can be read.
    made = make_document(Membership, f"member list {signed.list.ref}", roots=roots.chain, signed=signed)
    data = Membership.from_canonical(made.canonical).canonical + b"\n"
    if out is None:
        replace_file(members, data, mode=PUBLIC_MODE)
    else:
        write_new(out, data, mode=PUBLIC_MODE)
    show_standings(f"member list {signed.list.ref}", found, out or members)


def _table(listed: MemberList) -> Table:
    table = Table("name", "what", "key's fingerprint", "good until", title=f"member list {listed.ref}")
    for member in listed.members:
        table.add_row(member.site, "site", fingerprint(member.identity_key), "")
    for officer in listed.officers:
        roles = ", ".join(officer.roles)
        table.add_row(officer.name, roles, fingerprint(officer.key), f"{officer.expires:%Y-%m-%d}")
    for service in listed.services:
        table.add_row(service.name, f"service: {service.purpose}", fingerprint(service.key), "")
    return table
