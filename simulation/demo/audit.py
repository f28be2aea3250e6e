"""The last step of the demo: an export of the log, verified as an auditor would, who has the officers' root and nothing else."""

from __future__ import annotations

from pathlib import Path

from coordinator.governance.exports import export_log
from coordinator.governance.log import open_log
from protos.documents import load_document
from protos.log_export import verify_file
from protos.root import SignedRoot
from simulation.demo.report import AuditReport
from simulation.deployment import Deployment


def audited(deployment: Deployment, file: Path) -> AuditReport:
    """Write the coordinator's log to `file` and verify it; raises `Refused` if anything in it does not fit."""
    centre = deployment.centre()
    export_log(
        open_log(centre.engine, centre.settings, centre.clock), centre.settings.config.federation, file
    )
    found = verify_file(file, load_document(deployment.officers.root, SignedRoot))
    return AuditReport(
        entries=found.head.size,
        root=found.head.root.hex(),
        runs=len(found.story.runs),
        models=[f"{each.name}@{each.version}" for each in found.story.models],
        export=file,
    )
