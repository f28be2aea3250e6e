"""The warm agent: one process that keeps the ClientApp, the data and torch loaded, and answers the rounds of its federation.

It polls quickly while a round is open and slowly when all is quiet, survives a SuperLink that goes away and comes back without
memory of it, runs only code that is installed here, and leaves cleanly when told to: it first finishes what others count on.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import SystemRandom

import structlog
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client.fleet.cadence import Backoff, Cadence, Crowd
from client.fleet.connection import (
    HEARTBEAT_INTERVAL_S,
    Connect,
    FleetConnection,
    RunOverError,
    UnknownSiteError,
)
from client.fleet.manifest import BundleRefused, check_bundle
from client.fleet.probe import LocalFault
from client.journal.entries import JournalBroken
from client.operation.drain import Drain
from client.operation.watching import Watcher
from client.training import COMPONENTS
from protos.codec_fields import CodecError
from protos.release import package_version
from protos.site import SiteConfig
from strategies.errors import CovenantError, Unreachable

_HEARTBEAT_S = HEARTBEAT_INTERVAL_S * 0.6
_FAULT_S = 10.0
"""Until an agent that worked before looks whether somebody has set its machine right."""
_NOTICE_S = 0.2
_log = structlog.get_logger(__name__)


@dataclass
class Agent:
    """One site's agent. `serve` blocks until `drain` is called, from a signal handler for instance."""

    config: SiteConfig
    app: ClientApp
    node_config: dict[str, str]
    connect: Connect
    give_up_after_s: float | None = None
    """Leave with `Unreachable` if the SuperLink could not be reached for this long from the start; None waits for ever."""
    draining: Drain = field(default_factory=Drain)
    """What the participant behind `app` has in hand."""
    drain_within_s: float = 60.0
    """How long after its last message an agent that drains waits for the next one of what it has in hand."""
    watcher: Watcher = field(default_factory=Watcher)
    is_away: Callable[[], bool] = lambda: False
    """Whether the site's hours are over, and it owes nobody the rest of a sum: then it is not at the SuperLink."""

    _contexts: dict[int, Context] = field(default_factory=dict)
    _chance: Callable[[], float] = SystemRandom().random
    _told_drain: bool = False
    _last_message: float = float("-inf")
    """When a message came; while it drains, one that went on with what is in hand."""
    _unsent: bool = False
    """Whether a step that others count on was taken, and the reply was lost on its way: they ask for it again."""

    def drain(self) -> None:
        """Finish what is in hand, begin nothing new, say goodbye, and return from `serve`. Safe in a signal handler."""
        self.draining.begin()

    def serve(self) -> None:
        """Answer messages until told to leave.

        Raises `Unreachable` and `LocalFault` only before the first connection, and `JournalBroken` when this site can no longer record what it
        says; then the process must end.
        """
        began, failures, ever = time.monotonic(), 0, False
        while not self._is_over():
            if self._waits_for_hours():
                continue
            connection = self.connect()
            try:
                connection.activate()
                _log.info(
                    "connected",
                    superlink=self.config.federation.superlink,
                    node_id=connection.node_id,
                    version=package_version(),
                    components=list(COMPONENTS),
                )
                self.watcher.connected()
                failures, ever = 0, True
                self._answer_until_over(connection)
            except JournalBroken:
                raise
            except LocalFault as fault:
                if not ever:
                    raise
                _log.error("this machine or its network is at fault", reason=str(fault))
                self.watcher.away(str(fault))
                self._wait(_FAULT_S)
            except CovenantError as trouble:
                _log.warning("not connected; trying again", reason=str(trouble), attempt=failures + 1)
                self.watcher.away(str(trouble))
                self._give_up_if_late(trouble, time.monotonic() - began, ever=ever)
                self._wait(Backoff().wait_s(failures, self._chance()))
                failures += 1
            finally:
                connection.close()

    def _is_over(self) -> bool:
        """Whether to leave: told to drain, and nothing is in hand, or what is in hand does not go on."""
        if not self.draining.begun:
            return False
        if not self._told_drain:
            self._told_drain = True
            _log.info("draining", in_hand=not self.draining.done)
            self.watcher.draining()
        done = self.draining.done and not self._unsent
        if self._is_late and not done:
            _log.warning("leaving with an attempt in hand: its next message did not come")
        return done or self._is_late

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._last_message > self.drain_within_s

    def _is_out(self) -> bool:
        """Whether this site is not to be at the SuperLink now."""
        return self.is_away() and (not self._unsent or self._is_late)

    def _wait(self, seconds: float) -> None:
        """Wait; when told to drain, no longer than it takes to notice."""
        if self.draining.begun:
            time.sleep(min(seconds, _NOTICE_S))
        else:
            self.draining.wait(seconds)

    def _waits_for_hours(self) -> bool:
        """Wait until the site takes part again; whether there was anything to wait for."""
        if not self._is_out():
            return False
        _log.info("outside this site's hours; not connected", window=_window_words(self.config))
        while self._is_out() and not self._is_over():
            self._wait(self.config.run.idle_poll)
        return True

    def _give_up_if_late(self, trouble: Exception, waited_s: float, *, ever: bool) -> None:
        if ever or self.give_up_after_s is None or waited_s < self.give_up_after_s:
            return
        raise Unreachable(
            f"{trouble}; gave up after {waited_s:.0f} s. Check `federation.superlink` ({self.config.federation.superlink}) and "
            f"`federation.ca`, and that the centre has registered site {self.config.site!r}"
        )

    def _answer_until_over(self, connection: FleetConnection) -> None:
        cadence = Cadence(busy_s=self.config.run.busy_poll, idle_s=self.config.run.idle_poll)
        self._contexts.clear()
        lost = threading.Event()
        beating = threading.Thread(target=self._keep_beating, args=(connection, lost), daemon=True)
        beating.start()
        last, crowd = time.monotonic() - cadence.idle_s / 0.05, Crowd()
        try:
            while not self._is_over():
                if lost.is_set():
                    raise UnknownSiteError("the SuperLink forgot this site")
                if self._is_out():
                    break
                began = time.monotonic()
                if self._answer_next(connection):
                    last = time.monotonic()
                else:
                    crowd.heard(time.monotonic() - began)
                self._wait(cadence.wait_s(time.monotonic() - last, self._chance(), crowd.late_s))
            connection.deactivate()
        finally:
            lost.set()

    def _keep_beating(self, connection: FleetConnection, lost: threading.Event) -> None:
        while not lost.wait(_HEARTBEAT_S):
            try:
                connection.heartbeat()
                self.watcher.contact()
            except UnknownSiteError:
                lost.set()
            except (CovenantError, RuntimeError) as trouble:
                _log.warning("heartbeat failed", reason=str(trouble))

    def _answer_next(self, connection: FleetConnection) -> bool:
        """Answer one message if there is one; says whether there was."""
        steps = self.draining.steps
        try:
            message = connection.pull()
            if message is None:
                return False
            self.watcher.began()
            self._answer(connection, message)
            connection.confirm(message)
        except RunOverError as over:
            _log.info("message dropped", reason=str(over))
        except CovenantError:
            self._unsent |= self.draining.steps != steps
            raise
        finally:
            if self.draining.steps != steps:
                self._last_message = time.monotonic()
        self._unsent = False
        if not self.draining.begun:
            self._last_message = time.monotonic()
        return True

    def _answer(self, connection: FleetConnection, message: Message) -> None:
        run = message.metadata.run_id
        try:
            context = self._context(connection, run)
        except BundleRefused as refusal:
            _log.error("run refused", flower_run=run, reason=str(refusal))
            connection.push(Message(Error(ErrorCode.INVALID_FAB, str(refusal)), reply_to=message))
            return
        connection.push(self._computed(message, context))

    def _computed(self, message: Message, context: Context) -> Message:
        """The app's reply, or an error in its place: one bad message must not end the agent."""
        try:
            return self.app(message=message, context=context)
        except JournalBroken:
            raise
        except CodecError as error:
            _log.warning("not a request", flower_run=context.run_id, reason=str(error))
            reason = str(error)
        except Exception:  # whatever an app raises  # noqa: BLE001
            _log.exception("the app failed", flower_run=context.run_id)
            reason = "the app failed; the site's log says why"  # its words might tell something of a row
        return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason), reply_to=message)

    def _context(self, connection: FleetConnection, run: int) -> Context:
        """The Flower context of a run whose FAB this site allows; raises `BundleRefused` for any other."""
        if run not in self._contexts:
            bundle = connection.bundle(run)
            allow = self.config.allow
            check_bundle(bundle.content, bundle.named, apps=allow.apps, pinned=allow.fab_sha256)
            self._contexts[run] = Context(
                run_id=run,
                node_id=connection.node_id,
                node_config=dict(self.node_config),
                state=RecordDict(),
                run_config={},
                series_id=bundle.series,
            )
        return self._contexts[run]


def _window_words(config: SiteConfig) -> str:
    return "always" if config.run.window is None else config.run.window.words
