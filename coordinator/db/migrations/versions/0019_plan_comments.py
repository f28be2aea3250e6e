"""Comments on plans, and plans by name."""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table and the indexes."""
    op.create_table(
        "plan_comments",
        sa.Column("id", sa.String(36), nullable=False),
        sa.Column("plan", sa.String(64), nullable=False),
        sa.Column("contract", sa.String(64), nullable=False),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_plan_comments"),
        sa.ForeignKeyConstraint(
            ["plan", "contract"], ["plans.digest", "plans.contract_digest"], name="fk_plan_comments_plans"
        ),
    )
    op.create_index("ix_plans_name", "plans", ["name", "proposed_at"])
    op.create_index("ix_plan_comments_plan", "plan_comments", ["plan", "contract", "at"])
