"""How a site stands to its federation, by its own people's word: taking part, suspended, withdrawn from a run, or left.

1. What is said is on disk before the command returns. The running agent looks at each request, and once more before its answer leaves.
2. A suspended site says that it is away: it may be asked again, and the run goes on without it while its plan allows.
3. Withdrawing from a run is for good, and so is leaving until the site returns: signed refusals by policy, which the log keeps.
4. Nothing is forgotten by any of this. Who leaves has the accounts frozen (`client.accounts`), and goes on where it was on return.

The file is a shared journal like that of the halts.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Literal

from client.journal.entries import Entry
from client.journal.file import Connect, connect
from client.journal.shared import SharedJournal
from client.refusal import TaskRefused
from protos.frames import RefusalCode
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName

_SAID: Final = "standing"
Act = Literal["suspend", "withdraw", "leave", "return"]
State = Literal["taking part", "suspended", "left"]


@dataclass
class StandingBook:
    """The standing of one site in one federation."""

    site: SiteName
    federation: Digest
    """That of root version 1. What was said of another federation is left alone."""
    clock: Callable[[], datetime]
    _shared: SharedJournal = field(init=False)
    suspended: str | None = None
    """The reason, where the site is suspended."""
    left: str | None = None
    """The reason, where it has left."""
    withdrawn: dict[RunId, str] = field(default_factory=dict)
    """By run, the reason."""

    @classmethod
    def open(
        cls,
        path: Path,
        site: SiteName,
        federation: Digest,
        *,
        clock: Callable[[], datetime],
        connect: Connect = connect,
    ) -> StandingBook:
        """Open the book at `path`, or begin it. Raises as `Journal.open` does."""
        book = cls(site, federation, clock)
        book._shared = SharedJournal.open(path, site, (_SAID,), book._remember, connect=connect)
        return book

    @property
    def state(self) -> State:
        """How the site stands, as far as this process has looked."""
        if self.left is not None:
            return "left"
        return "taking part" if self.suspended is None else "suspended"

    @property
    def reason(self) -> str | None:
        """Why it stands so; None where it takes part."""
        return self.suspended if self.left is None else self.left

    def require_taking_part(self, run: RunId) -> None:
        """Check that this site's people let it take part in `run`. Raises `TaskRefused`, and `JournalBroken`."""
        self.refresh()
        if self.left is not None:
            raise TaskRefused(RefusalCode.POLICY, f"this site has left the federation: {self.left}")
        if run in self.withdrawn:
            raise TaskRefused(
                RefusalCode.POLICY, f"this site has withdrawn from {run}: {self.withdrawn[run]}"
            )
        if self.suspended is not None:
            raise TaskRefused(
                RefusalCode.AWAY,
                f"this site is suspended by its people: {self.suspended}; it may be asked again",
            )

    def say(self, act: Act, reason: str, run: RunId | None = None) -> None:
        """Put an act on disk. Raises `Refused` for one that changes nothing, and `JournalBroken`."""
        with self._shared.turn() as append:
            self.require_change(act, run)
            body = {
                "federation": self.federation,
                "act": act,
                "run": run,
                "reason": reason,
                "by": getpass.getuser(),
                "at": self.clock().isoformat(),
            }
            append(_SAID, body)

    def require_change(self, act: Act, run: RunId | None = None) -> None:
        """Check that an act changes something, as far as this process has looked. Raises `Refused`."""
        if act == "return" and self.left is None and self.suspended is None:
            raise Refused(
                f"{self.site} is neither suspended nor has it left: there is nothing to return from"
            )
        if act == "leave" and self.left is not None:
            raise Refused(f"{self.site} has left already: {self.left}")
        if act == "suspend" and self.suspended is not None:
            raise Refused(f"{self.site} is suspended already: {self.suspended}")
        if act == "withdraw" and run in self.withdrawn:
            raise Refused(f"{self.site} has withdrawn from {run} already")

    def refresh(self) -> None:
        """Take up what others have said since this process looked last. Raises `JournalBroken`."""
        self._shared.refresh()

    def close(self) -> None:
        """Close the file."""
        self._shared.close()

    def _remember(self, entry: Entry) -> None:
        body = entry.body
        if body["federation"] != self.federation:
            return
        match body["act"]:
            case "suspend":
                self.suspended = body["reason"]
            case "withdraw":
                self.withdrawn[RunId(body["run"])] = body["reason"]
            case "leave":
                self.left = body["reason"]
            case "return":
                self.suspended = self.left = None
