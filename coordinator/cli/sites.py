"""`covenant site`: who belongs to the federation."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli import invitations, site_standing
from coordinator.cli.members import Out, read_base, write_next
from coordinator.cli.options import Home, Json
from coordinator.cli.signing import (
    PassphraseFiles,
    RootFiles,
    SigningKeys,
    last_moment,
    open_keys,
    read_card,
    read_roots,
)
from coordinator.documents import read_members
from coordinator.settings import Settings, load_settings
from protos.documents import make_document
from protos.enrolment import EnrolmentRequest
from protos.keys import fingerprint
from protos.membership import Member, MemberList, Officer, Role, Service
from protos.shell import emit, people
from strategies.errors import UsageError
from strategies.ids import SiteName

app = typer.Typer(no_args_is_help=True, help="Sites of the federation.")
for each in (invitations, site_standing):
    each.register(app)


@app.command("certify")
def certify(  # noqa: PLR0917 (each is an option of the command)
    members: Annotated[
        Path, typer.Option(help="The member list; an existing one is extended, as its next version.")
    ],
    root: RootFiles,
    requests: Annotated[
        list[Path] | None,
        typer.Argument(help="Enrolment requests that sites made with `covenant-agent init`."),
    ] = None,
    officer: Annotated[
        list[str] | None,
        typer.Option(
            help="An officer to add, as CARD:ROLE,ROLE, such as officer.pub:privacy_officer; repeatable."
        ),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Last day of these officers' keys, YYYY-MM-DD; that of the root if left out."),
    ] = None,
    service: Annotated[
        list[str] | None,
        typer.Option(help="A service to add, as CARD:PURPOSE, such as log.pub:log; repeatable."),
    ] = None,
    key: SigningKeys = None,
    passphrase_file: PassphraseFiles = None,
    out: Out = None,
) -> None:
    """Draft the next member list and sign it with the keys at hand. Compare each fingerprint with its people first."""
    roots = read_roots(root)
    expires = roots.newest.expires if until is None else last_moment(until)
    sites = [EnrolmentRequest.from_canonical(_read(path)).verify() for path in requests or ()]
    officers = [_officer(text, expires) for text in officer or ()]
    services = [_service(text) for text in service or ()]
    if not (sites or officers or services):
        raise UsageError("nobody is certified; name enrolment requests, --officer or --service")
    if members.exists():
        base, roots = read_base(members, roots)
        listed = base.next(members=sites, officers=officers, services=services)
    else:
        listed = make_document(
            MemberList,
            "the member list",
            name=roots.newest.federation,
            version=1,
            members=tuple(sites),
            officers=tuple(officers),
            services=tuple(services),
        )
    _show_added(sites, officers, services)
    write_next(listed, roots, open_keys(key, passphrase_file), members, out)


@app.command("list")
def list_sites(home: Home = None, json: Json = False) -> None:
    """The member sites with the fingerprints of their keys, who of them is suspended, and who is on the way in."""
    settings = load_settings(home)
    members = read_members(settings)[1].members
    standing = _standing(settings, [each.site for each in members.members])
    keys = {each.site: fingerprint(each.identity_key) for each in members.members}
    if json:
        emit({"members": members.ref, "sites": keys, "standing": standing})
        return
    table = Table("site", "standing", "identity key's fingerprint", title=members.ref)
    for site, words in standing.items():
        table.add_row(site, words, keys.get(SiteName(site), ""))
    people.print(table)


def _standing(settings: Settings, members: Sequence[SiteName]) -> dict[str, str]:
    """`member` or `suspended` for each member, `invited` or `waiting` for who is on the way in."""
    from coordinator.bootstrap import open_centre
    from coordinator.enrolment.invitations import InvitationBook
    from coordinator.governance.halts import views

    centre = open_centre(settings)
    suspended = {
        each.order.target
        for each in views(centre.engine)
        if each.lifted_at is None and each.order.scope == "site"
    }
    found: dict[str, str] = {site: "suspended" if site in suspended else "member" for site in members}
    for each in InvitationBook(centre).all():
        if each.site not in found and each.state in {"invited", "waiting"}:
            found[each.site] = each.state
    return found


def _officer(text: str, expires: datetime) -> Officer:
    path, listed = _divided("--officer", text, "CARD:ROLE,ROLE")
    try:
        roles = tuple(Role(each) for each in listed.split(","))
    except ValueError as error:
        raise UsageError(f"--officer {text}: the roles are {', '.join(Role)}") from error
    card = read_card(path)
    return make_document(
        Officer, f"--officer {text}", name=card.name, roles=roles, key=card.public_key, expires=expires
    )


def _service(text: str) -> Service:
    path, purpose = _divided("--service", text, "CARD:PURPOSE")
    card = read_card(path)
    return make_document(Service, f"--service {text}", name=card.name, purpose=purpose, key=card.public_key)


def _divided(option: str, text: str, form: str) -> tuple[Path, str]:
    path, colon, rest = text.rpartition(":")
    if not colon or not path or not rest:
        raise UsageError(f"{option} {text}: use {form}")
    return Path(path), rest


def _show_added(sites: Sequence[Member], officers: Sequence[Officer], services: Sequence[Service]) -> None:
    added: dict[str, str] = {each.site: each.identity_key for each in sites}
    added |= {f"officer {each.name}": each.key for each in officers}
    added |= {f"service {each.name}": each.key for each in services}
    for name, key in added.items():
        people.print(f"{name}: {fingerprint(key)}", highlight=False)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes().strip()
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
