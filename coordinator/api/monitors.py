"""`Monitors` of the control API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from coordinator.api.deployments import fitting
from coordinator.api.door import Call, Function
from coordinator.api.pages import FULL_BYTES
from coordinator.bootstrap import Centre
from coordinator.deploy.desk import Facts
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.alerts import outbox
from coordinator.office import monitoring as office
from protos import monitors_pb2 as wire
from protos.drift import DriftRules
from protos.monitor_approvals import MOST_STATEMENTS, MonitorStatement
from protos.windows import Monitor, Windows

_SERVICE: Final = "covenant.monitor.v1.Monitors/"


class Monitors:
    """Answers for monitoring."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            f"{_SERVICE}WatchModel": self.watch,
            f"{_SERVICE}AcknowledgeAlarm": self.acknowledge,
            f"{_SERVICE}ImportWindows": self.import_windows,
            f"{_SERVICE}RetryAlert": self.try_again,
            f"{_SERVICE}ListMonitors": self.monitors,
            f"{_SERVICE}GetWindows": self.windows,
            f"{_SERVICE}ListAlarms": self.alarms,
            f"{_SERVICE}ListAlerts": self.alerts,
        }

    def watch(self, request: wire.WatchModelRequest, call: Call) -> wire.Done:
        """Have a version watched."""
        office.watch(
            self._centre,
            call.actor,
            request.model,
            request.version,
            Monitor.from_canonical(request.monitor),
            DriftRules.from_canonical(request.rules),
            request.why,
            call.asked,
            approvals=tuple(map(MonitorStatement.from_canonical, request.approvals[: MOST_STATEMENTS + 1])),
        )
        return wire.Done()

    def acknowledge(self, request: wire.AcknowledgeAlarmRequest, call: Call) -> wire.Done:
        """Say that an alarm has been seen."""
        office.acknowledge(self._centre, call.actor, request.alarm, request.why, call.asked)
        return wire.Done()

    def import_windows(self, request: wire.ImportWindowsRequest, call: Call) -> wire.Facts:
        """Take in a file of windows."""
        windows = Windows.from_canonical(request.windows)
        return _told(office.import_windows(self._centre, windows, call.asked))

    def try_again(self, request: wire.RetryAlertRequest, call: Call) -> wire.Retried:
        """Have alerts tried anew."""
        return wire.Retried(alerts=office.try_alert_again(self._centre, request.about, call.asked))

    def monitors(self, request: wire.ListMonitorsRequest, call: Call) -> wire.Facts:
        """What is watched."""
        del request, call
        return _listed(views.monitors(self._centre.engine))

    def windows(self, request: wire.GetWindowsRequest, call: Call) -> wire.Facts:
        """The windows of a version: where they fill more than a message, the oldest are left out."""
        del call
        found = views.windows(self._centre.engine, request.model, request.version)
        answer, more = _told(found), False
        while len(answer.facts) > FULL_BYTES and any(len(each["windows"]) > 1 for each in found["places"]):
            more = True
            for each in found["places"]:
                each["windows"] = each["windows"][len(each["windows"]) // 2 :]
            answer = _told(found)
        answer.more = more
        return answer

    def alarms(self, request: wire.ListAlarmsRequest, call: Call) -> wire.Facts:
        """Alarms."""
        del call
        return _listed(views.alarms(self._centre.engine, only_open=request.open))

    def alerts(self, request: wire.ListAlertsRequest, call: Call) -> wire.Facts:
        """Alerts."""
        del call
        return _listed(outbox.alerts(self._centre, waiting=request.waiting))


def _told(facts: Mapping[str, Any]) -> wire.Facts:
    return wire.Facts(facts=json.dumps(facts).encode())


def _listed(facts: Facts) -> wire.Facts:
    kept = fitting(facts)
    return wire.Facts(facts=json.dumps(kept).encode(), more=len(kept) < len(facts))
