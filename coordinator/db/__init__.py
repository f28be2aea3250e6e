"""The coordinator's database: the truth about sites, runs, rounds and models."""

from coordinator.db.engine import open_database, reading, writing
from coordinator.db.migrate import migrate

__all__ = ["migrate", "open_database", "reading", "writing"]
