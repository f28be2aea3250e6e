"""When an entry of the transparency log may say that it was written: the one rule of whoever writes it and of whoever audits it.

1. An entry is no more than five minutes older than the newest before it: so far the clocks of a coordinator's machines may differ, and nobody can
   put an entry into a time at which an approval, a key or a rule was still good.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from strategies.errors import Refused

CLOCKS_DIFFER: Final = timedelta(minutes=5)


def is_in_time(at: datetime, newest: datetime | None) -> bool:
    """Whether an entry of the moment `at` may follow others up to `newest`; None if there are no others."""
    return newest is None or at >= newest - CLOCKS_DIFFER


def require_in_time(at: datetime, newest: datetime | None) -> None:
    """Check that an entry `is_in_time`. Raises Refused."""
    if newest is not None and not is_in_time(at, newest):
        raise Refused(
            f"the entry says {at:%Y-%m-%d %H:%M:%S} UTC, and the log already has one of {newest:%Y-%m-%d %H:%M:%S} UTC: the clock was set back, or"
            f" the entry is backdated. Clocks may differ by {CLOCKS_DIFFER.seconds // 60} minutes; set the coordinator's clock right, then try again"
        )
