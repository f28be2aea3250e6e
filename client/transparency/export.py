"""Writes a site's copy of the transparency log to a file that others can verify, and from which a lost coordinator is restored.

An agent that runs keeps the copy for itself, so a snapshot of it is read: an export is written only if it has the head that was signed.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

from client.bootstrap import open_log_copy
from client.journal.snapshot import snapshot
from client.transparency.log_copy import LogCopy
from protos.files import new_file
from protos.log_export import ExportHeader, write_export
from protos.site import SiteConfig
from strategies.errors import Refused, UsageError
from strategies.transparency.merkle import Frontier, leaf_hash
from strategies.transparency.notes import Checkpoint


def export_copy(config: SiteConfig, file: Path) -> dict[str, Any]:
    """Write the copy of a site, whether or not its agent runs. Raises UsageError where there is none, or `file` is there; Refused for a damaged one."""
    if not config.log_copy.exists():
        raise UsageError(
            f"{config.log_copy} does not exist: this site has not run yet, and has copied nothing"
        )
    with snapshot(config.log_copy) as taken, closing(open_log_copy(config, taken)) as copy:
        note = copy.newest()
        if note is None:
            raise UsageError(f"{config.log_copy} has no entries up to a signed head yet; a run brings them")
        head = Checkpoint.parse(note.text)
        _require_head(copy, head, config.log_copy)
        header = ExportHeader(federation=config.federation.name, checkpoint=note.encoded)
        with new_file(file) as opened:
            write_export(opened, header, copy.entries(head.size))
    return {
        "federation": config.federation.name,
        "entries": head.size,
        "root": head.root.hex(),
        "file": str(file),
    }


def _require_head(copy: LogCopy, head: Checkpoint, path: Path) -> None:
    tree = Frontier()
    for body in copy.entries(head.size):
        tree, _ = tree.append(leaf_hash(body))
    if (tree.size, tree.root) != (head.size, head.root):
        raise Refused(
            f"the entries in {path} are not those of the signed head of {head.size} entries: the agent wrote at that moment, then try again; or the"
            " file was changed, then stop the agent, move the file away and let runs bring another copy"
        )
