"""The desk for monitoring on the coordinator's own machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.bootstrap import Centre
from coordinator.deploy.desk import Facts
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.alerts import outbox
from coordinator.office import monitoring
from coordinator.office.actors import here
from protos.drift import DriftRules
from protos.monitor_approvals import MonitorStatement
from protos.windows import Monitor, Windows


@dataclass(frozen=True, slots=True)
class LocalMonitorDesk:
    """See `coordinator.deploy.monitoring.desk.MonitorDesk`."""

    centre: Centre

    def watch(
        self,
        name: str,
        version: int,
        monitor: Monitor,
        rules: DriftRules,
        why: str,
        approvals: Sequence[MonitorStatement] = (),
    ) -> None:
        """See `MonitorDesk.watch`."""
        monitoring.watch(self.centre, here(), name, version, monitor, rules, why, approvals=approvals)

    def acknowledge(self, alarm: str, why: str) -> None:
        """See `MonitorDesk.acknowledge`."""
        monitoring.acknowledge(self.centre, here(), alarm, why)

    def import_windows(self, windows: Windows) -> dict[str, Any]:
        """See `MonitorDesk.import_windows`."""
        return monitoring.import_windows(self.centre, windows)

    def try_again(self, about: str) -> int:
        """See `MonitorDesk.try_again`."""
        return monitoring.try_alert_again(self.centre, about)

    def monitors(self) -> Facts:
        """See `MonitorDesk.monitors`."""
        return views.monitors(self.centre.engine)

    def windows(self, name: str, version: int) -> dict[str, Any]:
        """See `MonitorDesk.windows`."""
        return views.windows(self.centre.engine, name, version)

    def alarms(self, *, only_open: bool) -> Facts:
        """See `MonitorDesk.alarms`."""
        return views.alarms(self.centre.engine, only_open=only_open)

    def alerts(self, *, waiting: bool) -> Facts:
        """See `MonitorDesk.alerts`."""
        return outbox.alerts(self.centre, waiting=waiting)
