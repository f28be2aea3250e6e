"""Drafts that were adopted and led to no run expire."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_OPEN = sa.text("state = 'open'")
_TABLE, _INDEX = "retraining_drafts", "uq_retraining_drafts_open"


def upgrade() -> None:
    """One more state. SQLite cannot change a check, so the table is made again there, without the index of some rows that it would not keep."""
    op.drop_index(_INDEX, _TABLE)
    with op.batch_alter_table(_TABLE) as table:
        table.drop_constraint(op.f("ck_retraining_drafts_state"), type_="check")
        table.create_check_constraint(
            op.f("ck_retraining_drafts_state"),
            "state IN ('open', 'adopted', 'dismissed', 'expired', 'launched')",
        )
    op.create_index(_INDEX, _TABLE, ["name"], unique=True, sqlite_where=_OPEN, postgresql_where=_OPEN)
