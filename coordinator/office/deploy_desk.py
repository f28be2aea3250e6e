"""The desk for deployments on the coordinator's own machine. What is decided here is carried out at once, as far as the target answers."""

from __future__ import annotations

from dataclasses import dataclass

import structlog

from coordinator.bootstrap import Centre
from coordinator.deploy import inventory
from coordinator.deploy.desk import Facts
from coordinator.deploy.targets.settings import TargetSettings
from coordinator.office import deployments
from coordinator.office.actors import here
from protos.rollouts import RolloutRules, Step
from strategies.errors import CovenantError, DiskError

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class LocalDeployDesk:
    """See `coordinator.deploy.desk.DeployDesk`."""

    centre: Centre

    def add_target(self, name: str, settings: TargetSettings) -> None:
        """See `DeployDesk.add_target`."""
        deployments.add_target(self.centre, here(), name, settings)

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
        """See `DeployDesk.start`."""
        what = deployments.Start(
            name=name, version=version, target=target, step=step, rules=rules, why=why, seen=seen
        )
        rollout = deployments.start(self.centre, here(), what)
        self._drive(target)
        return rollout

    def promote(self, target: str, step: Step | None, why: str, seen: int | None = None) -> None:
        """See `DeployDesk.promote`."""
        deployments.promote(self.centre, here(), target, step, why, seen=seen)
        self._drive(target)

    def roll_back(self, target: str, why: str, seen: int | None = None) -> None:
        """See `DeployDesk.roll_back`."""
        deployments.roll_back(self.centre, here(), target, why, seen=seen)
        self._drive(target)

    def renew(self, target: str, why: str, seen: int | None = None) -> None:
        """See `DeployDesk.renew`."""
        deployments.renew(self.centre, here(), target, why, seen=seen)
        self._drive(target)

    def recall(self, name: str, version: int, target: str | None, why: str) -> tuple[str, ...]:
        """See `DeployDesk.recall`."""
        named = deployments.recall(self.centre, here(), name, version, target, why)
        for each in named:
            self._drive(each)
        return named

    def follow(self, target: str) -> None:
        """See `DeployDesk.follow`."""
        self._drive(target)

    def targets(self) -> Facts:
        """See `DeployDesk.targets`."""
        return [each.facts() for each in inventory.targets(self.centre.engine)]

    def rollouts(self, target: str | None) -> Facts:
        """See `DeployDesk.rollouts`."""
        return [each.facts() for each in inventory.rollouts(self.centre.engine, target)]

    def orders(self, target: str) -> Facts:
        """See `DeployDesk.orders`."""
        return [each.facts() for each in inventory.orders(self.centre.engine, target)]

    def running(self, *, past: bool) -> Facts:
        """See `DeployDesk.running`."""
        return [each.facts() for each in inventory.inventory(self.centre.engine, past=past)]

    def recalls(self) -> Facts:
        """See `DeployDesk.recalls`."""
        return [each.facts() for each in inventory.recalls(self.centre.engine)]

    def _drive(self, target: str) -> None:
        """Give the order now; a target that does not answer gets it from the coordinator's driver later."""
        try:
            deployments.drive(self.centre, target)
        except DiskError:
            raise
        except CovenantError as error:
            _log.warning("ordered, and not in force yet", target=target, reason=str(error))
