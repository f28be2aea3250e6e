"""Halts, and who leads."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create both tables; the row of the second is there from the start."""
    standing = sa.text("lifted_at IS NULL")
    op.create_table(
        "halts",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("id", sa.String(32), nullable=False),
        sa.Column("scope", sa.String(8), nullable=False),
        sa.Column("target", sa.String(63), nullable=True),
        sa.Column("order_document", sa.Text(), nullable=False),
        sa.Column("halted_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("lift_document", sa.Text(), nullable=True),
        sa.Column("lifted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("scope IN ('site', 'run', 'all')", name=op.f("ck_halts_scope")),
        sa.CheckConstraint("(scope = 'all') = (target IS NULL)", name=op.f("ck_halts_target")),
        sa.PrimaryKeyConstraint("digest", name="pk_halts"),
        sa.UniqueConstraint("id", name="uq_halts_id"),
    )
    op.create_index("ix_halts_standing", "halts", ["scope"], sqlite_where=standing, postgresql_where=standing)
    op.create_table(
        "leadership",
        sa.Column("id", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("term", sa.Integer(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=False),
        sa.Column("home", sa.String(16), nullable=False),
        sa.Column("until", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("id = 1 AND term >= 0", name=op.f("ck_leadership_one")),
        sa.PrimaryKeyConstraint("id", name="pk_leadership"),
    )
    op.execute("INSERT INTO leadership (id, term, holder, home) VALUES (1, 0, 'nobody', '')")
