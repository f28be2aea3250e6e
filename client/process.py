"""The process of a warm agent: what it logs, how many threads it computes with, and how it reaches the SuperLink."""

from __future__ import annotations

import logging
import sys
import threading
from functools import partial
from pathlib import Path

import structlog

from client.agent import Agent
from client.app import SITE_KEY, app, participant
from client.fleet.connection import FleetConnection
from client.keystore import load_node_key
from client.limits import OutOfMemory, apply_limits, told_of_memory
from client.participant import Participant
from protos.site import SiteConfig, load_site

_log = structlog.get_logger(__name__)


def open_agent(site_file: Path, *, give_up_after_s: float | None = None) -> Agent:
    """The warm agent of `site_file`, with its keys and torch loaded; raises `UsageError` naming what cannot be used."""
    _log_to_stderr()
    config = load_site(site_file)
    apply_limits(config.run)
    site = participant(site_file)
    # Beside the connection: whether rows are good is for the site to know before the centre asks, and they may be many.
    threading.Thread(target=_warm, args=(site, config), daemon=True).start()
    if config.identity.passphrase is None:
        _log.warning("the identity key is not encrypted", file=str(config.identity.key))
    return Agent(
        config=config,
        app=app,
        node_config={SITE_KEY: str(site_file)},
        connect=partial(
            FleetConnection,
            address=config.federation.superlink,
            ca_file=config.federation.ca,
            key=load_node_key(config.identity.node_key),
            node_file=site_file.parent / "flower" / "node-id",
        ),
        give_up_after_s=give_up_after_s,
        is_away=lambda: site.presence.is_away,
    )


def _warm(site: Participant, config: SiteConfig) -> None:
    """Read and judge all rows; what is wrong with them is for the log."""
    try:
        with told_of_memory(config):
            site.rows.warm(list(config.data.values()))
    except OutOfMemory as trouble:
        _log.error("data cannot be used", reason=str(trouble))


def _log_to_stderr() -> None:
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
