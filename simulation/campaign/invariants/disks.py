"""What both sides promise about disks that fail."""

from __future__ import annotations

from simulation.campaign.invariants.base import Invariant, register


@register
class FailedFlushIsFinal(Invariant):
    """Hears of commits on a connection whose last one failed to reach the disk."""

    name = "failed-flush-is-final"
    part = "disks"
    says = "A process whose flush failed writes no more: the flush is not tried again, and nothing else is either."

    def step(self, party: str, what: str) -> None:
        """See `Invariant.step`."""
        self.require(what != "commits after a failed flush", f"{party} writes on after a flush that failed")
