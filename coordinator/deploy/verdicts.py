"""The gate's verdicts as rows, from their entries in the log."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Engine, select

from coordinator.db.engine import reading
from coordinator.db.gate_schema import ModelVerdict
from protos.gates import Verdict
from protos.log_gate import GateJudged


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
