"""How runs go on between two entries of the log, as tables: whom the driver waits for, and what each site sent and took.

Nothing is decided by these rows, and a driver that dies may leave the last second of them out. They name runs without a foreign key, so that writing
them never waits for whoever has the run's row locked.
"""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Double, Index, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import Base
from coordinator.db.types import UtcDateTime

_NAME_LENGTH = 63
_RUN_ID_LENGTH = 20
_STAGE_LENGTH = 16
_CONTRACT_LENGTH = 100


class SiteExchange(Base):
    """The exchanges of one stage of one round with one site, all attempts together.

    `asked` and `answered` count exchanges, `sent` and `received` the bytes of frames, `seconds` how long answers took. `step` is what was asked last,
    `waiting` whether no answer came yet, `trouble` why the last exchange brought nothing of use.
    """

    __tablename__ = "site_exchanges"
    __table_args__ = (
        CheckConstraint("stage IN ('prepare', 'train', 'evaluate')", name="stage"),
        CheckConstraint("round >= 0 AND asked >= 0 AND answered >= 0", name="numbers"),
        Index("ix_site_exchanges_site", "site", "changed_at"),
        Index(
            "ix_site_exchanges_trouble",
            "site",
            "changed_at",
            sqlite_where=text("trouble IS NOT NULL"),
            postgresql_where=text("trouble IS NOT NULL"),
        ),
        {"sqlite_with_rowid": False},  # a run's rows lie together: they are summed up at every look
    )

    run_id: Mapped[str] = mapped_column(String(_RUN_ID_LENGTH), primary_key=True)
    stage: Mapped[str] = mapped_column(String(_STAGE_LENGTH), primary_key=True)
    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    site: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    asked: Mapped[int]
    answered: Mapped[int]
    sent: Mapped[int] = mapped_column(BigInteger)
    received: Mapped[int] = mapped_column(BigInteger)
    seconds: Mapped[float] = mapped_column(Double)
    step: Mapped[str] = mapped_column(String(_STAGE_LENGTH))
    waiting: Mapped[bool]
    trouble: Mapped[str | None] = mapped_column(Text)
    changed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SiteHeard(Base):
    """What was heard of a site last, of any run: an answer of use, one without, and whether its rows fit a contract."""

    __tablename__ = "sites_heard"

    site: Mapped[str] = mapped_column(String(_NAME_LENGTH), primary_key=True)
    answered_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    answered_run: Mapped[str | None] = mapped_column(String(_RUN_ID_LENGTH))
    trouble_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    trouble_run: Mapped[str | None] = mapped_column(String(_RUN_ID_LENGTH))
    trouble: Mapped[str | None] = mapped_column(Text)
    contract_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    contract: Mapped[str | None] = mapped_column(String(_CONTRACT_LENGTH))
    fits: Mapped[bool | None]
    version_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    version: Mapped[str | None] = mapped_column(String(_NAME_LENGTH))
