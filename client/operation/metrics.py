"""The agent's metrics for Prometheus: what `covenant-agent status` says, over time. None of them counts rows.

Seconds of an answer depend on rows and on a secret sample, if only in coarse buckets: these pages stay at the site.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from client.accounts.views import AccountView
from client.operation.watching import ANSWERED, Occurrence, Watcher
from protos.release import package_version
from protos.site import SiteConfig
from strategies.errors import CovenantError

_BUCKETS_S: Final = (0.1, 1.0, 10.0, 60.0, 600.0)
_log = structlog.get_logger(__name__)


class AgentMetrics(Watcher):
    """Metrics of one agent in `registry`."""

    def __init__(
        self,
        config: SiteConfig,
        registry: CollectorRegistry,
        *,
        now: Callable[[], float],
        monotonic: Callable[[], float],
    ) -> None:
        """`now` is the wall clock in seconds since 1970."""
        self._now, self._monotonic, self._began = now, monotonic, monotonic()
        about = Gauge(
            "covenant_agent_info", "This agent", ("site", "federation", "version"), registry=registry
        )
        about.labels(config.site, config.federation.name, package_version()).set(1)
        self._connected = Gauge(
            "covenant_agent_connected", "1 while the SuperLink has let it in", registry=registry
        )
        self._contact = Gauge(
            "covenant_agent_last_contact_timestamp_seconds",
            "When the SuperLink last answered",
            registry=registry,
        )
        self._draining = Gauge("covenant_agent_draining", "1 once it was told to leave", registry=registry)
        self._failures = Counter(
            "covenant_agent_connection_failures", "Failed connections", registry=registry
        )
        labels = ("stage", "step", "outcome")
        self._requests = Counter(
            "covenant_agent_requests", "Requests, by what became of them", labels, registry=registry
        )
        self._seconds = Histogram(
            "covenant_agent_answer_seconds",
            "Time to answer",
            ("stage",),
            registry=registry,
            buckets=_BUCKETS_S,
        )

    def connected(self) -> None:
        """See `Watcher`."""
        self._connected.set(1)
        self.contact()

    def contact(self) -> None:
        """See `Watcher`."""
        self._contact.set(self._now())

    def away(self, reason: str) -> None:
        """See `Watcher`."""
        del reason
        self._connected.set(0)
        self._failures.inc()

    def began(self) -> None:
        """See `Watcher`."""
        self._began = self._monotonic()

    def occurred(self, what: Occurrence) -> None:
        """See `Watcher`."""
        self._requests.labels(what.stage, what.step, what.outcome).inc()
        if what.outcome == ANSWERED:
            self._seconds.labels(what.stage).observe(self._monotonic() - self._began)

    def draining(self) -> None:
        """See `Watcher`."""
        self._draining.set(1)


class AccountMetrics(Collector):
    """What is spent of each account and what its ceiling is, read from the accounts at each scrape."""

    def __init__(self, views: Callable[[], Iterable[AccountView]], free_bytes: Callable[[], int]) -> None:
        self._views, self._free_bytes = views, free_bytes

    def collect(self) -> Iterable[GaugeMetricFamily]:
        """The figures of now."""
        labels = ("population", "unit", "delta")
        spent = GaugeMetricFamily(
            "covenant_agent_epsilon_spent", "Epsilon that the filter has for all charges", labels=labels
        )
        ceiling = GaugeMetricFamily(
            "covenant_agent_epsilon_ceiling", "The most that it may become", labels=labels
        )
        share = GaugeMetricFamily(
            "covenant_agent_account_spent_ratio", "How much of the ceiling is spent; 1 is all", labels=labels
        )
        for each in self._read():
            most = each.account.ceiling
            told = (each.population, str(most.unit.words), f"{most.delta:g}")
            spent.add_metric(told, each.spent.epsilon)
            ceiling.add_metric(told, most.epsilon)
            share.add_metric(told, most.fraction(each.account.cost))
        free = GaugeMetricFamily(
            "covenant_agent_disk_free_bytes", "Free space where the journal is", value=self._free_bytes()
        )
        return (spent, ceiling, share, free)

    def _read(self) -> list[AccountView]:
        """The accounts, or none where they cannot be read: whoever serves the page would print a traceback, with its words."""
        try:
            return list(self._views())
        except CovenantError as trouble:
            _log.warning("the accounts are missing from the metrics", reason=str(trouble))
            return []
