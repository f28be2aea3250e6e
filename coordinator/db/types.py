"""Column types that SQLite and PostgreSQL store alike."""

from datetime import UTC, datetime
from typing import Final

from sqlalchemy import DateTime, Dialect, String
from sqlalchemy.types import TypeDecorator

_UNSIGNED_64: Final = range(2**64)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware instant, kept in UTC; SQLite has no time zones, so it is attached again on the way out."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """Refuse a naive instant, which would mean another time at each reader."""
        del dialect
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError(f"{value!r} has no time zone; the injected clock must return aware times")
        return value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """The instant in UTC, always aware."""
        del dialect
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Unsigned64(TypeDecorator[int]):
    """An integer below 2^64, kept as decimal text: Flower's ids are unsigned, and neither database has such a type."""

    impl = String(20)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:
        """Decimal digits. Raises ValueError outside 0 to 2^64 - 1."""
        del dialect
        if value is not None and value not in _UNSIGNED_64:
            raise ValueError(f"{value} is not an unsigned 64-bit integer")
        return None if value is None else str(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> int | None:
        """The integer again."""
        del dialect
        return None if value is None else int(value)
