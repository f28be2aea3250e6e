"""The last step of the demo: an export of the log, verified as an auditor would, who has the officers' root and nothing else."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

from coordinator.governance.exports import export_log, newest_witnesses
from coordinator.governance.log import open_log
from protos.documents import load_document
from protos.log_export import verify_file
from protos.log_facts import facts_of
from protos.root import SignedRoot
from simulation.demo.machines import command
from simulation.demo.report import AuditReport
from simulation.deployment import Deployment
from strategies.errors import Refused


def audited(deployment: Deployment, file: Path) -> AuditReport:
    """Write the coordinator's log to `file` and verify it; raises `Refused` if anything in it does not fit."""
    centre = deployment.centre()
    log = open_log(centre.engine, centre.settings, centre.clock)
    export_log(log, centre.settings.config.federation, file, newest_witnesses(centre))
    pinned = load_document(deployment.officers.root, SignedRoot)
    return AuditReport(found=facts_of(verify_file(file, pinned), pinned), export=file)


def audited_elsewhere(export: Path, root: Path) -> AuditReport:
    """Verify an export in a folder that has it and the root, in a process that knows of no coordinator. Raises Refused if it does not fit."""
    with tempfile.TemporaryDirectory(prefix="covenant-auditor-") as place:
        for file in (export, root):
            shutil.copy(file, place)
        done = command(Path(place), "log", "verify", export.name, "--root", root.name, "--json")
    if done.returncode:
        raise Refused(f"the export {export} was not verified: {done.stderr.strip()[-2000:]}")
    return AuditReport(found=json.loads(done.stdout), export=export)
