"""Moments in documents, as people write them, and how far the clocks may differ of who signs one and who judges it."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Final

from pydantic import AfterValidator, AwareDatetime

from strategies.errors import UsageError

_LAST: Final = time(23, 59, 59)
SIGNERS_CLOCK_AHEAD: Final = timedelta(minutes=10)
"""By how much the clock of whoever signed may be ahead of the clock of whoever judges."""


def _in_utc(moment: datetime) -> datetime:
    """So that one moment has one canonical form."""
    try:
        return moment.astimezone(UTC)
    except OverflowError as error:
        raise ValueError("this moment has no date in UTC; use one between the years 1 and 9999") from error


Moment = Annotated[AwareDatetime, AfterValidator(_in_utc)]


def end_of_day(text: str) -> datetime:
    """The last second of a day given as YYYY-MM-DD, in UTC. Raises UsageError."""
    try:
        day = date.fromisoformat(text)
    except ValueError as error:
        raise UsageError(f"{text!r} is not a day; write it as YYYY-MM-DD, such as 2027-06-30") from error
    if day.isoformat() != text:  # fromisoformat takes other forms as well
        raise UsageError(f"{text!r} is not a day; write it as YYYY-MM-DD, such as 2027-06-30")
    return datetime.combine(day, _LAST, UTC)
