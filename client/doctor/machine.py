"""The machine and what is installed on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from client.doctor.findings import Check, Finding, Patient, doubtful, fine, wrong
from client.training import COMPONENTS
from protos.frames import PROTOCOL_VERSION
from protos.release import package_version

_FLWR: Final = "1.41."
_NEEDED_KIB: Final = 1024 << 10
_WANTED_KIB: Final = 1536 << 10


def _memory(_: Patient) -> Iterator[Finding]:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            yield judge_memory(int(line.split()[1]))


def judge_memory(available_kib: int) -> Finding:
    """What the memory that is to be had means: an agent takes up to 1.5 GiB."""
    evidence = f"{available_kib >> 10} MiB can be had"
    if available_kib < _NEEDED_KIB:
        return wrong(
            "memory",
            "there is too little memory for training: the kernel would end the agent in the middle of a round",
            evidence=evidence,
            then="give the machine at least 2 GiB, or end what else runs on it",
        )
    if available_kib < _WANTED_KIB:
        return doubtful(
            "memory", "memory is short", evidence=evidence, then="give the machine at least 2 GiB"
        )
    return fine("memory", "there is memory for training", evidence)


def _versions(patient: Patient) -> Iterator[Finding]:
    told = f"covenant-fl {package_version()}, frames of version {PROTOCOL_VERSION}, components {', '.join(COMPONENTS)}, Python {sys.version.split()[0]}"
    try:
        flwr = version("flwr")
    except PackageNotFoundError:
        flwr = "none"
    if not flwr.startswith(_FLWR):
        yield wrong(
            "versions",
            f"flwr {flwr} is installed; this version speaks with {_FLWR}x",
            evidence=told,
            then=f"pip install 'flwr>={_FLWR}0,<1.42'",
        )
        return
    yield fine("versions", "what is installed fits together", f"{told}, flwr {flwr}")
    admitted = {mode for rule in patient.config.policy.accept for mode in rule.privacy.modes}
    if "local" in admitted and find_spec("opacus") is None:
        yield doubtful(
            "versions",
            "policy admits mode local, and Opacus is not installed",
            then="pip install 'covenant-fl[local]'",
        )


CHECKS: Final[Sequence[Check]] = (Check("memory", _memory), Check("versions", _versions))
