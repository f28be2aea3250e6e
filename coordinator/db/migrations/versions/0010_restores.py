"""Restores of the database, and what was adopted from sites after a gap in the log."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

_APPEND_ONLY = {"adopted_charges": ("id",), "adopted_sites": ("gap_entry", "site")}
_REFUSAL = "what was adopted from a site is kept as it was written"


def _row_id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Create the tables, then the triggers."""
    op.create_table(
        "restores",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("restored_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("backup", sa.String(64), nullable=False),
        sa.Column("made_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kept_size", sa.BigInteger(), nullable=False),
        sa.Column("kept_root", sa.String(64), nullable=False),
        sa.Column("size", sa.BigInteger(), nullable=False),
        sa.Column("later", sa.JSON(), nullable=False),
        sa.Column("waits", sa.Boolean(), nullable=False),
        sa.Column("gap_entry", sa.BigInteger(), nullable=True),
        sa.CheckConstraint("size >= kept_size AND kept_size >= 0", name=op.f("ck_restores_sizes")),
        sa.PrimaryKeyConstraint("id", name="pk_restores"),
    )
    _create_adopted()
    if op.get_bind().dialect.name == "postgresql":
        _keep_rows_on_postgresql()
    else:
        _keep_rows_on_sqlite()


def _create_adopted() -> None:
    op.create_table(
        "adopted_charges",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("account_id", _row_id(), nullable=False),
        sa.Column("release_digest", sa.String(64), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("statement", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("times >= 1", name=op.f("ck_adopted_charges_times")),
        sa.ForeignKeyConstraint(
            ["account_id"], ["ledger_accounts.id"], name="fk_adopted_charges_account_id_ledger_accounts"
        ),
        sa.ForeignKeyConstraint(
            ["release_digest"],
            ["ledger_releases.digest"],
            name="fk_adopted_charges_release_digest_ledger_releases",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_adopted_charges"),
    )
    op.create_index("ix_adopted_charges_account_id", "adopted_charges", ["account_id"])
    op.create_table(
        "adopted_sites",
        sa.Column("gap_entry", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("statement", sa.String(64), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("gap_entry", "site", name="pk_adopted_sites"),
    )


def _keep_rows_on_sqlite() -> None:
    refuse = f"BEGIN SELECT RAISE(ABORT, '{_REFUSAL}'); END"
    for table, key in _APPEND_ONLY.items():
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
        # INSERT OR REPLACE would take a row away without asking the trigger of DELETE.
        same = " AND ".join(f"{name} = NEW.{name}" for name in key)
        found = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608  (names from above)
        op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {found} {refuse}")


def _keep_rows_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION adopted_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        f"$$ BEGIN RAISE EXCEPTION '{_REFUSAL}'; END $$"
    )
    call = "EXECUTE FUNCTION adopted_refuse()"
    for table in _APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW {call}")
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW {call}")
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}")
