"""What commands about monitoring need of a coordinator, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from coordinator.deploy.desk import Facts
from protos.drift import DriftRules
from protos.monitor_approvals import MonitorStatement
from protos.windows import Monitor, Windows


class MonitorDesk(Protocol):
    """A coordinator as the commands of `covenant monitor` see it. Everything raises `CovenantError`; facts are as `--json` prints them."""

    def watch(
        self,
        name: str,
        version: int,
        monitor: Monitor,
        rules: DriftRules,
        why: str,
        approvals: Sequence[MonitorStatement] = (),
    ) -> None:
        """Have a version watched; `approvals` are of the officers who loosen how it was."""
        ...

    def acknowledge(self, alarm: str, why: str) -> None:
        """Say that an alarm has been seen."""
        ...

    def import_windows(self, windows: Windows) -> dict[str, Any]:
        """Take in a file of windows."""
        ...

    def try_again(self, about: str) -> int:
        """Have alerts that were given up tried anew."""
        ...

    def monitors(self) -> Facts:
        """What is watched."""
        ...

    def windows(self, name: str, version: int) -> dict[str, Any]:
        """The windows of a version, and forecasts."""
        ...

    def alarms(self, *, only_open: bool) -> Facts:
        """Alarms, the latest first."""
        ...

    def alerts(self, *, waiting: bool) -> Facts:
        """Alerts, the latest first."""
        ...
