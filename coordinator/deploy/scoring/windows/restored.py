"""Whether a place's memory of its windows is as new as its decision log: a copy that was put back knows less of what was spent and told.

1. Each second a watched service has its file say until when it counted. A line of the log that was watched later than that, by more than a crash
   explains, was counted by a newer file: this one is a copy, or was made anew after the other was lost.
2. Under such a file windows would be told again with other noise, from an account that has forgotten its charges. So nothing is told under it.
3. A copy of the whole folder, log included, cannot be told from here. Whoever collects windows finds that their sequence went back.
"""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from coordinator.deploy.scoring.decisions import newest_with
from coordinator.deploy.scoring.windows.store import Store
from strategies.errors import Refused

CRASH_S: Final = 120.0
"""What may lie between the file's last word and the log's: a second, and the wait for a file that a command holds."""
_WATCHED: Final = b'"monitor":"'


def require_newest(store: Store, decisions: Path) -> None:
    """Check that the folder of `decisions` has no watched line that `store` cannot know. Raises Refused."""
    newest = newest_with(decisions, _WATCHED)
    if newest is None:
        return
    _, flushed = store.service()
    at = datetime.fromisoformat(newest["at"])
    if at.timestamp() <= flushed + CRASH_S:
        return
    known = f"{datetime.fromtimestamp(flushed, UTC):%Y-%m-%d %H:%M}" if flushed else "no time"
    raise Refused(
        f"{store.path} knows of windows up to {known} UTC, and {decisions} has watched decisions up to {at:%Y-%m-%d %H:%M} UTC: it is an older copy, or was"
        " made anew, and has forgotten what was spent and told. Put the newest copy of it back. Where there is none, start without --monitor; to watch"
        " again, wait until the monitor's period is over, and start under another name with a new state folder and a new folder of decisions"
    )
