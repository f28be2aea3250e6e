"""The pack that comes with the program, to begin with; it is in effect nowhere until officers have signed and published it."""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from protos.documents import read_document
from protos.policy_pack import PolicyPack

BASELINE: Final = "baseline"


def baseline_text() -> str:
    """The pack as it was written, with its comments."""
    return (files(__package__) / f"{BASELINE}.yaml").read_text(encoding="utf-8")


def baseline() -> PolicyPack:
    """The pack, read."""
    return read_document(baseline_text(), PolicyPack, BASELINE)
