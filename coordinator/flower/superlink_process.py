"""The SuperLink as a child process: Flower's own server, with the doors closed that its command leaves open.

Stock `flower-superlink` serves sites, operators and task executors on one port, and asks only sites for a key. Whoever reaches the
port could start a run, whose server app would execute at the centre, or claim the task of somebody else's run. Here

1. the control API asks for a bearer token,
2. handing out tasks asks for the executor's shared secret,
3. neither ever travels in argv or in the environment: both are read from files that only the owner can read,
4. what anybody sends is bounded before it is read, and what a site announces before it is kept (`bounded`, `objects`).

Run as `python -m coordinator.flower.superlink_process CONFIG.json`; the coordinator does.
"""

from __future__ import annotations

import hmac
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn
from fastapi import FastAPI
from flwr.common.constant import NOOP_ACCOUNT_NAME, NOOP_FLWR_AID
from flwr.supercore.app_utils import start_parent_process_monitor
from flwr.supercore.auth.typing import AccountAuthCredentials, AccountAuthLoginDetails, AccountInfo
from flwr.supercore.constant import FLWR_IN_MEMORY_DB_NAME
from flwr.supercore.routers.runtime.tracing import RuntimeTracingMiddleware
from flwr.superlink.auth_plugin import ControlAuthnPlugin
from flwr.superlink.cli.flower_superlink import SuperLinkLifespan
from flwr.superlink.config_loader import SuperLinkLifespanConfig
from flwr.superlink.main import create_app
from flwr.superlink.routers.control.middlewares import (
    ControlEventLogMiddleware,
    ControlLicenseMiddleware,
    ControlSensitiveResponseMiddleware,
)
from flwr.superlink.routers.fleet.middlewares import FleetEventLogMiddleware
from pydantic import BaseModel, ConfigDict, Field
from starlette.middleware import Middleware

from coordinator.flower.bounded import Bounded, OwnAnswers
from coordinator.flower.objects import TreeStore
from coordinator.flower.traffic import Counted
from strategies.errors import CovenantError

INERT_LAYERS: frozenset[object] = frozenset(
    {
        ControlEventLogMiddleware,  # logs control calls to a plugin; there is none
        ControlLicenseMiddleware,  # asks a licence plugin; there is none
        ControlSensitiveResponseMiddleware,  # forbids caching of interactive logins; there are none
        FleetEventLogMiddleware,  # logs fleet calls to a plugin; there is none
        RuntimeTracingMiddleware,  # exports traces; no exporter is configured
    }
)
_MIN_SECRET_BYTES = 32
_KEEP_ALIVE_S = 75
"""Longer than agents keep a connection that they do not use: the server that closes first cuts off a request on its way, and costs a handshake."""


class SuperLinkSettings(BaseModel):
    """What the child needs. Secrets are named by file, never by value."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    host: str
    port: int = Field(ge=1, le=65535)
    ca_file: Path
    certificate_file: Path
    key_file: Path
    control_token_file: Path
    executor_secret_file: Path
    traffic_file: Path
    """Where requests are counted."""
    parent_pid: int


class TokenAuthn(ControlAuthnPlugin):
    """Admits exactly the holder of one bearer token to the control API."""

    def __init__(self, token: bytes = b"") -> None:
        """`token` must have at least 32 bytes; an empty one admits nobody."""
        self._token = token

    def validate_tokens_in_metadata(
        self, metadata: Sequence[tuple[str, str | bytes]]
    ) -> tuple[bool, AccountInfo | None]:
        """Compare in constant time; no token, no account."""
        for _, value in metadata:
            given = value.encode() if isinstance(value, str) else value
            if len(self._token) >= _MIN_SECRET_BYTES and hmac.compare_digest(given, self._token):
                return True, AccountInfo(flwr_aid=NOOP_FLWR_AID, account_name=NOOP_ACCOUNT_NAME)
        return False, None

    def get_login_details(self) -> AccountAuthLoginDetails | None:
        """There is no interactive login."""
        return None

    def get_auth_tokens(self, device_code: str) -> AccountAuthCredentials | None:  # noqa: ARG002 (flwr's signature)
        """There is no interactive login."""
        return None

    def refresh_tokens(
        self,
        metadata: Sequence[tuple[str, str | bytes]],  # noqa: ARG002 (flwr's signature)
    ) -> tuple[Sequence[tuple[str, str | bytes]] | None, AccountInfo | None]:
        """Tokens are not refreshed; the coordinator makes a new one at each start."""
        return None, None


def serve(settings: SuperLinkSettings) -> None:
    """Serve until signalled, or until the coordinator is gone."""
    start_parent_process_monitor(settings.parent_pid)
    certificates = tuple(
        p.read_bytes() for p in (settings.ca_file, settings.certificate_file, settings.key_file)
    )
    config = SuperLinkLifespanConfig(
        control_address="",
        health_server_address=None,
        host=settings.host,
        port=settings.port,
        insecure=False,
        certificates=(certificates[0], certificates[1], certificates[2]),
        superexec_auth_secret=_secret(settings.executor_secret_file),
        authn_plugin=TokenAuthn(_secret(settings.control_token_file)),
        event_log_plugin=None,
        fleet_event_log_plugin=None,
        enable_event_log=False,
        artifact_provider=None,
        enable_supernode_auth=True,
        fleet_api_type="grpc-rere",
        fleet_api_address=None,
        simulation=False,
        ssl_ca_certfile=str(settings.ca_file),
        ssl_certfile=str(settings.certificate_file),
        ssl_keyfile=str(settings.key_file),
        database=FLWR_IN_MEMORY_DB_NAME,
        isolation="process",
        runtime_dependency_install=False,
    )
    uvicorn.run(
        Counted(
            Bounded(within_bounds(_without_inert_layers(create_app(config, SuperLinkLifespan)))),
            settings.traffic_file,
        ),
        host=settings.host,
        port=settings.port,
        ssl_certfile=str(settings.certificate_file),
        ssl_keyfile=str(settings.key_file),
        access_log=False,
        log_level="warning",
        # No proxy stands between: to look for one costs every request.
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=2,
    )


def within_bounds(app: FastAPI) -> FastAPI:
    """Have it keep objects by their trees, and judge what sites announce once it knows who they are."""
    store, states = TreeStore(), app.state.linkstate_factory
    states.objectstore_factory.store_instance = store
    states.state()._object_store = store  # noqa: SLF001 (made with the app, and flwr has no way to give it one)
    app.user_middleware.append(Middleware(OwnAnswers))  # the innermost
    return app


def _without_inert_layers(app: FastAPI) -> FastAPI:
    """Take off the middleware that does nothing here: it costs every request of every site more than its handler does.

    Only layers known to be inert without their plugin are taken; one that a new flwr brings stays on.
    """
    app.user_middleware = [layer for layer in app.user_middleware if layer.cls not in INERT_LAYERS]
    return app


def _secret(path: Path) -> bytes:
    secret = path.read_bytes()
    if len(secret) < _MIN_SECRET_BYTES:
        raise CovenantError(f"{path} holds {len(secret)} bytes; a secret needs at least {_MIN_SECRET_BYTES}")
    return secret


if __name__ == "__main__":
    serve(SuperLinkSettings.model_validate_json(Path(sys.argv[1]).read_bytes()))
