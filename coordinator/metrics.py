"""The coordinator's metrics for Prometheus: counted in its database at each scrape, so none is wrong after a restart or a change of leader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.halt_schema import HaltRow
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.monitor_schema import AlarmRow, AlertRow, WindowRow
from coordinator.db.schema import Model, Round, RoundState, Run, RunState, Site
from coordinator.db.witness_schema import ForkRow
from coordinator.deploy.monitoring.alerts.outbox import waits
from coordinator.flower.control import Control
from coordinator.flower.traffic import Traffic
from coordinator.governance.witnesses import SET_BACK
from strategies.errors import CovenantError

Gauges = Iterable[GaugeMetricFamily]
Metrics = Iterable[Metric]
_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CentreMetrics(Collector):
    """What the coordinator's database and its SuperLink say now. `leads` says whether this process leads."""

    centre: Centre
    leads: Callable[[], bool]

    def collect(self) -> Metrics:
        """The figures of now. A database or a SuperLink that does not answer is a figure too."""
        yield _gauge("covenant_leading", "1 while this coordinator leads", float(self.leads()))
        try:
            with reading(self.centre.engine, "counting for the metrics") as session:
                counted = list(_counted(session))
        except CovenantError:
            yield _gauge("covenant_database_up", "1 while the database answers", 0.0)
        else:
            yield _gauge("covenant_database_up", "1 while the database answers", 1.0)
            yield from counted
        try:
            with Control(self.centre.settings.superlink) as control:
                online = float(len(control.online()))
        except CovenantError:
            yield _gauge("covenant_superlink_up", "1 while the SuperLink answers", 0.0)
        else:
            yield _gauge("covenant_superlink_up", "1 while the SuperLink answers", 1.0)
            yield _gauge("covenant_sites_online", "Sites that the SuperLink has heard of lately", online)
        try:
            traffic = Traffic.read(self.centre.settings.home)
        except CovenantError as error:
            _log.warning("the SuperLink's count is left out of the metrics", reason=str(error))
        else:
            if traffic is not None:
                yield from _traffic(traffic)


def _traffic(traffic: Traffic) -> Metrics:
    """What the SuperLink that this coordinator started has answered since."""
    for name, about, value in (
        ("requests", "Requests that the SuperLink has answered", traffic.requests),
        ("polls", "Those of them that asked for a message", traffic.polls),
        ("refused", "Those of them that were refused or failed", traffic.refused),
        ("received_bytes", "Bytes of requests", traffic.bytes_in),
        ("sent_bytes", "Bytes of answers", traffic.bytes_out),
        ("request_seconds", "Time from a request to the end of its answer", traffic.microseconds / 1e6),
    ):
        yield CounterMetricFamily(f"covenant_superlink_{name}", about, value=float(value))


def _counted(session: Session) -> Gauges:
    yield _by_state(session, "covenant_runs", "Runs, by state", Run.state, RunState)
    yield _by_state(
        session, "covenant_round_attempts", "Attempts at rounds, by state", Round.state, RoundState
    )
    for name, about, query in (
        ("covenant_sites", "Member sites", select(func.count()).select_from(Site)),
        ("covenant_models", "Registered model versions", select(func.count()).select_from(Model)),
        (
            "covenant_log_entries",
            "Entries of the transparency log",
            select(func.count()).select_from(LoggedEntry),
        ),
        (
            "covenant_drift_alarms_open",
            "Drift alarms that nobody has acknowledged",
            select(func.count()).select_from(AlarmRow).where(AlarmRow.acknowledged_at.is_(None)),
        ),
        (
            "covenant_drift_windows",
            "Windows of decisions and outcomes that were taken in",
            select(func.count()).select_from(WindowRow),
        ),
        (
            "covenant_alerts_waiting",
            "Alerts that are neither delivered nor given up",
            select(func.count()).select_from(AlertRow).where(waits()),
        ),
        (
            "covenant_alerts_given_up",
            "Alerts that were given up after many tries",
            select(func.count()).select_from(AlertRow).where(AlertRow.given_up_at.is_not(None)),
        ),
        (
            "covenant_halts_standing",
            "Halts that stand",
            select(func.count()).where(HaltRow.lifted_at.is_(None)),
        ),
        (
            "covenant_log_forks_standing",
            "Forks of the log that nobody has dealt with",
            select(func.count()).where(ForkRow.shows != SET_BACK, ForkRow.settled_at.is_(None)),
        ),
    ):
        yield _gauge(name, about, float(session.scalar(query) or 0))


def _by_state(
    session: Session,
    name: str,
    about: str,
    column: InstrumentedAttribute[str],
    states: type[RunState] | type[RoundState],
) -> GaugeMetricFamily:
    query = select(column, func.count()).group_by(column)
    found = {str(row[0]): int(row[1]) for row in session.execute(query)}
    family = GaugeMetricFamily(name, about, labels=("state",))
    for state in states:
        family.add_metric((str(state),), float(found.get(str(state), 0)))
    return family


def _gauge(name: str, about: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, about, value=value)
