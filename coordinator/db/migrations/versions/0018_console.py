"""The console: links, accounts, identities, sessions, drafts."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "console_links",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("until", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_console_links"),
    )
    op.create_table(
        "console_accounts",
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("password", sa.Text(), nullable=False),
        sa.Column("totp", sa.Text(), nullable=False),
        sa.Column("totp_step", sa.Integer(), nullable=False),
        sa.Column("failures", sa.Integer(), nullable=False),
        sa.Column("locked_until", _MOMENT, nullable=True),
        sa.Column("made_at", _MOMENT, nullable=False),
        sa.CheckConstraint("failures >= 0", name=op.f("ck_console_accounts_failures")),
        sa.PrimaryKeyConstraint("officer", name="pk_console_accounts"),
    )
    op.create_table(
        "console_identities",
        sa.Column("issuer", sa.String(255), nullable=False),
        sa.Column("subject", sa.String(255), nullable=False),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("tied_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_console_identities"),
    )
    op.create_index("ix_console_identities_officer", "console_identities", ["officer"])
    _sessions()


def _sessions() -> None:
    op.create_table(
        "console_sessions",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("method", sa.String(16), nullable=False),
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("began_at", _MOMENT, nullable=False),
        sa.Column("seen_at", _MOMENT, nullable=False),
        sa.Column("ends_at", _MOMENT, nullable=False),
        sa.Column("notice", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("digest", name="pk_console_sessions"),
    )
    op.create_index("ix_console_sessions_officer", "console_sessions", ["officer"])
    op.create_index("ix_console_sessions_ends_at", "console_sessions", ["ends_at"])
    op.create_table(
        "console_drafts",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("fields", sa.Text(), nullable=False),
        sa.Column("kept_at", _MOMENT, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_console_drafts"),
    )
    op.create_index("ix_console_drafts_officer", "console_drafts", ["officer"])
