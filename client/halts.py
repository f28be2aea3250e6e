"""What people at this site have halted: a run, or everything, whatever the centre says.

1. An order is on disk before the command that gave it returns. The running agent looks at each request, and once more before its answer leaves.
2. The order is signed with the site's identity. Its bytes go into every refusal that it causes, so that the centre halts the run for everybody.
3. The site's own halt is lifted by a person at the site. The centre's record of it is another matter, and takes two officers.

The file is a shared journal like the accounts: the agent has its own journal for itself alone while it runs.
"""

from __future__ import annotations

import getpass
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final

from client.journal.entries import Entry
from client.journal.file import Connect, connect
from client.journal.shared import SharedJournal
from protos.halts import HaltOrder
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName

_HALTED: Final = "halted"
_LIFTED: Final = "lifted"


@dataclass
class HaltBook:
    """The orders of one site for one federation, in a journal that the agent and the commands share."""

    site: SiteName
    federation: Digest
    """That of root version 1. Orders for another federation are left alone."""
    clock: Callable[[], datetime]
    _shared: SharedJournal = field(init=False)
    _standing: dict[Digest, HaltOrder] = field(default_factory=dict)

    @classmethod
    def open(
        cls,
        path: Path,
        site: SiteName,
        federation: Digest,
        *,
        clock: Callable[[], datetime],
        connect: Connect = connect,
    ) -> HaltBook:
        """Open the book at `path`, or begin it. Raises as `Journal.open` does."""
        book = cls(site, federation, clock)
        book._shared = SharedJournal.open(path, site, (_HALTED, _LIFTED), book._remember, connect=connect)
        return book

    def standing(self) -> tuple[HaltOrder, ...]:
        """The orders that stand now, whoever gave them since this process looked last. Raises `JournalBroken`."""
        self._shared.refresh()
        return tuple(self._standing.values())

    def covering(self, run: RunId) -> HaltOrder | None:
        """An order that covers `run`, or None. Raises `JournalBroken`."""
        return next((each for each in self.standing() if each.covers(run)), None)

    def halt(self, order: HaltOrder) -> None:
        """Put an order on disk; the agent refuses from now on. Raises `JournalBroken`."""
        with self._shared.turn() as append:
            append(_HALTED, {"order": order.canonical.decode(), "at": self.clock().isoformat()})

    def lift(self, order: HaltOrder, reason: str) -> None:
        """Let go on what this site has halted. Raises `Refused` for an order that does not stand, and `JournalBroken`."""
        with self._shared.turn() as append:
            if order.digest not in self._standing:
                raise Refused(f"halt {order.id} does not stand at this site")
            body = {
                "order": order.digest,
                "reason": reason,
                "by": getpass.getuser(),
                "at": self.clock().isoformat(),
            }
            append(_LIFTED, body)

    def close(self) -> None:
        """Close the file."""
        self._shared.close()

    def _remember(self, entry: Entry) -> None:
        if entry.kind == _HALTED:
            order = HaltOrder.from_canonical(entry.body["order"].encode())
            if order.federation == self.federation:
                self._standing[order.digest] = order
        elif entry.kind == _LIFTED:
            self._standing.pop(Digest(entry.body["order"]), None)
