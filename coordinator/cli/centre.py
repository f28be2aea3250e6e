"""`covenant init`, `serve` and `db`: the coordinator itself."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import Home, centre_at
from coordinator.db.engine import open_database
from coordinator.db.migrate import migrate
from coordinator.keys import CARD_SUFFIX, LOG_NAME, make_key, warn_of_bare_keys
from coordinator.settings import CONFIG_NAME, CoordinatorConfig, Settings, load_settings
from protos.documents import read_document
from protos.enrolment import IdentityCard
from protos.logs import configure
from protos.passphrases import Passphrase, read_passphrase
from protos.shell import people
from strategies.errors import UsageError

_CONFIG = """\
covenant: coordinator/v1
federation: {federation}
# database: postgresql+pg8000://covenant@db.example/covenant   # else SQLite in this folder
artifacts: artifacts            # content-addressed models and checkpoints
members: members.json           # the member list, signed by as many officers as the root says
root: root.json                 # the federation's root; sites compare its fingerprint
keys: {keys}
superlink: {{host: {host}, port: {port}}}
control: {{host: {control_host}, port: {control_port}}}   # the API that officers' commands call with --access; without this line there is none
{enrolment}
{console}
"""

db = typer.Typer(no_args_is_help=True, help="The database of record.")


def register(app: typer.Typer) -> None:
    """Add these commands to `covenant`."""
    app.command("init")(init)
    app.command("serve")(serve)
    app.add_typer(db, name="db")


def init(  # noqa: PLR0917 (each is an option of the command)
    folder: Path,
    federation: Annotated[
        str, typer.Option(help="Name of the federation: lower-case letters, digits, hyphens.")
    ],
    host: Annotated[str, typer.Option(help="Address that the SuperLink listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the SuperLink.")] = 9092,
    name: Annotated[
        list[str] | None, typer.Option(help="Further name in the TLS certificate; repeatable.")
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the passphrase that the log's key is to have, mode 0600. Without it the key is not encrypted."
        ),
    ] = None,
    control_port: Annotated[int, typer.Option(help="Port of the control API.")] = 9093,
    control_host: Annotated[str, typer.Option(help="Address that the control API listens on.")] = "127.0.0.1",
    enrolment_port: Annotated[
        int | None,
        typer.Option(
            help="Port of the enrolment door, at the SuperLink's address. Without it requests travel as files."
        ),
    ] = None,
    console_port: Annotated[
        int | None,
        typer.Option(help="Port of the web console, at the control API's address. Without it there is none."),
    ] = None,
) -> None:
    """Make a coordinator's folder: configuration, certificates of transport and control API, the log's key, database."""
    if (folder / CONFIG_NAME).exists():
        raise UsageError(
            f"{folder / CONFIG_NAME} exists; a coordinator is never overwritten, choose another folder"
        )
    passphrase = None if passphrase_file is None else read_passphrase(passphrase_file)
    config = _CONFIG.format(
        federation=json.dumps(federation),
        host=json.dumps(host),
        port=port,
        control_host=json.dumps(control_host),
        control_port=control_port,
        keys=_keys(passphrase_file),
        enrolment=_enrolment(host, enrolment_port),
        console=_console(control_host, console_port),
    )
    read_document(config, CoordinatorConfig, CONFIG_NAME)  # before anything is made
    hosts = list(dict.fromkeys([host, "localhost", "127.0.0.1", *(name or [])]))
    settings, card = _made(folder, federation, hosts, config, passphrase)
    people.print(
        f"made {settings.home}; send {settings.home / LOG_NAME}{CARD_SUFFIX} to the officers and tell them this fingerprint:"
    )
    people.print(f"  {card.fingerprint}", highlight=False)


def _made(
    folder: Path, federation: str, hosts: Sequence[str], config: str, passphrase: Passphrase | None
) -> tuple[Settings, IdentityCard]:
    """The folder with all that is in it, and the log's key to compare with."""
    from coordinator.control_tls import control_files
    from coordinator.tls import make_transport_certificates

    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    make_transport_certificates(folder / "tls", federation=federation, hosts=hosts, now=datetime.now(UTC))
    card = make_key(folder, LOG_NAME, passphrase)
    (folder / CONFIG_NAME).write_text(config)
    settings = load_settings(folder)
    control_files(settings, datetime.now(UTC), hosts)
    migrate(open_database(settings.database_url))
    return settings, card


def _keys(passphrase_file: Path | None) -> str:
    """The part of a configuration that says where the services' keys are, and what opens them."""
    if passphrase_file is None:
        return f"{{log: {LOG_NAME}.key}}           # with passphrase: {{credential: NAME}} of systemd, or {{file: PATH}}; without it not encrypted"
    return f"{{log: {LOG_NAME}.key, passphrase: {{file: {json.dumps(str(passphrase_file.resolve()))}}}}}"


def _enrolment(host: str, port: int | None) -> str:
    """The part of a configuration that says whether there is an enrolment door."""
    what = "# where sites with an invitation hand in their requests; without this line those travel as files"
    if port is None:
        return f"# enrolment: {{host: {json.dumps(host)}, port: 9094}}   {what}"
    return f"enrolment: {{host: {json.dumps(host)}, port: {port}}}   {what}"


def _console(host: str, port: int | None) -> str:
    """The part of a configuration that says whether there is a web console."""
    what = "# the web console; without this line there is none"
    if port is None:
        return f"# console: {{host: {json.dumps(host)}, port: 9095}}   {what}"
    return f"console: {{host: {json.dumps(host)}, port: {port}}}   {what}"


def serve(home: Home = None) -> None:
    """Run the coordinator until stopped: SuperLink, sites' registration, server processes."""
    run_service(home)


def run_service(home: Path | None) -> None:
    """Serve in the foreground; SIGTERM and SIGINT end it cleanly."""
    from coordinator.service import Service

    centre = centre_at(home)
    configure(centre.settings.config.logging, words=True)
    warn_of_bare_keys(centre.settings)
    service = Service(centre)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.serve()


@db.command("migrate")
def migrate_database(home: Home = None) -> None:
    """Bring the database to the schema of this version."""
    settings = load_settings(home)
    migrate(open_database(settings.database_url))
    people.print("the database is up to date")
