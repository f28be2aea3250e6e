"""What the log's entries are about, as an index; and the orders in which pages list runs, entries and witnesses."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

from protos.log_subjects import Subject, subjects_of

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_PAGE = 500
_ENTRIES = sa.table("log_entries", sa.column("seq", sa.BigInteger), sa.column("body", sa.LargeBinary))
_SUBJECTS = sa.table("log_subjects", sa.column("subject", sa.String), sa.column("seq", sa.BigInteger))


def upgrade() -> None:
    """Create the index of subjects from the entries that there are, and the orders."""
    op.create_table(
        "log_subjects",
        sa.Column("subject", sa.String(96), nullable=False),
        sa.Column("seq", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.PrimaryKeyConstraint("subject", "seq", name="pk_log_subjects"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_log_entries_kind_seq", "log_entries", ["kind", "seq"])
    op.drop_index("ix_log_entries_kind", "log_entries")
    op.create_index("ix_runs_submitted_at_id", "runs", ["submitted_at", "id"])
    op.create_index("ix_runs_state_submitted_at_id", "runs", ["state", "submitted_at", "id"])
    op.create_index("ix_runs_plan_name_submitted_at_id", "runs", ["plan_name", "submitted_at", "id"])
    op.drop_index("ix_runs_plan_name", "runs")
    op.create_index("ix_witness_statements_site_id", "witness_statements", ["site", "id"])
    op.drop_index("ix_witness_statements_site", "witness_statements")
    _fill(op.get_bind())


def _fill(connection: sa.Connection) -> None:
    """Entries are read as JSON, so that this step reads those of any version: what an entry says that it is about does not change."""
    # RETURNING makes one statement of many rows, also where the driver would send them one by one.
    into = sa.insert(_SUBJECTS).returning(_SUBJECTS.c.seq)
    query = sa.select(_ENTRIES.c.seq, _ENTRIES.c.body).order_by(_ENTRIES.c.seq).limit(_PAGE)
    last = -1
    while rows := connection.execute(query.where(_ENTRIES.c.seq > last)).all():
        about = [{"subject": each.key, "seq": seq} for seq, body in rows for each in _about(bytes(body))]
        if about:
            connection.execute(into, about).all()
        last = rows[-1].seq


def _about(body: bytes) -> frozenset[Subject]:
    return subjects_of(json.loads(body)["what"])
