"""The desk for monitoring over the control API: the same views, from another machine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from coordinator.api.client import ControlClient
from coordinator.api.facts import listed, one
from coordinator.deploy.desk import Facts
from protos import monitors_pb2 as wire
from protos.drift import DriftRules
from protos.monitor_approvals import MonitorStatement
from protos.windows import Monitor, Windows

_SERVICE: Final = "covenant.monitor.v1.Monitors/"


class RemoteMonitorDesk:
    """See `coordinator.deploy.monitoring.desk.MonitorDesk`: over the control API."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

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
        self._client.change(
            f"{_SERVICE}WatchModel",
            lambda id_: wire.WatchModelRequest(
                request_id=id_,
                model=name,
                version=version,
                monitor=monitor.canonical,
                rules=rules.canonical,
                why=why,
                approvals=[each.canonical for each in approvals],
            ),
            wire.Done,
        )

    def acknowledge(self, alarm: str, why: str) -> None:
        """See `MonitorDesk.acknowledge`."""
        self._client.change(
            f"{_SERVICE}AcknowledgeAlarm",
            lambda id_: wire.AcknowledgeAlarmRequest(request_id=id_, alarm=alarm, why=why),
            wire.Done,
        )

    def import_windows(self, windows: Windows) -> dict[str, Any]:
        """See `MonitorDesk.import_windows`."""
        answer = self._client.change(
            f"{_SERVICE}ImportWindows",
            lambda id_: wire.ImportWindowsRequest(request_id=id_, windows=windows.canonical),
            wire.Facts,
        )
        return self._one(answer)

    def try_again(self, about: str) -> int:
        """See `MonitorDesk.try_again`."""
        answer = self._client.change(
            f"{_SERVICE}RetryAlert",
            lambda id_: wire.RetryAlertRequest(request_id=id_, about=about),
            wire.Retried,
        )
        return int(answer.alerts)

    def monitors(self) -> Facts:
        """See `MonitorDesk.monitors`."""
        return self._listed("ListMonitors", wire.ListMonitorsRequest())

    def windows(self, name: str, version: int) -> dict[str, Any]:
        """See `MonitorDesk.windows`."""
        request = wire.GetWindowsRequest(model=name, version=version)
        return self._one(self._client.ask(f"{_SERVICE}GetWindows", request, wire.Facts))

    def alarms(self, *, only_open: bool) -> Facts:
        """See `MonitorDesk.alarms`."""
        return self._listed("ListAlarms", wire.ListAlarmsRequest(open=only_open))

    def alerts(self, *, waiting: bool) -> Facts:
        """See `MonitorDesk.alerts`."""
        return self._listed("ListAlerts", wire.ListAlertsRequest(waiting=waiting))

    def _one(self, answer: wire.Facts) -> dict[str, Any]:
        return one(answer, self._client.server)

    def _listed(self, method: str, request: Any) -> Facts:  # noqa: ANN401  (a message)
        return listed(self._client.ask(f"{_SERVICE}{method}", request, wire.Facts), self._client.server)
