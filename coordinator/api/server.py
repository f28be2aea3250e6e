"""The control API's server: mutual TLS under its own authority, bounded in everything, ended with the coordinator.

1. It listens where `control` in covenant.yaml says, on loopback unless somebody decided otherwise; a port that is taken is refused.
2. Nobody without a certificate of the control authority gets as far as a method; that opens no method yet (`door`).
3. Messages have 4 MiB at most. A larger one is refused before it is read, and changes nothing.
4. Only the coordinator that leads serves it. What is under way when its lease is lost is not written (`coordinator.office.requests`).
5. Connections are bounded, so that whoever only connects does not take this process the files that it needs; so is the time to prove who calls.
6. Proxies of the environment are not looked at: a server needs none, and the client turns them off.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Self

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health, health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from coordinator.api.deployments import Deployments
from coordinator.api.door import MOST_STREAMS, Call, Door, Function
from coordinator.api.halts import Halts
from coordinator.api.identity import CurrentMembers, Identity
from coordinator.api.ledger import Accounts
from coordinator.api.log import Log
from coordinator.api.loop import Loop
from coordinator.api.models import Models
from coordinator.api.monitors import Monitors
from coordinator.api.plans import Plans
from coordinator.api.policies import Policies
from coordinator.api.runs import Runs
from coordinator.bootstrap import Centre
from coordinator.control_tls import control_files
from protos import control_pb2, deployments_pb2, governance_pb2, loop_pb2, monitors_pb2, policy_pb2
from strategies.errors import CovenantError, DiskError, UsageError

MOST_MESSAGE_BYTES: Final = 4 << 20
_WORKERS: Final = MOST_STREAMS + 64
_MOST_CALLS: Final = 4 * _WORKERS
MOST_CONNECTIONS: Final = 200
_END_WITHIN_S: Final = 2.0
_log = structlog.get_logger(__name__)

_FILES: Final[Sequence[Any]] = (
    control_pb2,
    deployments_pb2,
    monitors_pb2,
    loop_pb2,
    governance_pb2,
    policy_pb2,
    health_pb2,
    reflection_pb2,
)
SERVICES: Final[Sequence[ServiceDescriptor]] = [
    service for file in _FILES for service in file.DESCRIPTOR.services_by_name.values()
]
"""All that is served."""


@dataclass
class ControlServer:
    """The server of a coordinator's control API. Use as a context manager."""

    centre: Centre
    workers: int = _WORKERS
    _closing: threading.Event = field(default_factory=threading.Event)
    _server: grpc.Server | None = None
    _door: Door | None = None

    @property
    def failed(self) -> DiskError | None:
        """The disk's failure that a call met, after which this process must end."""
        return None if self._door is None else self._door.failed

    def __enter__(self) -> Self:
        """Listen. Raises `CovenantError` where that cannot be."""
        self.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        """End."""
        self.stop()

    def start(self) -> None:
        """Listen, and answer from now on. Raises `CovenantError` where that cannot be."""
        section = self.centre.settings.config.control
        if section is None:
            raise UsageError("covenant.yaml has no section `control`, so there is no control API; add one")
        door = self._door = Door(
            self.centre, Identity(self.centre, CurrentMembers(self.centre.settings)), self._closing
        )
        server = grpc.server(
            ThreadPoolExecutor(self.workers, thread_name_prefix="control"),
            handlers=list(door.handlers(SERVICES, {**functions_of(self.centre), **_machinery()})),
            options=_OPTIONS,
            maximum_concurrent_rpcs=_MOST_CALLS,
        )
        address = f"{section.host}:{section.port}"
        try:
            server.add_secure_port(address, self._credentials())
        except RuntimeError as error:
            raise CovenantError(
                f"the control API cannot listen on {address}. Stop what uses that port, or set another `control.port` in covenant.yaml"
            ) from error
        server.start()
        self._server = server
        _log.info("control API", address=address)

    def stop(self) -> None:
        """End all streams, let short calls end, and listen no more."""
        self._closing.set()
        if self._server is not None:
            self._server.stop(_END_WITHIN_S).wait()
            self._server = None

    def cut(self) -> None:
        """End everything at once, and wait for nothing: this process leads no longer."""
        self._closing.set()
        if (server := self._server) is not None:
            server.stop(None)

    def _credentials(self) -> grpc.ServerCredentials:
        files = control_files(self.centre.settings, self.centre.clock())
        return grpc.ssl_server_credentials(
            [(files.key.read_bytes(), files.certificate.read_bytes())],
            root_certificates=files.ca.read_bytes(),
            require_client_auth=True,
        )


_OPTIONS: Final[Sequence[tuple[str, int]]] = (
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MOST_MESSAGE_BYTES),
    ("grpc.max_metadata_size", 16 << 10),
    ("grpc.so_reuseport", 0),  # two servers on one port would share the calls
    ("grpc.max_concurrent_streams", 64),
    ("grpc.max_allowed_incoming_connections", MOST_CONNECTIONS),
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 20_000),
)


def functions_of(centre: Centre) -> Mapping[str, Function]:
    """What answers each method of Covenant's own services."""
    return {
        **Runs(centre).functions(),
        **Plans(centre).functions(),
        **Log(centre).functions(),
        **Accounts(centre).functions(),
        **Halts(centre).functions(),
        **Models(centre).functions(),
        **Policies(centre).functions(),
        **Deployments(centre).functions(),
        **Monitors(centre).functions(),
        **Loop(centre).functions(),
    }


def _machinery() -> Mapping[str, Function]:
    """Health and reflection, which gRPC's own packages answer; they come through the same door."""
    alive = health.HealthServicer()
    for service in SERVICES:
        alive.set(service.full_name, health_pb2.HealthCheckResponse.SERVING)
    names = [*(each.full_name for each in SERVICES)]
    mirror = reflection.ReflectionServicer(names)

    def check(request: Any, call: Call) -> Any:  # noqa: ANN401  (gRPC's own messages)
        return alive.Check(request, call.context)

    def watch(request: Any, call: Call) -> Any:  # noqa: ANN401
        """What `Watch` would tell: a server that answers serves until it ends."""
        told = None
        while True:
            now = alive.Check(request, call.context)
            if now != told:
                yield now
                told = now
            if not call.goes_on():
                return

    def reflect(requests: Any, call: Call) -> Any:  # noqa: ANN401
        return mirror.ServerReflectionInfo(requests, call.context)

    return {
        "grpc.health.v1.Health/Check": check,
        "grpc.health.v1.Health/Watch": watch,
        "grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": reflect,
    }
