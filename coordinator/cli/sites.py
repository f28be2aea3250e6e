"""`covenant site`: who belongs to the federation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Home, Json
from coordinator.documents import read_members
from coordinator.settings import load_settings
from protos.documents import make_document
from protos.membership import EnrolmentRequest, FederationRoot, MemberList, SignedMembers, fingerprint
from protos.shell import emit, people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Sites of the federation.")


@app.command("certify")
def certify(
    requests: Annotated[
        list[Path], typer.Argument(help="Enrolment requests that sites made with `covenant-agent init`.")
    ],
    root: Annotated[Path, typer.Option(help="Folder that holds root.key and root.json.")],
    members: Annotated[
        Path, typer.Option(help="The member list to write; an existing one is extended, as its next version.")
    ],
) -> None:
    """Sign a member list with the federation root. Compare each site's fingerprint with its people first."""
    signer = FederationRoot.load(root)
    old = (
        SignedMembers.from_canonical(members.read_bytes().strip()).verify(signer.public)
        if members.exists()
        else None
    )
    added = [EnrolmentRequest.from_canonical(_read(path)).verify() for path in requests]
    replaced = {member.site for member in added}
    kept = [member for member in old.members if member.site not in replaced] if old else []
    listed = make_document(
        MemberList,
        "the member list",
        name=signer.public.federation,
        version=old.version + 1 if old else 1,
        members=(*kept, *added),
    )
    temporary = members.with_suffix(".new")
    temporary.write_bytes(signer.sign(listed).canonical + b"\n")
    temporary.replace(members)
    for member in added:
        people.print(f"{member.site}: {fingerprint(member.identity_key)}", highlight=False)
    people.print(f"signed {listed.ref} with {len(listed.members)} sites: {members}")


@app.command("list")
def list_sites(home: Home = None, json: Json = False) -> None:
    """The member sites with the fingerprints of their keys."""
    _, members = read_members(load_settings(home))
    if json:
        emit(
            {"members": members.ref, "sites": {m.site: fingerprint(m.identity_key) for m in members.members}}
        )
        return
    table = Table("site", "identity key's fingerprint", title=members.ref)
    for member in members.members:
        table.add_row(member.site, fingerprint(member.identity_key))
    people.print(table)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
