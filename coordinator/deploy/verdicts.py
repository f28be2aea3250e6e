"""The gate's verdicts as rows, from their entries in the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.db.engine import reading
from coordinator.db.gate_schema import ModelVerdict
from coordinator.db.registry_schema import ModelMove
from protos.gates import Verdict
from protos.log_gate import GateJudged
from protos.log_registry import Judged
from protos.model_stages import Stage
from strategies.ids import Digest


def verdict_row(what: GateJudged, at: datetime, entry: int) -> ModelVerdict:
    """The row of a verdict whose place in the log is `entry`."""
    return ModelVerdict(
        entry=entry,
        name=what.name,
        version=what.version,
        digest=what.verdict.digest,
        passed=what.verdict.passed,
        document=what.verdict.canonical.decode(),
        why=what.why,
        asked_by=what.by,
        judged_at=at,
    )


def verdicts_on(engine: Engine, name: str, version: int) -> Sequence[Verdict]:
    """All verdicts on a version, the latest last."""
    query = select(ModelVerdict.document).where(ModelVerdict.name == name, ModelVerdict.version == version)
    with reading(engine, f"looking for verdicts on {name}@{version}") as session:
        found = session.scalars(query.order_by(ModelVerdict.entry)).all()
    return [Verdict.from_canonical(each.encode()) for each in found]


def newest_verdict(session: Session, name: str, version: int) -> Judged | None:
    """What the gate said last of a version since it became a candidate; None where it has said nothing."""
    became = select(func.max(ModelMove.entry)).where(
        ModelMove.name == name, ModelMove.version == version, ModelMove.after == Stage.CANDIDATE
    )
    since = session.scalar(became)
    query = select(ModelVerdict.digest, ModelVerdict.passed).where(
        ModelVerdict.name == name,
        ModelVerdict.version == version,
        ModelVerdict.entry > (-1 if since is None else since),
    )
    found = session.execute(query.order_by(ModelVerdict.entry.desc()).limit(1)).first()
    return None if found is None else Judged(Digest(found.digest), found.passed)
