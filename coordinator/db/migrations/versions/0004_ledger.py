"""The privacy ledger, with triggers that keep its rows as they were written."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

_APPEND_ONLY = {
    "ledger_ceilings": ("account_id", "seq"),
    "ledger_releases": ("digest",),
    "ledger_entries": ("id",),
    "ledger_alerts": ("account_id", "ceiling_seq", "fraction"),
}
_COUNTED = "ledger_accounts"
_FIXED = ("id", "site", "population", "unit_kind", "unit_column", "renyi_order", "opened_at")
_MAY_COUNT = " AND ".join([f"NEW.{name} = OLD.{name}" for name in _FIXED] + ["NEW.version = OLD.version + 1"])


def upgrade() -> None:
    """Create the ledger's tables, then their triggers."""
    _create_accounts()
    _create_ceilings()
    _create_releases()
    _create_entries()
    _create_alerts()
    if op.get_bind().dialect.name == "postgresql":
        _keep_rows_on_postgresql()
    else:
        _keep_rows_on_sqlite()


def _row_id() -> sa.types.TypeEngine[int]:
    return sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _instant(name: str) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=False)


def _of_account(table: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint(
        ["account_id"], ["ledger_accounts.id"], name=f"fk_{table}_account_id_ledger_accounts"
    )


def _create_accounts() -> None:
    op.create_table(
        "ledger_accounts",
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("site", sa.String(63), nullable=False),
        sa.Column("population", sa.String(63), nullable=False),
        sa.Column("unit_kind", sa.String(16), nullable=False),
        sa.Column("unit_column", sa.String(128), nullable=False),
        sa.Column("renyi_order", sa.Integer(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        _instant("opened_at"),
        sa.CheckConstraint(
            "unit_kind IN ('record', 'customer', 'site')", name=op.f("ck_ledger_accounts_unit_kind")
        ),
        sa.CheckConstraint(
            "(unit_kind = 'customer') = (unit_column <> '')", name=op.f("ck_ledger_accounts_unit_column")
        ),
        sa.CheckConstraint("version >= 0", name=op.f("ck_ledger_accounts_version")),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_accounts"),
        sa.UniqueConstraint(
            "site",
            "population",
            "unit_kind",
            "unit_column",
            name="uq_ledger_accounts_site_population_unit_kind_unit_column",
        ),
    )


def _create_ceilings() -> None:
    op.create_table(
        "ledger_ceilings",
        sa.Column("account_id", _row_id(), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("epsilon", sa.Double(), nullable=False),
        sa.Column("delta", sa.Double(), nullable=False),
        sa.Column("max_rows", sa.Integer(), nullable=False),
        sa.Column("max_sites", sa.Integer(), nullable=False),
        sa.Column("alert_at", sa.JSON(), nullable=False),
        sa.Column("overlaps", sa.JSON(), nullable=False),
        sa.Column("officers", sa.JSON(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        _instant("set_at"),
        sa.CheckConstraint("seq >= 1", name=op.f("ck_ledger_ceilings_seq")),
        sa.CheckConstraint("epsilon > 0 AND delta > 0 AND delta < 1", name=op.f("ck_ledger_ceilings_bounds")),
        sa.CheckConstraint("max_rows >= 1 AND max_sites >= 1", name=op.f("ck_ledger_ceilings_unit")),
        _of_account("ledger_ceilings"),
        sa.PrimaryKeyConstraint("account_id", "seq", name="pk_ledger_ceilings"),
    )


def _create_releases() -> None:
    op.create_table(
        "ledger_releases",
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("facts", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ledger_releases"),
    )


def _create_entries() -> None:
    table, checks = "ledger_entries", {
        "outcome": "outcome IN ('reserved', 'settled', 'voided')",
        "stage": "stage IN ('prepare', 'train', 'evaluate')",
        "times": "times >= 1",
        "attempt": "(outcome = 'settled') = (round IS NOT NULL) AND (outcome = 'settled') = (attempt IS NOT NULL) "
        "AND (outcome <> 'settled' OR times = 1)",
        "reason": "(outcome = 'voided') = (reason IS NOT NULL)",
    }  # fmt: skip
    op.create_table(
        table,
        sa.Column("id", _row_id(), nullable=False),
        sa.Column("account_id", _row_id(), nullable=False),
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("release_digest", sa.String(64), nullable=False),
        sa.Column("outcome", sa.String(16), nullable=False),
        sa.Column("times", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        _instant("at"),
        *(sa.CheckConstraint(sql, name=op.f(f"ck_{table}_{name}")) for name, sql in checks.items()),
        _of_account(table),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=f"fk_{table}_run_id_runs"),
        sa.ForeignKeyConstraint(
            ["release_digest"], ["ledger_releases.digest"], name=f"fk_{table}_release_digest_ledger_releases"
        ),
        sa.PrimaryKeyConstraint("id", name=f"pk_{table}"),
    )
    _index_entries(table)


def _index_entries(table: str) -> None:
    op.create_index(f"ix_{table}_run_id", table, ["run_id"])
    op.create_index(
        f"ix_{table}_sums",
        table,
        ["account_id", "run_id", "stage", "release_digest", "outcome", "times", "at"],
    )
    charging, settled = sa.text("outcome <> 'settled'"), sa.text("outcome = 'settled'")
    op.create_index(
        f"ix_{table}_charges",
        table,
        ["account_id", "release_digest", "outcome", "times"],
        sqlite_where=charging,
        postgresql_where=charging,
    )
    op.create_index(
        f"uq_{table}_settled",
        table,
        ["run_id", "account_id", "stage", "round", "attempt", "release_digest"],
        unique=True,
        sqlite_where=settled,
        postgresql_where=settled,
    )


def _create_alerts() -> None:
    op.create_table(
        "ledger_alerts",
        sa.Column("account_id", _row_id(), nullable=False),
        sa.Column("ceiling_seq", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("fraction", sa.Double(), nullable=False),
        sa.Column("run_id", sa.String(20), nullable=True),
        _instant("crossed_at"),
        sa.CheckConstraint("fraction > 0 AND fraction <= 1", name=op.f("ck_ledger_alerts_fraction")),
        _of_account("ledger_alerts"),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_ledger_alerts_run_id_runs"),
        sa.PrimaryKeyConstraint("account_id", "ceiling_seq", "fraction", name="pk_ledger_alerts"),
    )


def _keep_rows_on_sqlite() -> None:
    refuse = "BEGIN SELECT RAISE(ABORT, 'the privacy ledger keeps every row as it was written'); END"
    for table in (*_APPEND_ONLY, _COUNTED):
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} {refuse}")
    for table in _APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} {refuse}")
    op.execute(
        f"CREATE TRIGGER {_COUNTED}_no_update BEFORE UPDATE ON {_COUNTED} WHEN NOT ({_MAY_COUNT}) {refuse}"
    )
    # INSERT OR REPLACE would take a row away without asking the trigger of DELETE.
    for table, key in {**_APPEND_ONLY, _COUNTED: ("id",)}.items():
        same = " AND ".join(f"{name} = NEW.{name}" for name in key)
        found = f"EXISTS (SELECT 1 FROM {table} WHERE {same})"  # noqa: S608  (names from above)
        op.execute(f"CREATE TRIGGER {table}_no_replace BEFORE INSERT ON {table} WHEN {found} {refuse}")


def _keep_rows_on_postgresql() -> None:
    op.execute(
        "CREATE FUNCTION ledger_refuse() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the privacy ledger keeps every row as it was written'; END $$"
    )
    call = "EXECUTE FUNCTION ledger_refuse()"
    for table in (*_APPEND_ONLY, _COUNTED):
        op.execute(f"CREATE TRIGGER {table}_no_delete BEFORE DELETE ON {table} FOR EACH ROW {call}")
        op.execute(f"CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT {call}")
    for table in _APPEND_ONLY:
        op.execute(f"CREATE TRIGGER {table}_no_update BEFORE UPDATE ON {table} FOR EACH ROW {call}")
    op.execute(
        f"CREATE TRIGGER {_COUNTED}_no_update BEFORE UPDATE ON {_COUNTED} "
        f"FOR EACH ROW WHEN (NOT ({_MAY_COUNT})) {call}"
    )
