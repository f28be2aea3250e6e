"""Rows that let somebody into the console bear a seal. Sessions, links and drafts of before end; accounts and identities of before count no longer."""

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"
branch_labels = None
depends_on = None

_SHORT_LIVED = ("console_sessions", "console_links", "console_drafts")
_LASTING = ("console_accounts", "console_identities")


def upgrade() -> None:
    """Add the column; no key is at hand here, so nothing that is there already gets a seal."""
    for table in _SHORT_LIVED:
        op.execute(sa.text(f"DELETE FROM {table}"))  # noqa: S608  (a constant)
    for table in (*_SHORT_LIVED, *_LASTING):
        op.add_column(table, sa.Column("seal", sa.String(64), nullable=False, server_default=sa.text("''")))
