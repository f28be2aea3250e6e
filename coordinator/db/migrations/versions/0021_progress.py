"""How runs go on: exchanges with sites, and what was heard of each site last."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_TROUBLE = sa.text("trouble IS NOT NULL")


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "site_exchanges",
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("asked", sa.Integer(), nullable=False),
        sa.Column("answered", sa.Integer(), nullable=False),
        sa.Column("sent", sa.BigInteger(), nullable=False),
        sa.Column("received", sa.BigInteger(), nullable=False),
        sa.Column("seconds", sa.Double(), nullable=False),
        sa.Column("step", sa.String(16), nullable=False),
        sa.Column("waiting", sa.Boolean(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("changed_at", _MOMENT, nullable=False),
        sa.CheckConstraint("stage IN ('prepare', 'train', 'evaluate')", name=op.f("ck_site_exchanges_stage")),
        sa.CheckConstraint(
            "round >= 0 AND asked >= 0 AND answered >= 0", name=op.f("ck_site_exchanges_numbers")
        ),
        sa.PrimaryKeyConstraint("run_id", "stage", "round", "site", name="pk_site_exchanges"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_site_exchanges_site", "site_exchanges", ["site", "changed_at"])
    op.create_index(
        "ix_site_exchanges_trouble",
        "site_exchanges",
        ["site", "changed_at"],
        sqlite_where=_TROUBLE,
        postgresql_where=_TROUBLE,
    )
    op.create_table(
        "sites_heard",
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("answered_at", _MOMENT, nullable=True),
        sa.Column("answered_run", sa.String(20), nullable=True),
        sa.Column("trouble_at", _MOMENT, nullable=True),
        sa.Column("trouble_run", sa.String(20), nullable=True),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("contract_at", _MOMENT, nullable=True),
        sa.Column("contract", sa.String(100), nullable=True),
        sa.Column("fits", sa.Boolean(), nullable=True),
        sa.Column("version_at", _MOMENT, nullable=True),
        sa.Column("version", sa.String(63), nullable=True),
        sa.PrimaryKeyConstraint("site", name="pk_sites_heard"),
    )
