"""Attempts at preparing and evaluating, numbered like rounds, and how often a run was started without getting further."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add a table and a column."""
    op.add_column("runs", sa.Column("idle_starts", sa.Integer(), nullable=False, server_default=sa.text("0")))
    op.create_table(
        "attempts",
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("attempt", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("roster", sa.JSON(), nullable=False),
        sa.Column("survivors", sa.JSON(), nullable=True),
        sa.Column("asked_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("stage IN ('prepare', 'evaluate')", name=op.f("ck_attempts_stage")),
        sa.CheckConstraint("round >= 0 AND attempt >= 1", name=op.f("ck_attempts_numbers")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_attempts_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "stage", "round", "attempt", name="pk_attempts"),
    )
