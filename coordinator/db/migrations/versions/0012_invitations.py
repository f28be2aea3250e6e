"""Invitations of sites, and the enrolment requests that came of them."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the table."""
    op.create_table(
        "invitations",
        sa.Column("token", sa.String(64), nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request", sa.Text(), nullable=True),
        sa.Column("submitted_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("denied", sa.Integer(), nullable=False),
        sa.CheckConstraint(
            "(request IS NULL) = (submitted_at IS NULL)", name=op.f("ck_invitations_submitted")
        ),
        sa.CheckConstraint("denied >= 0", name=op.f("ck_invitations_denied")),
        sa.PrimaryKeyConstraint("token", name="pk_invitations"),
    )
    op.create_index("ix_invitations_site", "invitations", ["site"])
