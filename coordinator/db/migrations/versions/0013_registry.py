"""Stages of models, their moves, aliases and approvals, and who signed their files."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_STAGES = "'candidate', 'validated', 'approved', 'deployed', 'retired', 'quarantined'"
_STAGE = f"stage IN ({_STAGES})"


def upgrade() -> None:
    """Let models come further than candidates, and create the tables that tell how."""
    _widen()
    version = ["name", "version"], ["models.name", "models.version"]
    op.create_table(
        "model_moves",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("before", sa.String(16), nullable=False),
        sa.Column("after", sa.String(16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("moved_by", sa.Text(), nullable=False),
        sa.Column("rests_on", sa.String(64), nullable=True),
        sa.Column("moved_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(*version, name="fk_model_moves_name_version_models"),
        sa.CheckConstraint("number >= 1", name=op.f("ck_model_moves_number")),
        sa.CheckConstraint(f"before IN ({_STAGES})", name=op.f("ck_model_moves_before")),
        sa.CheckConstraint(f"after IN ({_STAGES})", name=op.f("ck_model_moves_after")),
        sa.CheckConstraint("before <> after", name=op.f("ck_model_moves_moves")),
        sa.PrimaryKeyConstraint("name", "version", "number", name="pk_model_moves"),
    )
    op.create_index("ix_model_moves_entry", "model_moves", ["entry"], unique=True)
    op.create_table(
        "model_aliases",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("alias", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(*version, name="fk_model_aliases_name_version_models"),
        sa.PrimaryKeyConstraint("name", "alias", name="pk_model_aliases"),
    )
    op.create_table(
        "model_statements",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("officer", sa.String(63), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("received_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("entry", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(*version, name="fk_model_statements_name_version_models"),
        sa.PrimaryKeyConstraint("digest", name="pk_model_statements"),
    )
    op.create_index("ix_model_statements_version", "model_statements", ["name", "version"])


def _widen() -> None:
    """More stages, and the column for signatures. SQLite cannot change a check, so the table is made again there."""
    with op.batch_alter_table("models") as table:
        table.drop_constraint(op.f("ck_models_stage"), type_="check")
        table.create_check_constraint(op.f("ck_models_stage"), _STAGE)
        table.add_column(sa.Column("signature", sa.String(64), nullable=True))
