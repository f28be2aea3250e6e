"""`covenant init`, `serve`, `key` and `db`: the coordinator itself."""

from __future__ import annotations

import json
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.options import Home, centre_at
from coordinator.db.engine import open_database
from coordinator.db.migrate import migrate
from coordinator.logs import configure
from coordinator.settings import CONFIG_NAME, CoordinatorConfig, load_settings
from protos.documents import read_document
from protos.membership import FederationRoot
from protos.shell import people
from strategies.errors import UsageError

_CONFIG = """\
covenant: coordinator/v1
federation: {federation}
# database: postgresql+pg8000://covenant@db.example/covenant   # else SQLite in this folder
artifacts: artifacts            # content-addressed models and checkpoints
members: members.json           # the member list, signed by the federation root
root: root.json                 # the root's public half; sites compare its fingerprint
superlink: {{host: {host}, port: {port}}}
"""

key = typer.Typer(no_args_is_help=True, help="Keys of the federation.")
db = typer.Typer(no_args_is_help=True, help="The database of record.")


def register(app: typer.Typer) -> None:
    """Add these commands to `covenant`."""
    app.command("init")(init)
    app.command("serve")(serve)
    app.add_typer(key, name="key")
    app.add_typer(db, name="db")


def init(
    folder: Path,
    federation: Annotated[
        str, typer.Option(help="Name of the federation: lower-case letters, digits, hyphens.")
    ],
    host: Annotated[str, typer.Option(help="Address that the SuperLink listens on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of the SuperLink.")] = 9092,
    name: Annotated[
        list[str] | None, typer.Option(help="Further name in the TLS certificate; repeatable.")
    ] = None,
) -> None:
    """Make a coordinator's folder: configuration, transport certificates, database."""
    from coordinator.tls import make_transport_certificates

    if (folder / CONFIG_NAME).exists():
        raise UsageError(
            f"{folder / CONFIG_NAME} exists; a coordinator is never overwritten, choose another folder"
        )
    config = _CONFIG.format(federation=json.dumps(federation), host=json.dumps(host), port=port)
    read_document(config, CoordinatorConfig, CONFIG_NAME)  # before anything is made
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    hosts = list(dict.fromkeys([host, "localhost", "127.0.0.1", *(name or [])]))
    make_transport_certificates(folder / "tls", federation=federation, hosts=hosts, now=datetime.now(UTC))
    (folder / CONFIG_NAME).write_text(config)
    settings = load_settings(folder)
    migrate(open_database(settings.database_url))
    people.print(
        f"made {settings.home}; next: `covenant key root`, `covenant site certify`, `covenant serve`"
    )


def serve(home: Home = None) -> None:
    """Run the coordinator until stopped: SuperLink, sites' registration, server processes."""
    run_service(home)


def run_service(home: Path | None) -> None:
    """Serve in the foreground; SIGTERM and SIGINT end it cleanly."""
    from coordinator.service import Service

    configure()
    service = Service(centre_at(home))
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: service.stop())
    service.serve()


@key.command("root")
def make_root(
    folder: Annotated[Path, typer.Option(help="Where root.key and root.json go; keep it offline.")],
    federation: Annotated[str, typer.Option(help="Name of the federation.")],
) -> None:
    """Make the federation's root key, which certifies sites. Keep root.key offline, with the officers."""
    root = FederationRoot.generate(federation)
    folder.mkdir(parents=True, exist_ok=True)
    root.save(folder)
    people.print(
        f"made {folder / 'root.key'} (secret) and {folder / 'root.json'}; fingerprint {root.fingerprint}"
    )


@db.command("migrate")
def migrate_database(home: Home = None) -> None:
    """Bring the database to the schema of this version."""
    settings = load_settings(home)
    migrate(open_database(settings.database_url))
    people.print("the database is up to date")
