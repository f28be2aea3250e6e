"""What is watched where models run: monitors, windows, alarms, and alerts on their way."""

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"
branch_labels = None
depends_on = None

_MOMENT = sa.DateTime(timezone=True)
_OPEN = sa.text("acknowledged_at IS NULL")
_WAITS = sa.text("delivered_at IS NULL AND given_up_at IS NULL")
_MONITOR = (["name", "version"], ["drift_monitors.name", "drift_monitors.version"])


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "drift_monitors",
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("monitor", sa.Text(), nullable=False),
        sa.Column("rules", sa.Text(), nullable=False),
        sa.Column("reference", sa.String(64), nullable=False),
        sa.Column("added_by", sa.Text(), nullable=False),
        sa.Column("added_at", _MOMENT, nullable=False),
        sa.ForeignKeyConstraint(
            ["name", "version"],
            ["models.name", "models.version"],
            name="fk_drift_monitors_name_version_models",
        ),
        sa.PrimaryKeyConstraint("name", "version", name="pk_drift_monitors"),
    )
    _windows()
    _alarms()
    _outbox()


def _windows() -> None:
    op.create_table(
        "drift_windows",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(63), nullable=False),
        sa.Column("sequence", sa.Integer(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("of", sa.String(16), nullable=False),
        sa.Column("begins", _MOMENT, nullable=False),
        sa.Column("ends", _MOMENT, nullable=False),
        sa.Column("digest", sa.String(64), nullable=False),
        sa.Column("document", sa.Text(), nullable=False),
        sa.Column("found", sa.JSON(), nullable=False),
        sa.Column("received_at", _MOMENT, nullable=False),
        sa.CheckConstraint("number >= 1 AND sequence >= 1", name=op.f("ck_drift_windows_numbers")),
        sa.CheckConstraint("of IN ('decisions', 'outcomes')", name=op.f("ck_drift_windows_of")),
        sa.ForeignKeyConstraint(*_MONITOR, name="fk_drift_windows_name_version_drift_monitors"),
        sa.PrimaryKeyConstraint("id", name="pk_drift_windows"),
        sa.UniqueConstraint("place", "sequence", name="uq_drift_windows_place_sequence"),
        sa.UniqueConstraint("digest", name="uq_drift_windows_digest"),
    )
    op.create_index("ix_drift_windows_version", "drift_windows", ["name", "version", "ends"])


def _alarms() -> None:
    op.create_table(
        "drift_alarms",
        sa.Column("id", sa.String(24), nullable=False),
        sa.Column("name", sa.String(63), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("place", sa.String(63), nullable=False),
        sa.Column("window_digest", sa.String(64), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("begins", _MOMENT, nullable=False),
        sa.Column("ends", _MOMENT, nullable=False),
        sa.Column("moved", sa.JSON(), nullable=False),
        sa.Column("cause", sa.String(32), nullable=False),
        sa.Column("words", sa.Text(), nullable=False),
        sa.Column("evidence", sa.JSON(), nullable=False),
        sa.Column("raised_at", _MOMENT, nullable=False),
        sa.Column("acknowledged_by", sa.Text(), nullable=True),
        sa.Column("acknowledged_at", _MOMENT, nullable=True),
        sa.Column("why", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(*_MONITOR, name="fk_drift_alarms_name_version_drift_monitors"),
        sa.PrimaryKeyConstraint("id", name="pk_drift_alarms"),
    )
    op.create_index(
        "uq_drift_alarms_open",
        "drift_alarms",
        ["name"],
        unique=True,
        sqlite_where=_OPEN,
        postgresql_where=_OPEN,
    )


def _outbox() -> None:
    op.create_table(
        "alert_outbox",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("about", sa.String(96), nullable=False),
        sa.Column("channel", sa.String(63), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("body", sa.JSON(), nullable=False),
        sa.Column("made_at", _MOMENT, nullable=False),
        sa.Column("due_at", _MOMENT, nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("trouble", sa.Text(), nullable=True),
        sa.Column("delivered_at", _MOMENT, nullable=True),
        sa.Column("given_up_at", _MOMENT, nullable=True),
        sa.CheckConstraint("tries >= 0", name=op.f("ck_alert_outbox_tries")),
        sa.PrimaryKeyConstraint("id", name="pk_alert_outbox"),
        sa.UniqueConstraint("about", "channel", name="uq_alert_outbox_about_channel"),
    )
    op.create_index(
        "ix_alert_outbox_due",
        "alert_outbox",
        ["due_at"],
        sqlite_where=_WAITS,
        postgresql_where=_WAITS,
    )
