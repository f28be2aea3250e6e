"""The process of the scoring service: HTTP on an event loop, gRPC on threads, a follower of the state, and an end that drops no request.

1. It is refused before it listens: without anybody who may ask, or in clear on an address that others reach.
2. Told to stop (SIGTERM, SIGINT), it takes no new connections, answers what is under way, flushes the decision log, and ends.
3. When the decision log fails it ends by itself, with an error.
4. Connections are bounded, so one that asks nothing is closed: whoever holds them open without a token would keep everybody else out.
"""

from __future__ import annotations

import asyncio
import gc
import ipaddress
import signal
import ssl
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc
import structlog
import uvicorn
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from coordinator.deploy.scoring.access import Buckets, Door, Limits
from coordinator.deploy.scoring.app import CERTIFICATE, create_app
from coordinator.deploy.scoring.grpc_service import InferenceService
from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES
from coordinator.deploy.scoring.reload import Follower
from coordinator.deploy.scoring.scorer import Scorer
from strategies.errors import CovenantError, DiskError, UsageError

_MOST_CONNECTIONS: Final = 200
"""Each may hold a body of the largest size."""
_HEAD_S: Final = 10.0
"""Within which a connection sends the head of its next request: those that never do would fill the places of all others."""
_CALLS: Final = 256
"""Threads of gRPC calls: more than the large requests that may wait, which so leave some to small ones."""
_DRAIN_S: Final = 10
_COUNT_EVERY_S: Final = 1.0
_FLUSH_EVERY_S: Final = 1.0
_REFRESH_EVERY_S: Final = 1.0
_SWITCH_S: Final = 0.0005
_log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """The server's certificate and key in PEM, and the authority whose client certificates it asks for, if it does."""

    certificate: Path
    key: Path
    client_ca: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """Where the service listens and who may ask. `grpc_port` None serves HTTP alone."""

    host: str = "127.0.0.1"
    port: int = 8080
    grpc_port: int | None = None
    tls: Tls | None = None
    callers: Path | None = None
    no_auth_on_loopback: bool = False
    limits: Limits = field(default_factory=Limits)

    def check(self) -> None:
        """Raise UsageError for what would let in anybody, or show tokens to whoever listens on the way."""
        loopback = is_loopback(self.host)
        certificates = self.tls is not None and self.tls.client_ca is not None
        if self.callers is None and not certificates and not (loopback and self.no_auth_on_loopback):
            raise UsageError(
                "nobody is named who may ask this service: give --callers (tokens) or --client-ca (certificates), "
                "or, listening on loopback, --no-auth-on-loopback"
            )
        if self.no_auth_on_loopback and (self.callers is not None or certificates):
            raise UsageError("--no-auth-on-loopback contradicts --callers and --client-ca; leave one out")
        if self.tls is None and not loopback:
            raise UsageError(
                f"{self.host} can be reached from elsewhere, so the service needs --tls-certificate and --tls-key there"
            )

    def door(self) -> Door:
        """Who may ask. Raises UsageError when the callers cannot be read."""
        certificates = self.tls is not None and self.tls.client_ca is not None
        return Door(self.callers, Buckets(self.limits, time.monotonic), certificates=certificates)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def serve(scorer: Scorer, listening: Listening, follower: Follower | None = None) -> None:
    """Serve until told to stop. Raises UsageError for settings that are refused, CovenantError when it cannot listen, DiskError when its log fails."""
    listening.check()
    # Requests are scored on threads; one that computes in Python must not keep another waiting for 5 ms.
    sys.setswitchinterval(_SWITCH_S)
    with threadpool_limits(limits=1, user_api="blas"):
        asyncio.run(_Process(scorer, listening, listening.door(), follower).run())
    if scorer.failed is not None:
        raise scorer.failed


