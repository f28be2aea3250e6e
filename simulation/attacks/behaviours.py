"""What malicious clients do: to their own rows, and to what they send. They keep to the protocol; every frame of theirs would be accepted.

1. A malicious client has its own rows and update, the last mean update, and public constants of the plan.
2. Attackers know how many they are, and act together.
3. Nothing binds their inputs to the plan's clipping: that is done at the site, by those who do it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final, assert_never

import numpy as np

from client.data import Table
from simulation.attacks.trigger import Trigger

BOOST: Final = 10.0
"""How many times an honest update what scaling attackers add to the mean, the other way."""
BELOW: Final = 0.5
"""Which share of the gate's norm attackers who stay below it add to the mean."""
_SECOND: Final = 2


class Attack(StrEnum):
    """What malicious clients are after."""

    LABEL_FLIPPING = "label-flipping"
    SCALING = "scaling"
    BELOW_THE_GATE = "below-the-gate"
    BACKDOOR = "backdoor"
    FREE_RIDING = "free-riding"


WORDS: Final = {
    Attack.LABEL_FLIPPING: "train as the plan says, on rows whose classes are exchanged",
    Attack.SCALING: f"send an honest update turned round, so large that the mean has it {BOOST:g} times",
    Attack.BELOW_THE_GATE: f"send the same, in each round only as large as {BELOW:g} of the gate's norm",
    Attack.BACKDOOR: "train half of their rows with a mark and as good ones, and send the update so large that the mean has all of it (Bagdasaryan et al. 2020)",
    Attack.FREE_RIDING: "train nothing, and send the last mean update again, or zeros where sums of gradients are asked for (Fraboni et al. 2021)",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MaliciousClient:
    """One malicious client of `attackers` among `sites`. `gate` is the norm that those who stay below it look at."""

    attack: Attack
    sites: int
    attackers: int
    gate: float
    trigger: Trigger

    @property
    def echoes(self) -> bool:
        """Whether the last mean update is sent again, in the place of anything of one's own."""
        return self.attack is Attack.FREE_RIDING

    def rows(self, table: Table) -> Table:
        """What it trains on."""
        match self.attack:
            case Attack.LABEL_FLIPPING:
                return replace(table, target=1.0 - table.target)
            case Attack.BACKDOOR:
                marked = np.arange(len(table.keys)) % _SECOND == 0
                return replace(
                    table,
                    columns=self.trigger.marked(table.columns, marked),
                    target=np.where(marked, 0.0, table.target),
                )
            case Attack.SCALING | Attack.BELOW_THE_GATE | Attack.FREE_RIDING:
                return table
            case unreachable:
                assert_never(unreachable)

    def factor(self, norm: float) -> float:
        """What its own update, of L2 norm `norm`, is multiplied by."""
        match self.attack:
            case Attack.SCALING:
                return -BOOST * self._whole
            case Attack.BELOW_THE_GATE:
                return -BELOW * self.gate * self._whole / norm if norm > 0 else 0.0
            case Attack.BACKDOOR:
                return self._whole
            case Attack.LABEL_FLIPPING | Attack.FREE_RIDING:
                return 1.0
            case unreachable:
                assert_never(unreachable)

    @property
    def _whole(self) -> float:
        """What makes the attackers' part of a mean as large as one update."""
        return self.sites / self.attackers
