"""Who signed and approved the plan of a run, with the run."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the evidence."""
    op.add_column("runs", sa.Column("evidence", sa.Text(), nullable=True))
