"""What sites have signed about the transparency log, and evidence of histories that do not fit."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables."""
    op.create_table(
        "witness_statements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("epoch", sa.String(32), nullable=False),
        sa.Column("sequence", sa.BigInteger(), nullable=False),
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("statement", sa.Text(), nullable=False),
        sa.Column("view", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_witness_statements_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_witness_statements"),
        sa.UniqueConstraint("site", "epoch", "sequence", name="uq_witness_statements_site_epoch_sequence"),
    )
    op.create_index("ix_witness_statements_site", "witness_statements", ["site"])
    op.create_index("ix_witness_statements_run_id", "witness_statements", ["run_id"])
    op.create_table(
        "log_forks",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("shows", sa.String(16), nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("evidence", sa.LargeBinary(), nullable=False),
        sa.Column("found_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("settled_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("settled", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "shows IN ('split', 'shorter', 'not extended', 'set back')", name=op.f("ck_log_forks_shows")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_log_forks_run_id_runs"),
        sa.PrimaryKeyConstraint("id", name="pk_log_forks"),
        sa.UniqueConstraint("digest", name="uq_log_forks_digest"),
    )
