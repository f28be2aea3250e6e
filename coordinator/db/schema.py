"""What the coordinator knows for certain, as tables.

1. A run holds the exact canonical text of its plan and contract, the signed member list and who approved the plan: digests are over those
   bytes.
2. A round is one attempt at a number. At most one attempt of a run is open, and at most one of each number is committed;
   partial unique indexes hold this even against two drivers of one run.
3. A checkpoint points at artifacts that were on disk before its row existed. Checkpoint 0 is the initial model.
4. Rows are never deleted: a voided attempt and a failed run stay, with their reason.
"""

from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from sqlalchemy import (
    JSON,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from coordinator.db.types import Unsigned64, UtcDateTime
from protos.model_stages import Stage as Stage  # noqa: PLC0414  (a column's values, for whoever reads the table)

DIGEST_LENGTH: Final = 64
_NAME_LENGTH: Final = 63
_COMMITTED_IS_COMPLETE: Final = (
    "state <> 'committed' OR (survivors IS NOT NULL AND statement_digest IS NOT NULL "
    "AND aggregate_digest IS NOT NULL AND model_digest IS NOT NULL AND closed_at IS NOT NULL)"
)
_RUN_ID_LENGTH: Final = 20


class RunState(StrEnum):
    """Where a run stands; the last three are final, except that a person can resume a failed or stopped run."""

    SUBMITTED = "submitted"
    RUNNING = "running"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"


FINAL_STATES: Final = frozenset({RunState.COMPLETED, RunState.FAILED, RunState.STOPPED})


class RoundState(StrEnum):
    """Where an attempt at a round stands; the last two are final."""

    OPEN = "open"
    COMMITTED = "committed"
    VOIDED = "voided"


def one_of(column: str, states: type[StrEnum]) -> str:
    """SQL that holds `column` to the values of `states`."""
    return f"{column} IN ({', '.join(repr(str(state)) for state in states)})"


class Base(DeclarativeBase):
    """All tables; constraints are named so that a migration can refer to them."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


class Site(Base):
    """An enrolled site with the keys that its member list entry names."""

    __tablename__ = "sites"

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    identity_key: Mapped[str] = mapped_column(Text)
    node_key: Mapped[str] = mapped_column(Text)
    node_id: Mapped[int | None] = mapped_column(Unsigned64)
    members_ref: Mapped[str] = mapped_column(String(100))
    enrolled_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Run(Base):
    """One execution of one plan. `flower_run_id` is the transport's latest run for it: a resumed run gets another.

    `idle_starts` counts the drivers that a supervisor started since anything was committed.
    """

    __tablename__ = "runs"
    __table_args__ = (
        CheckConstraint(one_of("state", RunState), name="state"),
        Index("ix_runs_submitted_at_id", "submitted_at", "id"),
        Index("ix_runs_state_submitted_at_id", "state", "submitted_at", "id"),
        Index("ix_runs_plan_name_submitted_at_id", "plan_name", "submitted_at", "id"),
    )

    id: Mapped[str] = mapped_column(String(_RUN_ID_LENGTH), primary_key=True)
    plan_name: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    plan_digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    plan: Mapped[str] = mapped_column(Text)
    contract: Mapped[str] = mapped_column(Text)
    members: Mapped[str] = mapped_column(Text)
    evidence: Mapped[str | None] = mapped_column(Text)
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(Text)
    flower_run_id: Mapped[int | None] = mapped_column(Unsigned64, index=True)
    idle_starts: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    scaling: Mapped[dict[str, list[float]] | None] = mapped_column(JSON(none_as_null=True))
    submitted_at: Mapped[datetime] = mapped_column(UtcDateTime)
    started_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Round(Base):
    """One attempt at one round. `exchange_s` is the time spent waiting for sites, `seconds` the whole round.

    `statement_digest` is absent until the round is settled: the statement names the attempt, which this row decides. `aggregate_digest`
    is also the name of the artifact that holds the aggregate; `testimony` is what survivors signed in secure aggregation, `opening` what a driver needs to send the one request for shares again; it is
    erased when the round is committed.
    """

    __tablename__ = "rounds"
    __table_args__ = (
        CheckConstraint(one_of("state", RoundState), name="state"),
        CheckConstraint("number >= 1 AND attempt >= 1", name="numbers"),
        CheckConstraint(_COMMITTED_IS_COMPLETE, name="complete"),
        Index(
            "uq_rounds_open",
            "run_id",
            unique=True,
            sqlite_where=text("state = 'open'"),
            postgresql_where=text("state = 'open'"),
        ),
        Index(
            "uq_rounds_committed",
            "run_id",
            "number",
            unique=True,
            sqlite_where=text("state = 'committed'"),
            postgresql_where=text("state = 'committed'"),
        ),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    state: Mapped[str] = mapped_column(String(16))
    roster: Mapped[list[str]] = mapped_column(JSON)
    survivors: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    statement_digest: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    aggregate_digest: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    model_digest: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    optimizer_digest: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
    testimony: Mapped[bytes | None] = mapped_column(LargeBinary)
    opening: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    exchange_s: Mapped[float | None] = mapped_column(Double)
    seconds: Mapped[float | None] = mapped_column(Double)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    panels: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    reason: Mapped[str | None] = mapped_column(Text)
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Attempt(Base):
    """One time that the sites were asked to prepare, or to evaluate a round's model. Attempts at training are rounds.

    `survivors` is who answered an attempt that counted: from whose rows the scaling, or the metrics, come.
    """

    __tablename__ = "attempts"
    __table_args__ = (
        CheckConstraint("stage IN ('prepare', 'evaluate')", name="stage"),
        CheckConstraint("round >= 0 AND attempt >= 1", name="numbers"),
    )

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    stage: Mapped[str] = mapped_column(String(16), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    attempt: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    roster: Mapped[list[str]] = mapped_column(JSON)
    survivors: Mapped[list[str] | None] = mapped_column(JSON(none_as_null=True))
    opening: Mapped[bytes | None] = mapped_column(LargeBinary, deferred=True)
    asked_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Checkpoint(Base):
    """The model and the optimiser's state after a committed round, by content; round 0 is before the first."""

    __tablename__ = "checkpoints"
    __table_args__ = (CheckConstraint("round >= 0", name="round"),)

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model_artifact: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    optimizer_artifact: Mapped[str] = mapped_column(String(DIGEST_LENGTH))


class Model(Base):
    """One version of a named model; `digest` is over the canonical JSON of `artifacts`, file name to SHA-256.

    `signature` is the artifact that holds the signature over all of them, where the federation has a key for that.
    """

    __tablename__ = "models"
    __table_args__ = (
        CheckConstraint(one_of("stage", Stage), name="stage"),
        CheckConstraint("version >= 1", name="version"),
        UniqueConstraint("name", "run_id", "digest"),
    )

    name: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    version: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    stage: Mapped[str] = mapped_column(String(16))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH))
    artifacts: Mapped[dict[str, str]] = mapped_column(JSON)
    metrics: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    panels: Mapped[dict[str, Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    signature: Mapped[str | None] = mapped_column(String(DIGEST_LENGTH))
