"""The seam between the rounds and the transport: ask some sites, get answers, or learn who gave none.

Production implements it over Flower's Grid, simulation over memory; the driver cannot tell the difference.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from protos.frames import Stage
from strategies.ids import SiteName
from strategies.pieces import Bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """A site's reply, still as bytes: what it holds is for the driver to judge."""

    frame: Bytes


@dataclass(frozen=True, slots=True)
class Unanswered:
    """No reply from a site, and why: away, past the deadline, or an error of its runtime."""

    reason: str


Outcome = Answered | Unanswered


class Exchange(Protocol):
    """Delivers one request to each of some sites and hands over what comes back."""

    def online(self) -> Collection[SiteName]:
        """The sites that can be asked now."""
        ...

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, Bytes], *, round_number: int, deadline_s: float
    ) -> Iterator[tuple[SiteName, Outcome]]:
        """Ask each site its frame; one outcome a site, as it comes, until all have answered or `deadline_s` seconds have passed.

        A frame is taken from `frames` when it is sent, and kept no longer; nor is a reply once it was handed over. Memory therefore
        does not grow with the number of sites times the size of a model.
        """
        ...
