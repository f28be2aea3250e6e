"""Retraining: plans that were drafted, and what became of them."""

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_OPEN = sa.text("state = 'open'")


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "retraining_drafts",
        sa.Column("id", sa.String(24), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("alarm", sa.String(24), nullable=True),
        sa.Column("author", sa.String(63), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("plan_digest", sa.String(64), nullable=True),
        sa.Column("contract_digest", sa.String(64), nullable=True),
        sa.Column("says", sa.JSON(), nullable=False),
        sa.Column("gain", sa.JSON(), nullable=False),
        sa.Column("drafted_by", sa.Text(), nullable=False),
        sa.Column("drafted_at", _MOMENT, nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("decided_by", sa.Text(), nullable=True),
        sa.Column("decided_at", _MOMENT, nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.Column("run", sa.String(20), nullable=True),
        sa.CheckConstraint(
            "state IN ('open', 'adopted', 'dismissed', 'launched')", name=op.f("ck_retraining_drafts_state")
        ),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name="fk_retraining_drafts_name_version_models",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_retraining_drafts"),
    )
    op.create_index(
        "uq_retraining_drafts_open",
        "retraining_drafts",
        ["name"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )
    op.create_index("ix_retraining_drafts_name", "retraining_drafts", ["name", "drafted_at"])
    op.create_index("ix_retraining_drafts_alarm", "retraining_drafts", ["alarm"])
