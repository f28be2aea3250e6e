"""Halts as the transparency log tells them: nothing that one covers is launched, resumed or settled before two officers have lifted it.

1. An order counts if its giver is on the newest member list that the log had, and current at the time of the entry. It is given once.
2. A lift names an order that stands.
3. From `halted` to `halt-lifted` no run that it covers is launched or resumed, and no sum is settled in which a halted site has a part.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from protos.halt_lifts import HaltLift, require_lift
from protos.halts import Halt, HaltOrder, require_halt
from protos.log_entries import Halted, HaltLifted
from protos.membership import MemberList
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName


@dataclass
class HaltStory:
    """The halts of a log: those that stand, and all that there ever were."""

    standing: dict[Digest, Halt] = field(default_factory=dict)
    given: list[Halt] = field(default_factory=list)

    def take(
        self, what: Halted | HaltLifted, members: MemberList | None, federation: Digest, at: datetime
    ) -> None:
        """Take an entry. Raises Refused."""
        match what:
            case Halted():
                self._halt(what.order.read_as(HaltOrder), members, federation, at)
            case HaltLifted():
                self._lift(what.lift.read_as(HaltLift), members, at)

    def _halt(self, order: HaltOrder, members: MemberList | None, federation: Digest, at: datetime) -> None:
        halt = require_halt(order, _known(members), federation, at)
        if any(order.id == each.order.id for each in self.given):
            raise Refused(f"halt {order.id} is given twice")
        self.given.append(halt)
        self.standing[halt.digest] = halt

    def _lift(self, lift: HaltLift, members: MemberList | None, at: datetime) -> None:
        halt = self.standing.get(lift.order)
        if halt is None:
            raise Refused(f"halt {lift.order} is lifted, and does not stand")
        require_lift(lift, halt.digest, _known(members), at)
        del self.standing[lift.order]

    def require_free(self, doing: str, run: RunId, sites: tuple[SiteName, ...] = ()) -> None:
        """Check that no halt stands in the way of `run` with `sites`. Raises Refused."""
        for halt in self.standing.values():
            if halt.order.covers(run, frozenset(sites)):
                raise Refused(f"{run} is {doing} under a halt: {halt.order.words}")


def _known(members: MemberList | None) -> MemberList:
    if members is None:
        raise Refused("the log has no member list before this, so nobody could give an order")
    return members