class _Process:
    def __init__(self, scorer: Scorer, listening: Listening, door: Door, follower: Follower | None) -> None:
        self._scorer, self._listening, self._door, self._follower = scorer, listening, door, follower
        self._ending = asyncio.Event()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for each in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(each, self._ending.set)
        if self._follower is not None:
            await self._follower.look()
        # Before the first request: a version is told of in windows in which it was seen, and the first may end before the first look by itself.
        await asyncio.to_thread(self._scorer.count_windows)
        # What was imported and loaded stays: looking through all of it for cycles takes tens of milliseconds, in which nobody is answered.
        gc.collect()
        gc.freeze()
        calls = self._start_grpc()
        http = _Server(_config(self._scorer, self._listening, self._door))
        serving = asyncio.create_task(http.serve())
        tasks = [asyncio.create_task(each) for each in self._chores()]
        ended = asyncio.create_task(self._ending.wait())
        await asyncio.wait((serving, ended, *tasks), return_when=asyncio.FIRST_COMPLETED)
        http.should_exit = True
        if calls is not None:
            await asyncio.to_thread(calls.stop(_DRAIN_S).wait)
        with suppress(SystemExit):
            await serving
        for task in (*tasks, ended):
            task.cancel()
        ends = await asyncio.gather(*tasks, ended, return_exceptions=True)
        await self._scorer.close()
        for end in ends:
            if isinstance(
                end, Exception
            ):  # a defect of this service, which must not look like an end in order
                raise end
        if not http.started and not self._ending.is_set():
            raise CovenantError(
                f"the scoring service cannot listen on {self._listening.host}:{self._listening.port}; stop what uses that port, or name another"
            )

    def _start_grpc(self) -> Any:  # noqa: ANN401  (gRPC's own)
        listening = self._listening
        if listening.grpc_port is None:
            return None
        server = grpc.server(
            ThreadPoolExecutor(_CALLS, thread_name_prefix="call"),
            options=_OPTIONS,
            maximum_concurrent_rpcs=4 * _MOST_CONNECTIONS,
        )
        server.add_generic_rpc_handlers((InferenceService(self._scorer, self._door).handler(),))
        host = f"[{listening.host}]" if ":" in listening.host else listening.host
        address = f"{host}:{listening.grpc_port}"
        try:
            if listening.tls is None:
                server.add_insecure_port(address)
            else:
                server.add_secure_port(address, _credentials(listening.tls))
        except RuntimeError as error:
            raise CovenantError(
                f"the scoring service cannot listen on {address}; stop what uses that port, or name another"
            ) from error
        server.start()
        return server

    def _chores(self) -> Iterator[Any]:
        yield self._every(_FLUSH_EVERY_S, self._flush)
        yield self._every(_COUNT_EVERY_S, self._scorer.count_windows)
        yield self._every(_REFRESH_EVERY_S, self._door.refresh)
        if self._follower is not None:
            yield self._follower.follow()

    async def _every(self, seconds: float, act: Callable[[], None]) -> None:
        while self._scorer.failed is None:
            await asyncio.sleep(seconds)
            await asyncio.to_thread(act)

    def _flush(self) -> None:
        try:
            self._scorer.flush()
        except DiskError as error:
            self._scorer.failed = error


class _Server(uvicorn.Server):
    """Leaves signals to the process, which has a log to flush after the last answer."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _guarding(protocol: Any) -> Any:  # noqa: ANN401  (whichever of its protocols uvicorn found installed)
    """The protocol, telling the application the common name in the client's certificate, which TLS has checked; who sends no request is let go."""

    class Guarded(protocol):  # type: ignore[misc]
        app: Any

        def connection_made(self, transport: Any) -> None:  # noqa: ANN401
            super().connection_made(transport)
            secured = transport.get_extra_info("ssl_object")
            name, inner = _common_name(secured.getpeercert() if secured else None), self.app
            self._await_head()

            async def app(scope: Any, receive: Any, send: Any) -> None:  # noqa: ANN401
                self._silence.cancel()
                scope[CERTIFICATE] = name
                try:
                    await inner(scope, receive, send)
                finally:
                    self._await_head()

            self.app = app

        def connection_lost(self, exc: Exception | None) -> None:
            self._silence.cancel()
            super().connection_lost(exc)

        def _await_head(self) -> None:
            self._silence = asyncio.get_running_loop().call_later(_HEAD_S, self.transport.close)

    return Guarded


def _common_name(certificate: Any) -> str | None:  # noqa: ANN401  (as `ssl` gives it)
    subject = (certificate or {}).get("subject", ())
    return next((str(value) for part in subject for key, value in part if key == "commonName"), None)


def _config(scorer: Scorer, listening: Listening, door: Door) -> uvicorn.Config:
    tls = listening.tls
    secured: dict[str, Any] = {}
    if tls is not None:
        secured = {"ssl_certfile": str(tls.certificate), "ssl_keyfile": str(tls.key)}
        if tls.client_ca is not None:
            secured |= {"ssl_ca_certs": str(tls.client_ca), "ssl_cert_reqs": ssl.CERT_REQUIRED}
    return uvicorn.Config(
        create_app(scorer, door),
        host=listening.host,
        port=listening.port,
        http=_guarding(AutoHTTPProtocol),
        loop="asyncio",
        lifespan="off",
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS,
        timeout_graceful_shutdown=_DRAIN_S,
        **secured,
    )


def _credentials(tls: Tls) -> grpc.ServerCredentials:
    try:
        ca = None if tls.client_ca is None else tls.client_ca.read_bytes()
        pair = (tls.key.read_bytes(), tls.certificate.read_bytes())
    except OSError as error:
        raise UsageError(f"{error.filename} cannot be read: {error.strerror}") from error
    return grpc.ssl_server_credentials([pair], root_certificates=ca, require_client_auth=ca is not None)


_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_BODY_BYTES),
    ("grpc.max_send_message_length", MAX_BODY_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.so_reuseport", 0),  # two services on one port would share the calls
    ("grpc.max_allowed_incoming_connections", _MOST_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.max_connection_idle_ms", 60_000),  # clients connect again by themselves
)
