"""The process of a warm agent: what it logs and tells, how many threads it computes with, and how it reaches the SuperLink."""

from __future__ import annotations

import os
import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import structlog

from client.accounts.views import AccountView, views
from client.agent import Agent
from client.app import SITE_KEY, app, participant
from client.bootstrap import open_accounts, utc_now
from client.fleet.connection import FleetConnection
from client.keystore import load_node_key
from client.limits import OutOfMemory, apply_limits, told_of_memory
from client.operation.reporter import StateReporter, Watchers
from client.operation.state import AgentState, StateFolder
from client.operation.watching import Asked, Watcher, occurrence
from client.participant import Participant
from protos.logs import configure
from protos.monitoring import new_registry, served
from protos.release import package_version
from protos.site import SiteConfig, load_site
from strategies.errors import CovenantError

_log = structlog.get_logger(__name__)


@contextmanager
def open_agent(
    site_file: Path, *, give_up_after_s: float | None = None, drain_within_s: float = 60.0
) -> Iterator[Agent]:
    """The warm agent of `site_file`, with its keys and torch loaded, and told of in its state and metrics for as long as the block runs.

    Raises `UsageError` naming what cannot be used.
    """
    config = load_site(site_file)
    configure(config.logging)
    apply_limits(config.run)
    with ExitStack() as running:
        folder = StateFolder(config.journal.parent)
        running.enter_context(folder.held())
        taking_part = participant(site_file)
        # Beside the connection: whether rows are good is for the site to know before the centre asks, and they may be many.
        warming = threading.Thread(target=_warm, args=(taking_part, config), daemon=True)
        warming.start()
        # A thread within a library when the interpreter ends would abort it.
        running.callback(warming.join)
        running.callback(taking_part.rows.leave)
        if config.identity.passphrase is None:
            _log.warning("the identity key is not encrypted", file=str(config.identity.key))
        watcher = running.enter_context(_watched(config, folder))

        def told(asked: Asked, outcome: str) -> None:
            watcher.occurred(occurrence(asked, outcome))

        taking_part.told = told
        yield Agent(
            config=config,
            app=app,
            node_config={SITE_KEY: str(site_file)},
            connect=partial(
                FleetConnection,
                address=config.federation.superlink,
                ca_file=config.federation.ca,
                key=load_node_key(config.identity.node_key),
                node_file=site_file.parent / "flower" / "node-id",
                proxy=config.federation.proxy_url,
            ),
            give_up_after_s=give_up_after_s,
            is_away=lambda: taking_part.presence.is_away,
            draining=taking_part.drain,
            drain_within_s=drain_within_s,
            watcher=watcher,
        )


@contextmanager
def _watched(config: SiteConfig, folder: StateFolder) -> Iterator[Watcher]:
    """Who is told of what the agent does: its state, and its metrics where they are served."""
    began = AgentState(pid=os.getpid(), version=package_version(), started_at=utc_now().isoformat())
    reporter = StateReporter(folder, began, utc_now, time.monotonic)
    folder.write(began)
    with ExitStack() as serving:
        watchers: list[Watcher] = [reporter]
        if config.monitoring.metrics is not None:
            from client.operation.metrics import AccountMetrics, AgentMetrics

            registry = new_registry()
            watchers.append(AgentMetrics(config, registry, now=time.time, monotonic=time.monotonic))
            place = config.journal.parent
            registry.register(
                AccountMetrics(partial(_accounts, config), lambda: shutil.disk_usage(place).free)
            )
            serving.enter_context(served(config.monitoring, registry))
        try:
            yield Watchers(watchers)
        except CovenantError as error:
            reporter.ended(str(error))
            raise
        reporter.ended("it was told to")


def _accounts(config: SiteConfig) -> list[AccountView]:
    """The accounts, from their file: the participant's own connection belongs to its thread."""
    with closing(open_accounts(config)) as book:
        return list(views(config, book))


def _warm(site: Participant, config: SiteConfig) -> None:
    """Read and judge all rows; what is wrong with them is for the log."""
    try:
        with told_of_memory(config):
            site.rows.warm(list(config.data.values()))
    except OutOfMemory as trouble:
        _log.error("data cannot be used", reason=str(trouble))
