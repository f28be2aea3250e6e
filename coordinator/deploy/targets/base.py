"""What a target is to whoever deploys: it takes an order, as often as it is given, and says what is in force.

1. An order says all that the target runs, so the newest one is enough: whatever was missed in between does not matter.
2. The same order given again changes nothing. An older one than the target has is refused: two who deploy at once cannot undo each other.
3. An order is in force when the target itself says so, and never because it was given.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

from coordinator.deploy.package import Package
from coordinator.deploy.scoring.serving import ServiceStatus
from protos.rollouts import State

Mode = Literal["none", "shadow", "canary"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What a target is to run from `revision` on. Without `stable` the model is out of service, which `recall` makes final."""

    revision: int
    stable: Package | None = None
    challenger: Package | None = None
    recall: Package | None = None
    mode: Mode = "none"
    share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What a target says of itself: the revision in force, 0 before the first; `refused` is why a newer one is not.

    `status` is a scoring service's own, where the target can be asked for it.
    """

    revision: int
    refused: tuple[int, str] | None = None
    status: ServiceStatus | None = None


class Target(Protocol):
    """One place where models run. Everything raises `CovenantError`; Unreachable where it does not answer now."""

    @property
    def states(self) -> frozenset[State]:
        """Those of `shadow`, `canary` and `full` that it can be in."""
        ...

    def give(self, order: Order) -> None:
        """Have it run what `order` says. Raises Refused where it has a newer one, or cannot do that."""
        ...

    def observe(self) -> Observed:
        """What is in force."""
        ...
