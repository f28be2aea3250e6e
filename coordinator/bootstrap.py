"""The composition root: the one place where clocks, randomness, databases and transports are chosen."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from coordinator.db.engine import open_database
from coordinator.db.migrate import migrate
from coordinator.flower.transport import SuperLinkTransport, Transport
from coordinator.leadership import Lease, Seat, Term
from coordinator.registry.artifacts import ArtifactStore
from coordinator.settings import Settings, load_settings
from strategies.errors import CovenantError, DiskError
from strategies.ids import RunId, run_id
from strategies.secagg.shamir import Entropy

if TYPE_CHECKING:
    from flwr.serverapp import Grid

    from coordinator.rounds.progress import Progress
    from coordinator.rounds.question import RunDocuments


@dataclass(frozen=True, slots=True, kw_only=True)
class Centre:
    """What the coordinator's services are built from."""

    settings: Settings
    engine: Engine
    artifacts: ArtifactStore
    clock: Callable[[], datetime]
    monotonic: Callable[[], float]
    sleep: Callable[[float], None]
    new_run_id: Callable[[], RunId]
    entropy: Entropy
    transport: Transport
    term: Term | None = None
    """That this process leads: what it was asked over the control API is written while that holds. None where nobody asked a leader."""

    def require_term(self, session: Session) -> None:
        """Check that the term is still held, and have it stay so until the transaction ends. Raises Deposed."""
        if self.term is not None:
            self.term.require(session)


def open_centre(settings: Settings | None = None) -> Centre:
    """Open the coordinator of `settings`, or of $COVENANT_HOME; its database is brought up to date."""
    chosen = settings or load_settings()
    engine = open_database(chosen.database_url)
    migrate(engine)
    return Centre(
        settings=chosen,
        engine=engine,
        artifacts=ArtifactStore(chosen.artifacts),
        clock=lambda: datetime.now(UTC),
        monotonic=time.monotonic,
        sleep=time.sleep,
        new_run_id=lambda: run_id(f"run-{secrets.token_hex(8)}"),
        entropy=os.urandom,
        transport=SuperLinkTransport(chosen.superlink),
    )


def lease_of(centre: Centre, seat: Seat) -> Lease:
    """The lease under which this process may lead from its `seat`."""
    return Lease(
        engine=centre.engine,
        holder=f"{socket.gethostname()} pid {os.getpid()} ({seat.name[:8]})",
        seat=seat,
        clock=centre.clock,
        monotonic=centre.monotonic,
    )


def drive_run(centre: Centre, run: RunId, grid: Grid, *, flower_run: int, watched: bool = False) -> None:
    """Drive `run` over the Grid of its ServerApp and register what comes of it; a failure is recorded, then raised.

    `watched` has a thread note how it goes on, for people who look at it meanwhile.
    """
    from coordinator.rounds.progress import KeptProgress, Progress
    from coordinator.runs import load_documents

    with structlog.contextvars.bound_contextvars(run=run):
        documents = load_documents(centre.engine, run)
        if not watched:
            _drive(centre, documents, grid, flower_run, Progress())
            return
        contract = documents.contract.ref
        progress = KeptProgress(centre.engine, run, contract, centre.clock, centre.monotonic)
        with progress.written():
            _drive(centre, documents, grid, flower_run, progress)


def _drive(centre: Centre, documents: RunDocuments, grid: Grid, flower_run: int, progress: Progress) -> None:
    from coordinator.flower.grid import PromptGrid
    from coordinator.flower.wire import wire_over
    from coordinator.governance.halted import Halted, HaltWatch
    from coordinator.governance.halts import take_order
    from coordinator.governance.log import open_log
    from coordinator.registry.champions import champion_of
    from coordinator.registry.publish import publish
    from coordinator.rounds.driver import Driver
    from coordinator.rounds.store import RoundStore
    from coordinator.runs import ledger_of
    from protos.payloads import most_reply_bytes

    run = documents.run
    store = RoundStore(centre.engine, centre.artifacts, run, centre.clock, ledger_of(centre, documents))
    store.start(flower_run)
    keys = {member.site: member.node_key.encode() for member in documents.member_list.members}
    wire = wire_over(grid, centre.monotonic, centre.sleep)
    halted = HaltWatch(centre.engine, run, centre.monotonic)
    try:
        largest = most_reply_bytes(documents.plan, documents.contract)
        exchange = PromptGrid(
            wire, keys, centre.monotonic, centre.sleep, halted=halted, most_reply_bytes=largest
        )
        log = open_log(centre.engine, centre.settings, centre.clock)
        champion = champion_of(centre.engine, centre.artifacts, documents.plan)
        driver = Driver(
            replace(documents, champion=champion),
            exchange,
            store,
            log,
            centre.monotonic,
            centre.sleep,
            centre.entropy,
            halted=halted,
            ordered=partial(take_order, centre, run),
            progress=progress,
        )
        finished = driver.drive()
        publish(centre, documents, finished)
        # While this process is still the run's: who stops everything when the run is over cuts nothing off.
        driver.conclude()
    except DiskError as error:
        # Not even the failure is recorded: this process writes no more than a line to its log.
        structlog.get_logger(__name__).error("the disk failed", reason=str(error))
        raise
    except Halted as halt:
        store.finish("stopped", halt.order.words)
        raise
    except CovenantError as error:
        # Before it is recorded: where the disk is full, it is not.
        structlog.get_logger(__name__).error("the run failed", reason=str(error))
        store.finish("failed", str(error))
        raise
    store.finish("completed")
