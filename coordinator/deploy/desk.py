"""What commands about deployments need of a coordinator, wherever it is."""

from __future__ import annotations

from typing import Any, Protocol

from coordinator.deploy.targets.settings import TargetSettings
from protos.rollouts import RolloutRules, Step

Facts = list[dict[str, Any]]


class DeployDesk(Protocol):
    """A coordinator as the commands of `covenant deploy` see it. Everything raises `CovenantError`. Lists are of facts as `--json` prints them.

    `seen` is the newest order of the target that whoever decides had in sight: once there is another one nothing is decided. None does not ask.
    """

    def add_target(self, name: str, settings: TargetSettings) -> None:
        """Record a place where models may run."""
        ...

    def start(
        self,
        name: str,
        version: int,
        target: str,
        step: Step,
        rules: RolloutRules,
        why: str,
        seen: int | None = None,
    ) -> str:
        """Begin a rollout; its id."""
        ...

    def promote(self, target: str, step: Step | None, why: str, seen: int | None = None) -> None:
        """Let what is on trial go on."""
        ...

    def roll_back(self, target: str, why: str, seen: int | None = None) -> None:
        """Take the newest rollout back."""
        ...

    def renew(self, target: str, why: str, seen: int | None = None) -> None:
        """Release what serves anew."""
        ...

    def recall(self, name: str, version: int, target: str | None, why: str) -> tuple[str, ...]:
        """Order a version off every target, or off one; the targets."""
        ...

    def follow(self, target: str) -> None:
        """Carry out what was decided as far as the target is now, where this is the coordinator's own machine."""
        ...

    def targets(self) -> Facts:
        """All targets, by name."""
        ...

    def rollouts(self, target: str | None) -> Facts:
        """All rollouts, or those of one target, the latest first."""
        ...

    def orders(self, target: str) -> Facts:
        """The orders of a target, the latest first."""
        ...

    def running(self, *, past: bool) -> Facts:
        """What runs where; with `past`, also what ran."""
        ...

    def recalls(self) -> Facts:
        """All recalls, the latest first."""
        ...
