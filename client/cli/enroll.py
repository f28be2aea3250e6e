"""`covenant-agent enroll`: hands the site's request to the officers, and takes the member list that they sign."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from client.cli.options import HERE, ConfigFile, Json
from client.enrolment.new_site import REQUEST_FILE
from client.keystore import load_root
from protos.documents import load_document
from protos.files import replace_file
from protos.invitation import Invitation
from protos.membership import Membership
from protos.shell import emit, people, tell
from protos.site import SiteConfig, load_site
from strategies.errors import Refused, UsageError

if TYPE_CHECKING:
    from client.enrolment.enrol import Enrolled

_POLL_S: Final = 2.0
_PUBLIC_MODE: Final = 0o644


def register(agent: typer.Typer) -> None:
    """Add the command."""
    agent.command("enroll")(enroll)


def enroll(
    invitation: Annotated[
        Path | None, typer.Argument(help="SITE.invitation, from the centre; its token opens the door once.")
    ] = None,
    config: ConfigFile = HERE,
    fingerprint: Annotated[
        str | None,
        typer.Option(
            help="The root's fingerprint as the officers told you, or its first 32 digits. Without it the terminal is asked."
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Send nothing: write the request to a file that you carry.")
    ] = False,
    welcome: Annotated[
        Path | None,
        typer.Option(help="The member list that the officers signed, as `covenant site welcome` wrote it."),
    ] = None,
    wait: Annotated[
        float, typer.Option(help="For how many seconds to wait for the officers; 0 asks once.")
    ] = 0.0,
    json: Json = False,
) -> None:
    """Enrol this site: over the enrolment door with an invitation, or by files with --offline and --welcome. Asked again, it says how far the request is."""
    from client.enrolment.enrol import accept

    site = load_site(config)
    if sum((invitation is not None and not offline, offline, welcome is not None)) != 1:
        raise UsageError("name an invitation, or use --offline, or --welcome with the officers' file")
    if offline:
        _write_request(site, config.resolve().parent / REQUEST_FILE, json=json)
        return
    _compare(site, fingerprint)
    if welcome is not None:
        _tell(accept(site, _read(welcome)), config, json=json)
        return
    invited = load_document(invitation or Path(), Invitation)
    membership = _waited_for(site, invited, wait, json=json)
    if membership is not None:
        _tell(accept(site, membership), config, json=json)


def _compare(site: SiteConfig, fingerprint: str | None) -> None:
    """Have a person compare the root's fingerprint. Raises Refused for another one, UsageError where nobody can be asked."""
    from client.enrolment.enrol import require_fingerprint

    if fingerprint is not None:
        require_fingerprint(site, fingerprint)
        return
    found = load_root(site).root.fingerprint
    if not sys.stdin.isatty():
        raise UsageError(
            f"the root in {site.federation.root} has fingerprint {found}; compare it with the officers, and say theirs with --fingerprint"
        )
    people.print(f"the root of {site.federation.name} has fingerprint\n  {found}", highlight=False)
    if not typer.confirm(
        "Do the officers, on a channel that you trust, say the same?", default=False, err=True
    ):
        raise Refused("nothing was sent; ask the officers for their root.json, and for a new invitation")


def _waited_for(site: SiteConfig, invited: Invitation, wait: float, *, json: bool) -> Membership | None:
    """The signed list, or None as long as the officers have not signed it."""
    from client.bootstrap import utc_now
    from client.enrolment.enrol import request_of, submit

    until, told = time.monotonic() + wait, False
    while True:
        answer = submit(invited, site, clock=utc_now)
        if answer.membership is not None:
            return answer.membership
        left = until - time.monotonic()
        if not told and left > 0:
            tell(_waiting(site, answer.reason))
            told = True
        if left <= 0:
            if json:
                emit({"state": answer.state, "site": site.site, "fingerprint": request_of(site).fingerprint})
            elif not told:
                tell(_waiting(site, answer.reason))
            return None
        time.sleep(min(_POLL_S, left))


def _waiting(site: SiteConfig, reason: str | None) -> str:
    from client.enrolment.enrol import request_of

    return (
        f"{reason or 'the request is with the officers'}. Tell them this fingerprint:\n  {request_of(site).fingerprint}\n"
        "The same command again asks how far it is."
    )


def _write_request(site: SiteConfig, path: Path, *, json: bool) -> None:
    from client.enrolment.enrol import request_of

    request = request_of(site)
    replace_file(path, request.canonical + b"\n", mode=_PUBLIC_MODE)
    if json:
        emit(
            {"state": "offline", "site": site.site, "request": str(path), "fingerprint": request.fingerprint}
        )
        return
    people.print(
        f"carry {path} to the centre, and tell the officers this fingerprint:\n  {request.fingerprint}\n"
        "Take back the file that `covenant site welcome` writes, and give it to `covenant-agent enroll --welcome`.",
        highlight=False,
    )


def _read(path: Path) -> Membership:
    try:
        return Membership.from_canonical(path.read_bytes().strip())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def _tell(enrolled: Enrolled, config: Path, *, json: bool) -> None:
    facts: dict[str, Any] = enrolled.facts()
    if json:
        emit(facts)
        return
    people.print(
        f"{facts['site']} is on member list {facts['members']}, which the root's quorum has signed.\n"
        f"log key:   {facts['log_key']}",
        highlight=False,
    )
    for name, roles in facts["approvers"].items():
        people.print(f"approver:  {name} ({', '.join(roles)})", highlight=False)
    people.print(f"next: covenant-agent doctor --config {config}", highlight=False)
