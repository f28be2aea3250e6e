"""Gaps as the transparency log tells them: what came before one is over, and accounts are charged again once their site has spoken.

1. A gap stands where the entries that it declares lost would have begun.
2. After it a site's accounts are charged again only once what its own statement says was adopted. That statement was made after the gap was declared,
   and is adopted once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from protos.gaps import SoundGap
from protos.log_entries import AccountsAdopted
from protos.log_run_events import Reserved
from strategies.errors import Refused
from strategies.ids import RunId, SiteName
from strategies.transparency.notes import Checkpoint


class Gap(NamedTuple):
    """A gap that the reader has come to: entry `seq` of the log."""

    seq: int
    sound: SoundGap


@dataclass
class GapStory:
    """The gaps of a log, in its order."""

    met: list[Gap] = field(default_factory=list)
    _adopted: set[SiteName] = field(default_factory=set)
    """Sites whose accounts were adopted after the last gap."""

    def take(self, sound: SoundGap, before: Checkpoint) -> None:
        """Take a gap that follows the head `before`. Raises Refused."""
        sound.require_after(before)
        self.met.append(Gap(before.size, sound))
        self._adopted = set()

    def adopt(self, what: AccountsAdopted) -> None:
        """Take what a site has charged, by its own statement. Raises Refused."""
        if not self.met:
            raise Refused(f"accounts of {what.site} are adopted, and there was no gap")
        if what.site in self._adopted:
            raise Refused(f"accounts of {what.site} are adopted twice after one gap")
        if what.made_at < self.met[-1].sound.declared.declared:
            raise Refused(f"the statement of {what.site} was made before the gap was declared")
        self._adopted.add(what.site)

    def require_adopted(self, run: RunId, reserved: Iterable[Reserved]) -> None:
        """Check that whatever `run` reserves is of accounts that were adopted after the last gap. Raises Refused."""
        if not self.met:
            return
        for each in reserved:
            if each.site not in self._adopted:
                raise Refused(
                    f"{run} charges {each.site}, whose accounts were not adopted after the gap at entry {self.met[-1].seq}"
                )
