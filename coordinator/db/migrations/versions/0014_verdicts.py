"""The gate's verdicts on models."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table of verdicts."""
    op.create_table(
        "model_verdicts",
        sa.Column("entry", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("asked_by", sa.Text(), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name="fk_model_verdicts_name_version_models",
        ),
        sa.CheckConstraint("entry >= 0", name=op.f("ck_model_verdicts_entry")),
        sa.PrimaryKeyConstraint("entry", name="pk_model_verdicts"),
    )
    op.create_index("ix_model_verdicts_version", "model_verdicts", ["name", "version"])
