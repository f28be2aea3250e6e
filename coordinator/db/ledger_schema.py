"""The privacy ledger as tables: accounts, their ceilings, releases, and what happened to them.

1. An account is a site's population and a unit. No table, contract or file is in its key, so none of their changes begins a new account.
2. There is no balance. Entries are facts, and what is spent is derived from them: reserved adds `times` releases, voided takes back what
   was reserved and never opened, and settled says which attempt opened one of those reserved.
3. Rows are added and never changed or deleted: triggers of the database refuse it (migration 0004). Alone the version of an account
   counts up, by one, whenever something is decided about it.
4. An account is made with its first ceiling, and keeps that one's order of the Rényi divergence for good.
"""

from datetime import datetime
from enum import StrEnum
from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    Index,
    Integer,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import DIGEST_LENGTH, Base
from coordinator.db.types import UtcDateTime

NO_COLUMN: Final = ""
"""The `unit_column` of units that have none: a NULL would differ from every other in a unique constraint."""
CHARGING: Final = "outcome <> 'settled'"
"""SQL of the entries that change what is charged. Written out, because SQLite uses a partial index for its very words only."""
_NAME_LENGTH: Final = 63
_COLUMN_LENGTH: Final = 128
_LABEL_LENGTH: Final = 16
# SQLite numbers rows by itself only in a column that it calls INTEGER.
_RowId = BigInteger().with_variant(Integer, "sqlite")
_SETTLED_NAMES_ITS_ATTEMPT: Final = (
    "(outcome = 'settled') = (round IS NOT NULL) AND (outcome = 'settled') = (attempt IS NOT NULL) "
    "AND (outcome <> 'settled' OR times = 1)"
)


class Outcome(StrEnum):
    """What an entry says of its releases."""

    RESERVED = "reserved"
    SETTLED = "settled"
    VOIDED = "voided"


class LedgerAccount(Base):
    """What one unit of `population` at `site` may lose. `version` counts the decisions that were made about it."""

    __tablename__ = "ledger_accounts"
    __table_args__ = (
        UniqueConstraint("site", "population", "unit_kind", "unit_column"),
        CheckConstraint("unit_kind IN ('record', 'customer', 'site')", name="unit_kind"),
        CheckConstraint("(unit_kind = 'customer') = (unit_column <> '')", name="unit_column"),
        CheckConstraint("version >= 0", name="version"),
    )

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    site: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    population: Mapped[str] = mapped_column(String(_NAME_LENGTH))
    unit_kind: Mapped[str] = mapped_column(String(_LABEL_LENGTH))
    unit_column: Mapped[str] = mapped_column(String(_COLUMN_LENGTH))
    renyi_order: Mapped[int]
    version: Mapped[int]
    opened_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LedgerCeiling(Base):
    """One decision on an account by its officers; the one with the highest `seq` is in force, with its alerts and overlaps."""

    __tablename__ = "ledger_ceilings"
    __table_args__ = (
        CheckConstraint("seq >= 1", name="seq"),
        CheckConstraint("epsilon > 0 AND delta > 0 AND delta < 1", name="bounds"),
        CheckConstraint("max_rows >= 1 AND max_sites >= 1", name="unit"),
    )

    account_id: Mapped[int] = mapped_column(ForeignKey("ledger_accounts.id"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    epsilon: Mapped[float] = mapped_column(Double)
    delta: Mapped[float] = mapped_column(Double)
    max_rows: Mapped[int]
    max_sites: Mapped[int]
    alert_at: Mapped[list[float]] = mapped_column(JSON)
    overlaps: Mapped[list[str]] = mapped_column(JSON)
    officers: Mapped[list[str]] = mapped_column(JSON)
    reason: Mapped[str] = mapped_column(Text)
    set_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LedgerRelease(Base):
    """The mathematics of a release, once for all that are equal; `facts` is its canonical JSON, which `digest` is over."""

    __tablename__ = "ledger_releases"

    digest: Mapped[str] = mapped_column(String(DIGEST_LENGTH), primary_key=True)
    facts: Mapped[str] = mapped_column(Text)


class LedgerEntry(Base):
    """One fact about releases of a run's stage: `times` of them reserved or voided, or one settled by an attempt at a round.

    `reason` is why something was voided.
    """

    __tablename__ = "ledger_entries"
    __table_args__ = (
        CheckConstraint("outcome IN ('reserved', 'settled', 'voided')", name="outcome"),
        CheckConstraint("stage IN ('prepare', 'train', 'evaluate')", name="stage"),
        CheckConstraint("times >= 1", name="times"),
        CheckConstraint(_SETTLED_NAMES_ITS_ATTEMPT, name="attempt"),
        CheckConstraint("(outcome = 'voided') = (reason IS NOT NULL)", name="reason"),
        # All that sums an account up is in an index, so that a long ledger is read without its table; and what is charged to it
        # is in a short one, because settling charges nothing anew.
        Index(
            "ix_ledger_entries_sums",
            "account_id",
            "run_id",
            "stage",
            "release_digest",
            "outcome",
            "times",
            "at",
        ),
        Index(
            "ix_ledger_entries_charges",
            "account_id",
            "release_digest",
            "outcome",
            "times",
            sqlite_where=text(CHARGING),
            postgresql_where=text(CHARGING),
        ),
        Index(
            "uq_ledger_entries_settled",
            "run_id",
            "account_id",
            "stage",
            "round",
            "attempt",
            "release_digest",
            unique=True,
            sqlite_where=text("outcome = 'settled'"),
            postgresql_where=text("outcome = 'settled'"),
        ),
    )

    id: Mapped[int] = mapped_column(_RowId, primary_key=True)
    account_id: Mapped[int] = mapped_column(ForeignKey("ledger_accounts.id"))
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    stage: Mapped[str] = mapped_column(String(_LABEL_LENGTH))
    release_digest: Mapped[str] = mapped_column(ForeignKey("ledger_releases.digest"))
    outcome: Mapped[str] = mapped_column(String(_LABEL_LENGTH))
    times: Mapped[int]
    round: Mapped[int | None]
    attempt: Mapped[int | None]
    reason: Mapped[str | None] = mapped_column(Text)
    at: Mapped[datetime] = mapped_column(UtcDateTime)


class LedgerAlert(Base):
    """That an account came to a fraction of the ceiling in force, once a ceiling; `run_id` brought it there, or a lowered ceiling (NULL)."""

    __tablename__ = "ledger_alerts"
    __table_args__ = (CheckConstraint("fraction > 0 AND fraction <= 1", name="fraction"),)

    account_id: Mapped[int] = mapped_column(ForeignKey("ledger_accounts.id"), primary_key=True)
    ceiling_seq: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    fraction: Mapped[float] = mapped_column(Double, primary_key=True)
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"))
    crossed_at: Mapped[datetime] = mapped_column(UtcDateTime)
