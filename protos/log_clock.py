"""When an entry of the transparency log may say that it was written: the one rule of whoever writes it and of whoever audits it.

1. An entry is no more than five minutes older than the newest before it: so far the clocks of a coordinator's machines may differ, and nobody can
   put an entry into a time at which an approval, a key or a rule was still good.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from strategies.errors import Refused

CLOCKS_DIFFER: Final = timedelta(minutes=5)


def earliest_after(newest: datetime | None) -> datetime | None:
    """The earliest moment of an entry after others of which the `newest` says when it was written; None if there are no others."""
    return None if newest is None else newest - CLOCKS_DIFFER


def require_in_time(at: datetime, newest: datetime | None) -> None:
    """Check that an entry of the moment `at` may follow others up to `newest`. Raises Refused."""
    earliest = earliest_after(newest)
    if earliest is not None and at < earliest:
        raise Refused(
            f"the entry says {at:%Y-%m-%d %H:%M:%S} UTC, and the log already has one of {newest:%Y-%m-%d %H:%M:%S} UTC: the clock was set back, or"
            f" the entry is backdated. Clocks may differ by {CLOCKS_DIFFER.seconds // 60} minutes; set the coordinator's clock right, then try again"
        )
