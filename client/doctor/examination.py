"""The whole examination: the configuration, then the checks of all rooms, each by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Final

from client.doctor import disk, identity, machine, network, process, records, sources
from client.doctor.findings import Check, Finding, Patient, fine, wrong
from protos.site import load_site
from strategies.errors import CovenantError

ROOMS: Final[Sequence[Sequence[Check]]] = (
    network.CHECKS,
    identity.CHECKS,
    disk.CHECKS,
    process.CHECKS,
    records.CHECKS,
    sources.CHECKS,
    machine.CHECKS,
)
"""The checks of each room, in the order in which they are shown."""


def examine(site_file: Path, *, clock: Callable[[], datetime]) -> Iterator[Finding]:
    """All findings, as they are found. A configuration that cannot be read is the only one then."""
    try:
        config = load_site(site_file)
    except CovenantError as error:
        yield wrong(
            "config", str(error), evidence=str(site_file), then=f"correct {site_file}, then run this again"
        )
        return
    yield fine(
        "config",
        f"{site_file.name} of site {config.site} in {config.federation.name} can be read",
        str(site_file),
    )
    patient = Patient(config=config, file=site_file.resolve(), clock=clock)
    for check in (each for room in ROOMS for each in room):
        yield from _found(check, patient)


def _found(check: Check, patient: Patient) -> list[Finding]:
    try:
        return list(check.look(patient))
    except CovenantError as error:
        return [wrong(check.name, str(error), then="do what the sentence says, then run this again")]
    except OSError as error:
        where = error.filename or patient.file
        return [
            wrong(
                check.name,
                f"{where} cannot be used: {error.strerror}",
                then=f"let the agent's user read and write {where}",
            )
        ]
