"""`covenant-agent log`: this site's copy of the transparency log, for whoever must restore the coordinator, or audits it.

An agent that runs keeps the file for itself, so a copy of it is read: an export is written only if it has the head that was signed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import typer

from client.journal.entries import Owner
from client.log_copy import LogCopy
from protos.shell import emit, people
from protos.site import SiteConfig, load_site
from strategies.errors import Refused, UsageError
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint

_SUFFIXES = ("", "-wal")
app = typer.Typer(no_args_is_help=True, help="This site's copy of the transparency log.")


def register(agent: typer.Typer) -> None:
    """Add the commands."""
    agent.add_typer(app, name="log")


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="A new file.")],
    *,
    config: Annotated[Path, typer.Option("--config", "-c", help="The site's configuration.")] = Path(
        "site.yaml"
    ),
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Write the copy up to the newest signed head that it reaches, as `covenant log verify` and `covenant restore --copy` take it."""
    facts = export_copy(load_site(config), file)
    if json:
        emit(facts)
        return
    people.print(
        f"wrote {facts['entries']} entries of the log of {facts['federation']} to {file}; their head is {facts['root']}",
        highlight=False,
        markup=False,
    )


def export_copy(config: SiteConfig, file: Path) -> dict[str, Any]:
    """Write the copy of a site, whether or not its agent runs. Raises UsageError where there is none, or `file` is there; Refused for a damaged one."""
    from protos.log_export import ExportHeader, write_export

    with _opened(config) as copy:
        note = copy.newest()
        if note is None:
            raise UsageError(f"{config.log_copy} has no entries up to a signed head yet; a run brings them")
        head = Checkpoint.parse(note.text)
        _require_head(copy, head, config.log_copy)
        header = ExportHeader(federation=config.federation.name, checkpoint=note.encoded)
        try:
            with file.open("xb") as opened:
                write_export(opened, header, copy.entries(head.size))
                opened.flush()
                os.fsync(opened.fileno())
        except FileExistsError as error:
            raise UsageError(f"{file} exists; name another file") from error
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}") from error
    return {
        "federation": config.federation.name,
        "entries": head.size,
        "root": head.root.hex(),
        "file": str(file),
    }


@contextmanager
def _opened(config: SiteConfig) -> Iterator[LogCopy]:
    from client.keystore import load_identity, load_root

    if not config.log_copy.exists():
        raise UsageError(
            f"{config.log_copy} does not exist: this site has not run yet, and has copied nothing"
        )
    owner = Owner(
        federation=config.federation.name,
        root=load_root(config).root.digest,
        site=config.site,
        identity=load_identity(config).public,
    )
    with TemporaryDirectory() as name:
        read = Path(name) / "log.db"
        for suffix in _SUFFIXES:
            source = Path(f"{config.log_copy}{suffix}")
            if source.exists():
                shutil.copyfile(source, f"{read}{suffix}")
        copy = LogCopy.open(read, owner)
        try:
            yield copy
        finally:
            copy.close()


def _require_head(copy: LogCopy, head: Checkpoint, path: Path) -> None:
    tree = Frontier()
    for body in copy.entries(head.size):
        tree, _ = tree.append(leaf_hash(body))
    if (tree.size, tree.root) != (head.size, head.root):
        raise Refused(
            f"the entries in {path} are not those of the signed head of {head.size} entries: the agent wrote at that moment, then try again; or the"
            " file was changed, then stop the agent, move the file away and let runs bring another copy"
        )
