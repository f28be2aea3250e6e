"""Metrics for Prometheus, off unless an address is written down: one page over HTTP, made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from protos.documents import Part
from protos.names import Address, address_parts, is_loopback
from strategies.errors import UsageError

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

_log = structlog.get_logger(__name__)


class Monitoring(Part):
    """The section `monitoring` of a configuration: where `metrics` are served, as HOST:PORT; nowhere if it is left out."""

    metrics: Address | None = None


def new_registry() -> CollectorRegistry:
    """A registry that has this process's memory, time and files, and nothing else yet."""
    from prometheus_client import CollectorRegistry, ProcessCollector

    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    return registry


@contextmanager
def served(section: Monitoring, registry: CollectorRegistry) -> Iterator[None]:
    """Serve `registry` for as long as the block runs, where `section` says. Raises UsageError where nobody can listen there."""
    if section.metrics is None:
        yield
        return
    from prometheus_client import start_http_server

    host, port = address_parts(section.metrics)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise UsageError(
            f"`monitoring.metrics` is {section.metrics}, where nobody can listen ({error.strerror}); free the port or name another"
        ) from error
    if not is_loopback(host):
        _log.warning("metrics can be read from other machines", address=section.metrics)
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
