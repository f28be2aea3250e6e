"""The coordinator's metrics for Prometheus: counted in its database at each scrape, so none is wrong after a restart or a change of leader."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector
from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.db.halt_schema import HaltRow
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Model, Round, RoundState, Run, RunState, Site
from coordinator.db.witness_schema import ForkRow
from coordinator.flower.control import Control
from coordinator.governance.witnesses import SET_BACK
from strategies.errors import CovenantError

Gauges = Iterable[GaugeMetricFamily]


@dataclass(frozen=True)
class CentreMetrics(Collector):
    """What the coordinator's database and its SuperLink say now. `leads` says whether this process leads."""

    centre: Centre
    leads: Callable[[], bool]

    def collect(self) -> Gauges:
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
