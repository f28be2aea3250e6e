"""Audits of plans beside their claims: results of `covenant privacy audit --keep`, one file a plan in the coordinator's folder.

An audit is a measurement that whoever has the plan can make again, so it is in no log and no backup, and nothing is decided by it. The newest one of a
plan takes the place of the one before, unless that one has refuted the claim: this one stays.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field

from protos.documents import Document, DocumentError, Part, load_document
from protos.moments import Moment
from protos.names import Name, Sha256
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest

FOLDER: Final = "audits"
MOST: Final = 50
"""Plans that are looked up at once."""
_Words = Annotated[str, Field(max_length=500)]
_Epsilon = Annotated[float, Field(ge=0.0)]
_Count = Annotated[int, Field(ge=0)]


class AuditedClaim(Part):
    """What was claimed; no epsilon where nothing is promised."""

    words: _Words
    epsilon: _Epsilon | None = None
    delta: Annotated[float, Field(gt=0.0, lt=1.0)]


class AuditPower(Part):
    """What the same audit would typically show of something else."""

    noise_as_planned: _Epsilon
    a_quarter_of_the_noise: _Epsilon
    no_noise: _Epsilon
    no_clipping: _Epsilon


class KeptAudit(Document):
    """The result of one audit. `epsilon_at_least` is the lower bound at `claimed`'s delta with `confidence`; `claimed` is for the audited `rounds`."""

    covenant: Literal["kept-audit/v1"] = "kept-audit/v1"
    plan: Name
    plan_digest: Sha256
    at: Moment
    rounds: _Count
    planned_rounds: _Count
    canaries: _Count
    runs: _Count
    guesses_made: _Count
    guesses_right: _Count
    crowd: _Words
    confidence: Annotated[float, Field(gt=0.0, lt=1.0)]
    claimed: AuditedClaim
    claimed_for_all: AuditedClaim
    epsilon_at_least: _Epsilon
    power: AuditPower

    @property
    def refuted(self) -> bool:
        """Whether the claim is proved wrong."""
        return self.claimed.epsilon is not None and self.epsilon_at_least > self.claimed.epsilon


def keep_audit(home: Path, audit: KeptAudit) -> Path:
    """Keep an audit in the coordinator's folder; returns its file. Raises Refused where the kept one refutes the claim, and CovenantError."""
    path = _path(home, Digest(audit.plan_digest))
    before = _read(path, Digest(audit.plan_digest))
    if before is not None and before.refuted and not audit.refuted:
        raise Refused(
            f"{path} has an audit of {before.at:%Y-%m-%d %H:%M} UTC that refutes the claim of plan {audit.plan}: one that finds nothing does not undo it."
            " Once the cause is found, take that file away, and keep this audit again"
        )
    making = path.with_suffix(".new")
    try:
        path.parent.mkdir(mode=0o700, exist_ok=True)
        with making.open("wb") as file:
            file.write(audit.canonical)
            file.flush()
            os.fsync(file.fileno())
        making.replace(path)
    except OSError as error:
        raise CovenantError(f"{path} cannot be written: {error.strerror}; the audit is not kept") from error
    return path


def kept_audits(home: Path, plans: Iterable[Digest]) -> Mapping[Digest, KeptAudit]:
    """The audits there are of the first `MOST` of `plans`; what is no audit of its plan is left out."""
    found: dict[Digest, KeptAudit] = {}
    for plan in list(dict.fromkeys(plans))[:MOST]:
        audit = _read(_path(home, plan), plan)
        if audit is not None:
            found[plan] = audit
    return found


def _path(home: Path, plan: Digest) -> Path:
    return home / FOLDER / f"{plan}.json"


def _read(path: Path, plan: Digest) -> KeptAudit | None:
    """Whoever has the coordinator's folder can put anything there: what is no audit of this plan is as good as none."""
    if not path.exists():
        return None
    with suppress(DocumentError):
        audit = load_document(path, KeptAudit)
        if audit.plan_digest == plan:
            return audit
    return None
