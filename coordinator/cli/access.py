"""`covenant access`: how an officer comes to the control API. The officer asks, the coordinator's machine grants."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Home, Json, centre_at
from coordinator.cli.signing import PUBLIC_MODE, OfficerKey, PassphraseFile, now, open_key
from coordinator.control_tls import control_files, facts_of_certificate, fingerprint_of
from coordinator.office.accesses import grant as grant_access
from coordinator.office.accesses import list_accesses
from protos.access import LONGEST_ACCESS, PROFILE_FILE, AccessProfile, AccessRequest
from protos.documents import load_document
from protos.files import replace_file
from protos.keys import create_node_key, grouped
from protos.moments import end_of_day
from protos.shell import emit, people
from strategies.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Access to the control API, from officers' own machines.")
_CA_NAME = "control-ca.crt"


@app.command("request")
def request(
    name: Annotated[str, typer.Argument(help="Who asks, by the name on the member list.")],
    federation: Annotated[str, typer.Option(help="Name of the federation.")],
    key: OfficerKey,
    out: Annotated[Path, typer.Option(help="The access folder, for NAME-tls.key and NAME.access.json.")],
    passphrase_file: PassphraseFile = None,
    until: Annotated[
        str | None,
        typer.Option(
            help="Last day, YYYY-MM-DD, to its end in UTC; 90 days from now if left out, and at most."
        ),
    ] = None,
) -> None:
    """Make a key for TLS, and a request for a certificate that the officer's own key signs. NAME.access.json goes to the coordinator."""
    latest = (now() + LONGEST_ACCESS).replace(microsecond=0)
    last = latest if until is None else end_of_day(until)
    if not now() < last <= latest + timedelta(days=1):
        raise UsageError(
            f"--until {until}: name a day that is to come, at most {LONGEST_ACCESS.days} days from now"
        )
    out.mkdir(parents=True, exist_ok=True)
    out.chmod(0o700)
    signer = open_key(key, passphrase_file)
    file = out / f"{name}-tls.key"
    public = create_node_key(file)
    wish = AccessRequest.create(federation, name, public, signer, until=min(last, latest))
    replace_file(out / f"{name}.access.json", wish.canonical + b"\n", mode=PUBLIC_MODE)
    people.print(
        f"made {file} (secret) and {out / f'{name}.access.json'}, which goes to the coordinator: `covenant access grant`",
        highlight=False,
    )


@app.command("grant")
def grant(
    request_file: Annotated[Path, typer.Argument(metavar="REQUEST", help="NAME.access.json of an officer.")],
    out: Annotated[
        Path, typer.Option(help="Folder for what goes back: NAME.crt, control-ca.crt and access.yaml.")
    ],
    server: Annotated[
        str | None,
        typer.Option(
            help="HOST:PORT by which the officer reaches the control API, if not as in covenant.yaml."
        ),
    ] = None,
    home: Home = None,
) -> None:
    """Judge an officer's request by the newest member list, and issue the certificate; the log is told. Runs on the coordinator's machine."""
    centre = centre_at(home)
    wish = load_document(request_file, AccessRequest)
    section = centre.settings.config.control
    if server is None and section is None:
        raise UsageError("covenant.yaml has no section `control`, so there is nothing to reach; add one")
    address = server or ("" if section is None else f"{section.host}:{section.port}")
    before = fingerprint_of(control_files(centre.settings, centre.clock()).certificate)
    files = control_files(centre.settings, centre.clock(), [address.rpartition(":")[0]])
    if fingerprint_of(files.certificate) != before:
        people.print(
            f"the server's certificate was made anew for {address}; restart the coordinator to use it",
            highlight=False,
        )
    certificate = grant_access(centre, files, wish)
    name = wish.officer
    profile = AccessProfile(
        server=address,
        ca=Path(_CA_NAME),
        certificate=Path(f"{name}.crt"),
        key=Path(f"{name}-tls.key"),
    )
    out.mkdir(parents=True, exist_ok=True)
    replace_file(out / f"{name}.crt", certificate, mode=PUBLIC_MODE)
    replace_file(out / _CA_NAME, files.ca.read_bytes(), mode=PUBLIC_MODE)
    replace_file(out / PROFILE_FILE, profile.canonical + b"\n", mode=PUBLIC_MODE)
    people.print(
        f"{name} may reach {address} until {wish.until:%Y-%m-%d %H:%M} UTC; the three files in {out} go into {name}'s access folder."
        f" Tell {name} the fingerprint of {_CA_NAME}:\n  {grouped(fingerprint_of(files.ca))}",
        highlight=False,
    )


@app.command("show")
def show(
    folder: Annotated[Path, typer.Argument(help="An access folder.")],
    json: Json = False,
) -> None:
    """What an access folder opens, and the fingerprint of the authority that proves the server: compare it with the coordinator's people."""
    profile = load_document(folder / PROFILE_FILE, AccessProfile)
    found = facts_of_certificate(profile.certificate)
    authority = fingerprint_of(profile.ca)
    if json:
        emit({"server": profile.server, "authority": authority, **found})
        return
    people.print(
        f"{found['officer']} reaches {profile.server} until {found['until']}; the server is proved by\n  {grouped(authority)}",
        highlight=False,
    )


@app.command("list")
def list_granted(home: Home = None, json: Json = False) -> None:
    """All accesses that were granted, the latest first. Who is off the member list cannot use one."""
    found = list_accesses(centre_at(home).engine)
    if json:
        emit(
            {
                "accesses": [
                    {
                        "officer": each.request.officer,
                        "until": each.request.until.isoformat(),
                        "granted_at": each.granted_at.isoformat(),
                        "request": each.request.digest,
                        "tls_key": each.request.tls_digest,
                    }
                    for each in found
                ]
            }
        )
        return
    table = Table("officer", "until", "granted", "request")
    for each in found:
        request = each.request
        table.add_row(
            request.officer,
            f"{request.until:%Y-%m-%d %H:%M} UTC",
            f"{each.granted_at:%Y-%m-%d %H:%M} UTC",
            request.digest[:16],
        )
    people.print(table)
