"""Policy packs, and what was judged by them."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "policy_packs",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("signed", sa.Text(), nullable=False),
        sa.Column("effective_from", sa.DateTime(timezone=True), nullable=False),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("in_force_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("version >= 1", name=op.f("ck_policy_packs_version")),
        sa.PrimaryKeyConstraint("name", "version", name="pk_policy_packs"),
        sa.UniqueConstraint("digest", name="uq_policy_packs_digest"),
    )
    op.create_table(
        "policy_judgements",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("pack_name", sa.String(63), nullable=False),
        sa.Column("pack_version", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(8), nullable=False),
        sa.Column("subject", sa.String(129), nullable=False),
        sa.Column("blocked", sa.Boolean(), nullable=False),
        sa.Column("judgement", sa.Text(), nullable=False),
        sa.Column("differs", sa.Text(), nullable=False),
        sa.Column("judged_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('plan', 'model')", name=op.f("ck_policy_judgements_kind")),
        sa.ForeignKeyConstraint(
            ["pack_name", "pack_version"],
            ["policy_packs.name", "policy_packs.version"],
            name="fk_policy_judgements_pack_name_pack_version_policy_packs",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_policy_judgements"),
    )
    op.create_index("ix_policy_judgements_subject", "policy_judgements", ["pack_name", "subject"])
