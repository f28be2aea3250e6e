"""Sites, runs, rounds, checkpoints and models."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Create the first tables; no model class is imported, because those move on and this step does not."""
    _create_sites()
    _create_runs()
    _create_rounds()
    _create_checkpoints()
    _create_models()


def _instant(name: str, *, nullable: bool = False) -> sa.Column[object]:
    return sa.Column(name, sa.DateTime(timezone=True), nullable=nullable)


def _digest(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.String(64), nullable=nullable)


def _create_sites() -> None:
    op.create_table(
        "sites",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("identity_key", sa.Text(), nullable=False),
        sa.Column("node_key", sa.Text(), nullable=False),
        sa.Column("node_id", sa.String(20), nullable=True),
        sa.Column("members_ref", sa.String(100), nullable=False),
        _instant("enrolled_at"),
        sa.PrimaryKeyConstraint("name", name="pk_sites"),
    )


def _create_runs() -> None:
    op.create_table(
        "runs",
        sa.Column("id", sa.String(20), nullable=False),
        sa.Column("plan_name", sa.String(63), nullable=False),
        _digest("plan_digest"),
        sa.Column("plan", sa.Text(), nullable=False),
        sa.Column("contract", sa.Text(), nullable=False),
        sa.Column("members", sa.Text(), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("flower_run_id", sa.String(20), nullable=True),
        sa.Column("scaling", sa.JSON(), nullable=True),
        _instant("submitted_at"),
        _instant("started_at", nullable=True),
        _instant("finished_at", nullable=True),
        sa.CheckConstraint(
            "state IN ('submitted', 'running', 'completed', 'failed', 'stopped')", name=op.f("ck_runs_state")
        ),
        sa.PrimaryKeyConstraint("id", name="pk_runs"),
    )
    op.create_index("ix_runs_plan_name", "runs", ["plan_name"])
    op.create_index("ix_runs_flower_run_id", "runs", ["flower_run_id"])


def _create_rounds() -> None:
    op.create_table(
        "rounds",
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("attempt", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("roster", sa.JSON(), nullable=False),
        sa.Column("survivors", sa.JSON(), nullable=True),
        _digest("statement_digest", nullable=True),
        _digest("aggregate_digest", nullable=True),
        _digest("model_digest", nullable=True),
        _digest("optimizer_digest", nullable=True),
        sa.Column("exchange_s", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("metrics", sa.JSON(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        _instant("opened_at"),
        _instant("closed_at", nullable=True),
        sa.CheckConstraint("state IN ('open', 'committed', 'voided')", name=op.f("ck_rounds_state")),
        sa.CheckConstraint("number >= 1 AND attempt >= 1", name=op.f("ck_rounds_numbers")),
        sa.CheckConstraint(
            "state <> 'committed' OR (survivors IS NOT NULL AND statement_digest IS NOT NULL "
            "AND aggregate_digest IS NOT NULL AND model_digest IS NOT NULL AND closed_at IS NOT NULL)",
            name=op.f("ck_rounds_complete"),
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_rounds_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "number", "attempt", name="pk_rounds"),
    )
    for name, columns, state in (
        ("uq_rounds_open", ["run_id"], sa.text("state = 'open'")),
        ("uq_rounds_committed", ["run_id", "number"], sa.text("state = 'committed'")),
    ):
        op.create_index(name, "rounds", columns, unique=True, sqlite_where=state, postgresql_where=state)


def _create_checkpoints() -> None:
    op.create_table(
        "checkpoints",
        sa.Column("run_id", sa.String(20), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False, autoincrement=False),
        _digest("model_artifact"),
        _digest("optimizer_artifact"),
        sa.CheckConstraint("round >= 0", name=op.f("ck_checkpoints_round")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_checkpoints_run_id_runs"),
        sa.PrimaryKeyConstraint("run_id", "round", name="pk_checkpoints"),
    )


def _create_models() -> None:
    op.create_table(
        "models",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("stage", sa.String(16), nullable=False),
        sa.Column("run_id", sa.String(20), nullable=False),
        _digest("digest"),
        sa.Column("artifacts", sa.JSON(), nullable=False),
        sa.Column("metrics", sa.JSON(), nullable=True),
        _instant("created_at"),
        sa.CheckConstraint("stage IN ('candidate')", name=op.f("ck_models_stage")),
        sa.CheckConstraint("version >= 1", name=op.f("ck_models_version")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name="fk_models_run_id_runs"),
        sa.PrimaryKeyConstraint("name", "version", name="pk_models"),
        sa.UniqueConstraint("name", "run_id", "digest", name="uq_models_name_run_id_digest"),
    )
