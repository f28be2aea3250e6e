"""Bringing a database to the schema of this version, from inside the installed package."""

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.util.exc import CommandError
from sqlalchemy import Connection, Engine, text

from coordinator.db.errors import clear_errors
from strategies.errors import CovenantError

_FOLDER: Final = Path(__file__).parent / "migrations"
# Any constant does, as long as nothing else in the database uses it: "covenant" in ASCII.
_ADVISORY_LOCK: Final = 0x636F76656E616E74


def migrate(engine: Engine) -> None:
    """Upgrade the database to the newest schema, in one transaction; a current one is left as it is.

    Two that migrate at once take turns. Raises CovenantError when the database was written by a newer version.
    """
    with clear_errors(engine, "migrating"), engine.begin() as connection:
        upgrade(connection)


def upgrade(connection: Connection, revision: str = "head") -> None:
    """The same within a transaction, up to `revision`."""
    config = Config()
    # Alembic's options are read by configparser, to which a bare % means interpolation.
    config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _ADVISORY_LOCK})
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, revision)
    except CommandError as error:
        raise CovenantError(
            f"migrating: the database is at a revision this version does not know ({error}); install the "
            "version of covenant-fl that last migrated it, or a newer one"
        ) from error


def revision_of(connection: Connection) -> str | None:
    """The revision of the schema that a database has; None where it has none."""
    return MigrationContext.configure(connection).get_current_revision()
