"""An index over the moments of the log's entries: the newest is looked up before each is appended."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the index."""
    op.create_index("ix_log_entries_at", "log_entries", ["at"])
