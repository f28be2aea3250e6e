"""Targets, releases, rollouts, orders, what runs where, and recalls."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_UNDER_WAY = sa.text("state IN ('planned', 'shadow', 'canary')")
_STATES = "'planned', 'shadow', 'canary', 'full', 'superseded', 'rolled_back', 'recalled', 'failed'"
_VERSION = ["name", "version"], ["models.name", "models.version"]
_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    """Create the tables."""
    _targets()
    _rollouts()
    _orders()
    _running()
    _recalls()


def _targets() -> None:
    op.create_table(
        "deploy_targets",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("kind", sa.String(16), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("added_at", _MOMENT, nullable=False),
        sa.CheckConstraint("kind IN ('local', 'kserve', 'edge')", name=op.f("ck_deploy_targets_kind")),
        sa.CheckConstraint("sequence >= 0 AND revision >= 0", name=op.f("ck_deploy_targets_numbers")),
        sa.PrimaryKeyConstraint("name", name="pk_deploy_targets"),
    )
    op.create_table(
        "releases",
        sa.Column("target", sa.String(63), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.CheckConstraint("sequence >= 1", name=op.f("ck_releases_sequence")),
        sa.ForeignKeyConstraint(
            ["target"], ["deploy_targets.name"], name="fk_releases_target_deploy_targets"
        ),
        sa.PrimaryKeyConstraint("target", "sequence", name="pk_releases"),
        sa.UniqueConstraint("digest", name="uq_releases_digest"),
    )


def _rollouts() -> None:
    op.create_table(
        "rollouts",
        sa.Column("id", sa.String(24), nullable=False),
        sa.Column("target", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("before", sa.String(24), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("started_by", sa.Text(), nullable=False),
        sa.Column("started_at", _MOMENT, nullable=False),
        sa.Column("moved_at", _MOMENT, nullable=False),
        sa.CheckConstraint(f"state IN ({_STATES})", name=op.f("ck_rollouts_state")),
        sa.CheckConstraint("share >= 0 AND share <= 1", name=op.f("ck_rollouts_share")),
        sa.ForeignKeyConstraint(
            ["target"], ["deploy_targets.name"], name="fk_rollouts_target_deploy_targets"
        ),
        sa.ForeignKeyConstraint(["before"], ["rollouts.id"], name="fk_rollouts_before_rollouts"),
        sa.ForeignKeyConstraint(*_VERSION, name="fk_rollouts_name_version_models"),
        sa.PrimaryKeyConstraint("id", name="pk_rollouts"),
    )
    op.create_index(
        "uq_rollouts_under_way",
        "rollouts",
        ["target"],
        unique=True,
        sqlite_where=_UNDER_WAY,
        postgresql_where=_UNDER_WAY,
    )


def _orders() -> None:
    op.create_table(
        "deploy_orders",
        sa.Column("target", sa.String(63), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("rollout", sa.String(24), nullable=False),
        sa.Column("state", sa.String(16), nullable=False),
        sa.Column("stable", sa.Integer(), nullable=True),
        sa.Column("challenger", sa.Integer(), nullable=True),
        sa.Column("recall", sa.Integer(), nullable=True),
        sa.Column("mode", sa.String(8), nullable=False),
        sa.Column("share", sa.Double(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("ordered_by", sa.Text(), nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
        sa.Column("confirmed_at", _MOMENT, nullable=True),
        sa.Column("refused", sa.Text(), nullable=True),
        sa.Column("baseline", sa.JSON(), nullable=True),
        sa.CheckConstraint("revision >= 1", name=op.f("ck_deploy_orders_revision")),
        sa.CheckConstraint("mode IN ('none', 'shadow', 'canary')", name=op.f("ck_deploy_orders_mode")),
        sa.CheckConstraint(
            "(challenger IS NULL) = (mode = 'none')", name=op.f("ck_deploy_orders_challenger")
        ),
        sa.ForeignKeyConstraint(
            ["target"], ["deploy_targets.name"], name="fk_deploy_orders_target_deploy_targets"
        ),
        sa.ForeignKeyConstraint(["rollout"], ["rollouts.id"], name="fk_deploy_orders_rollout_rollouts"),
        sa.PrimaryKeyConstraint("target", "revision", name="pk_deploy_orders"),
    )


def _running() -> None:
    arms = "arm IN ('stable', 'challenger')"
    op.create_table(
        "running",
        sa.Column("target", sa.String(63), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("since", _MOMENT, nullable=False),
        sa.CheckConstraint(arms, name=op.f("ck_running_arm")),
        sa.ForeignKeyConstraint(["target"], ["deploy_targets.name"], name="fk_running_target_deploy_targets"),
        sa.PrimaryKeyConstraint("target", "arm", name="pk_running"),
    )
    op.create_table(
        "running_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(63), nullable=False),
        sa.Column("arm", sa.String(16), nullable=False),
        sa.Column("event", sa.String(8), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column("at", _MOMENT, nullable=False),
        sa.CheckConstraint(arms, name=op.f("ck_running_events_arm")),
        sa.CheckConstraint("event IN ('begins', 'ends')", name=op.f("ck_running_events_event")),
        sa.ForeignKeyConstraint(
            ["target"], ["deploy_targets.name"], name="fk_running_events_target_deploy_targets"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_running_events"),
    )
    op.create_index("ix_running_events_version", "running_events", ["name", "version"])


def _recalls() -> None:
    still_open = sa.text("confirmed_at IS NULL")
    op.create_table(
        "recalls",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("target", sa.String(63), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("ordered_by", sa.Text(), nullable=False),
        sa.Column("ordered_at", _MOMENT, nullable=False),
        sa.Column("revision", sa.Integer(), nullable=True),
        sa.Column("confirmed_at", _MOMENT, nullable=True),
        sa.ForeignKeyConstraint(["target"], ["deploy_targets.name"], name="fk_recalls_target_deploy_targets"),
        sa.ForeignKeyConstraint(*_VERSION, name="fk_recalls_name_version_models"),
        sa.PrimaryKeyConstraint("id", name="pk_recalls"),
    )
    op.create_index(
        "uq_recalls_open",
        "recalls",
        ["target", "name", "version"],
        unique=True,
        sqlite_where=still_open,
        postgresql_where=still_open,
    )
