"""The transparency log as tables.

1. Entries are numbered from 0 without gaps, and never changed or deleted: triggers of the database refuse it (migration 0005). That is no protection
   against whoever owns the database. Checkpoints that others have seen are.
2. Entry i is stored with the hashes of all complete subtrees that end with it, its own leaf first: any proof is made of such hashes, and an entry's
   row is written once.
3. `log_subjects` is an index to find entries by what they are about. It follows from the entries, and nothing rests on it.
"""

from datetime import datetime

from sqlalchemy import BigInteger, CheckConstraint, Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from coordinator.db.schema import Base
from coordinator.db.types import UtcDateTime

_KIND_LENGTH = 32
_SUBJECT_LENGTH = 96


class LoggedEntry(Base):
    """An entry: `body` is what the leaf is over; `nodes` are 32 bytes for each level of a subtree that ends here, leaf first."""

    __tablename__ = "log_entries"
    __table_args__ = (
        CheckConstraint("seq >= 0", name="seq"),
        Index("ix_log_entries_kind_seq", "kind", "seq"),
    )

    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    kind: Mapped[str] = mapped_column(String(_KIND_LENGTH))
    at: Mapped[datetime] = mapped_column(UtcDateTime, index=True)
    body: Mapped[bytes] = mapped_column(LargeBinary)
    nodes: Mapped[bytes] = mapped_column(LargeBinary)


class LoggedCheckpoint(Base):
    """A head that the log's key has signed; `note` is the signed note."""

    __tablename__ = "log_checkpoints"
    __table_args__ = (CheckConstraint("size >= 0", name="size"),)

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    note: Mapped[str] = mapped_column(Text)
    signed_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LoggedSubject(Base):
    """That an entry is about something, by the key of a `protos.log_subjects.Subject`."""

    __tablename__ = "log_subjects"
    __table_args__ = {"sqlite_with_rowid": False}  # noqa: RUF012  (as SQLAlchemy declares it)

    subject: Mapped[str] = mapped_column(String(_SUBJECT_LENGTH), primary_key=True)
    seq: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
