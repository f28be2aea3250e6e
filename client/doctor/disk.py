"""The disk: room, permission, and who else may read."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from client.bootstrap import standing_file
from client.doctor.findings import Check, Finding, Patient, doubtful, fine, wrong
from protos.site import SiteConfig

_NEEDED_BYTES: Final = 64 << 20
_WANTED_BYTES: Final = 1 << 30
_OTHERS: Final = 0o077
"""The bits of a mode that let others in."""


def _records(config: SiteConfig) -> tuple[Path, ...]:
    """The files that an agent writes while it runs."""
    standing = standing_file(config)
    return (config.journal, config.accounts, config.halts, standing, config.consents, config.log_copy)


def _space(patient: Patient) -> Iterator[Finding]:
    for folder in sorted({each.parent for each in _records(patient.config)}):
        yield judge_space(folder, shutil.disk_usage(folder).free)


def judge_space(folder: Path, free: int) -> Finding:
    """What `free` bytes at `folder` mean: a journal that cannot be written ends the agent."""
    evidence = f"{free >> 20} MiB free at {folder}"
    if free < _NEEDED_BYTES:
        return wrong(
            "disk",
            f"the disk with {folder} is full, or as good as: the agent ends as soon as it cannot record what it says",
            evidence=evidence,
            then=f"make room on that disk: at least {_WANTED_BYTES >> 30} GiB; `du -xh {folder} | sort -h | tail` shows what takes it",
        )
    if free < _WANTED_BYTES:
        return doubtful(
            "disk",
            f"the disk with {folder} has little room left",
            evidence=evidence,
            then=f"make room: at least {_WANTED_BYTES >> 30} GiB",
        )
    return fine("disk", "there is room for the site's records", evidence)


def _permissions(patient: Patient) -> Iterator[Finding]:
    config = patient.config
    for file in _records(config):
        if not os.access(file.parent, os.W_OK | os.X_OK) or (
            file.exists() and not os.access(file, os.R_OK | os.W_OK)
        ):
            yield wrong(
                "permissions",
                f"the agent's user cannot write {file}",
                evidence=f"user {os.geteuid()}",
                then=f"chown {os.geteuid()} {file.parent} {file}",
            )
    folder = config.identity.key.parent
    if folder.stat().st_mode & _OTHERS:
        yield doubtful(
            "permissions",
            f"others on this machine can look into {folder}",
            evidence=f"mode {folder.stat().st_mode & 0o777:o}",
            then=f"chmod 700 {folder}",
        )
    else:
        yield fine("permissions", f"only the agent's user can look into {folder}")


CHECKS: Final[Sequence[Check]] = (Check("disk", _space), Check("permissions", _permissions))
