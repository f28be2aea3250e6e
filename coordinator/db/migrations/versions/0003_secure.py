"""Secure aggregation: what the survivors of a round have signed, and what it takes to open a sum after a crash."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add three columns."""
    op.add_column("rounds", sa.Column("testimony", sa.LargeBinary(), nullable=True))
    op.add_column("rounds", sa.Column("opening", sa.LargeBinary(), nullable=True))
    op.add_column("attempts", sa.Column("opening", sa.LargeBinary(), nullable=True))
