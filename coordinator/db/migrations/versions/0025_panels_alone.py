"""Panels of evaluations that gave no metrics, because a class is hidden."""

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the columns."""
    for table in ("rounds", "models"):
        op.add_column(table, sa.Column("panels", sa.JSON(), nullable=True))
