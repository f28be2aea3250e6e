"""`covenant site invite`, `requests` and `welcome`: how a new site's request comes to the officers, and their list back to it."""

from __future__ import annotations

import secrets
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from coordinator.cli.options import Home, Json, centre_at
from coordinator.cli.signing import PUBLIC_MODE, now
from coordinator.documents import read_members, read_root
from coordinator.settings import Settings, load_settings
from protos.contract import Contract
from protos.documents import load_document, make_document
from protos.files import replace_file, write_new
from protos.invitation import TOKEN_BYTES, Invitation, token_digest, token_of
from protos.keys import fingerprint
from protos.shell import emit, people
from strategies.errors import UsageError
from strategies.ids import site_name

_SECRET_MODE: Final = 0o600
SiteArgument = Annotated[str, typer.Argument(help="The site's name.")]


def register(app: typer.Typer) -> None:
    """Add these commands to `covenant site`."""
    app.command("invite")(invite)
    app.command("requests")(requests)
    app.command("welcome")(welcome)


def invite(
    site: SiteArgument,
    out: Annotated[
        Path, typer.Option(help="The invitation to write; it has a secret in it, so its mode is 0600.")
    ],
    contract: Annotated[
        Path | None, typer.Option(help="The data contract that the site's data are to follow, to go with it.")
    ] = None,
    days: Annotated[int, typer.Option(min=1, max=90, help="For how many days its token opens the door.")] = 7,
    superlink: Annotated[
        str | None,
        typer.Option(help="host:port by which the site reaches the SuperLink, if not that of covenant.yaml."),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Make an invitation with a one-time token. It lets the site hand in its request; the officers decide as ever."""
    from coordinator.enrolment.invitations import InvitationBook

    centre = centre_at(home)
    token, until = (
        token_of(secrets.token_bytes(TOKEN_BYTES)),
        now().replace(microsecond=0) + timedelta(days=days),
    )
    made = _invitation(centre.settings, site, token, superlink, contract, until=until.isoformat())
    # First the file: a token that nobody has is no harm, and one that is lost is made again.
    write_new(out, made.canonical + b"\n", mode=_SECRET_MODE)
    InvitationBook(centre).invite(site_name(site), token_digest(token), made.expires)
    facts = {"site": site, "file": str(out), "expires": made.expires.isoformat(), "door": made.door}
    facts["root"] = made.root.root.fingerprint
    if json:
        emit(facts)
        return
    way = f"at {made.door}" if made.door else "as a file, because covenant.yaml has no section `enrolment`"
    people.print(
        f"wrote {out}; its token hands in one request of {site}, {way}, until {made.expires:%Y-%m-%d %H:%M} UTC. Send it as you would a secret, and tell the"
        f" site on another channel that the root's fingerprint is\n  {facts['root']}",
        highlight=False,
    )


def requests(
    out: Annotated[
        Path | None,
        typer.Option(
            help="A folder for the requests that wait, each as SITE.enrolment.json, for `covenant site certify`."
        ),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """Invitations, and the requests that came of them: compare each fingerprint with the site before it is certified."""
    from coordinator.enrolment.invitations import InvitationBook

    found = list(InvitationBook(centre_at(home)).all())
    for each in found:
        if out is not None and each.request is not None and each.state == "waiting":
            out.mkdir(parents=True, exist_ok=True)
            replace_file(
                out / f"{each.site}.enrolment.json", each.request.canonical + b"\n", mode=PUBLIC_MODE
            )
    if json:
        emit(
            {
                "requests": [
                    {
                        "site": each.site,
                        "state": each.state,
                        "expires": each.expires_at.isoformat(),
                        "fingerprint": None if each.request is None else each.request.fingerprint,
                    }
                    for each in found
                ]
            }
        )
        return
    table = Table("site", "state", "token good until", "identity key's fingerprint")
    for each in found:
        shown = "" if each.request is None else each.request.fingerprint
        table.add_row(each.site, each.state, f"{each.expires_at:%Y-%m-%d %H:%M}", shown)
    people.print(table)


def welcome(
    site: SiteArgument,
    out: Annotated[
        Path,
        typer.Option(help="The file to write, which the site takes with `covenant-agent enroll --welcome`."),
    ],
    home: Home = None,
) -> None:
    """Write the signed member list for a site that is on it and has no way to the enrolment door."""
    membership, trusted = read_members(load_settings(home))
    member = trusted.members.member(site_name(site))
    write_new(out, membership.canonical + b"\n", mode=PUBLIC_MODE)
    people.print(
        f"wrote {out}: member list {trusted.members.ref} has {site} with the key\n  {fingerprint(member.identity_key)}",
        highlight=False,
    )


def _invitation(
    settings: Settings, site: str, token: str, superlink: str | None, contract: Path | None, *, until: str
) -> Invitation:
    link, door = settings.superlink, settings.config.enrolment
    if not link.ca_file.exists():
        raise UsageError(f"{link.ca_file} does not exist; `covenant init` makes it")
    signed = read_root(settings)
    signed.require_own_quorum()
    agreed = None if contract is None else load_document(contract, Contract)
    return make_document(
        Invitation,
        f"the invitation of {site}",
        site=site,
        federation=settings.config.federation,
        superlink=superlink or f"{link.host}:{link.port}",
        door=None if door is None else door.reached_at,
        ca=link.ca_file.read_text(),
        root=signed,
        contract=agreed,
        token=token,
        expires=until,
    )
