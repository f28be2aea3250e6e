"""Servers that alerts go to: a webhook over TLS and a real SMTP server; and coordinators with such channels."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, LoginPassword, Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.deploy.monitoring.alerts.channels import Alerts
from coordinator.deploy.monitoring.alerts.outbox import Alert, put_in
from protos.passphrases import PassphraseSource
from tests.tls_for_tests import certificates

SECRET = "a secret that both sides have"
ALERT = Alert(
    about="alarm-" + "ab" * 8,
    title="Drift of a model\nat a place",
    facts={"moved": ["score"]},
    lines=("It moved.",),
)


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return certificates(tmp_path_factory.mktemp("tls"), datetime.now(UTC) - timedelta(hours=1))


@pytest.fixture
def secret(tmp_path: Path) -> PassphraseSource:
    path = tmp_path / "secret"
    path.write_text(f"{SECRET}\n")
    path.chmod(0o600)
    return PassphraseSource(file=path)


@dataclass
class Hook:
    """A server that keeps what is posted to it, and answers `answers` in turn, and then 204."""

    url: str = ""
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)


@contextmanager
def hooked(tls: Path) -> Iterator[Hook]:
    hook = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            hook.got.append((dict(self.headers), self.rfile.read(int(self.headers["Content-Length"]))))
            code = hook.answers.pop(0) if hook.answers else 204
            self.send_response(code)
            if code == 302:
                self.send_header("Location", hook.url)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tls / "superlink.crt", tls / "superlink.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    hook.url = f"https://localhost:{server.server_address[1]}/alerts"
    try:
        yield hook
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Box:
    """What an SMTP server was given; it takes only whoever encrypts and signs in."""

    port: int = 0
    got: list[tuple[str, tuple[str, ...], Message]] = field(default_factory=list)
    refuses: list[str] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Session, envelope: Envelope) -> str:
        if self.refuses:
            return self.refuses.pop(0)
        assert isinstance(envelope.content, bytes)
        message = message_from_bytes(envelope.content, policy=default)
        self.got.append((envelope.mail_from or "", tuple(envelope.rcpt_tos), message))
        return "250 OK"


@contextmanager
def mailed(tls: Path | None) -> Iterator[Box]:
    """Without certificates it offers no STARTTLS."""
    box, told = Box(), {}

    def signs_in(
        _server: Any, _session: Session, _envelope: Envelope, _mechanism: str, data: Any
    ) -> AuthResult:
        right = isinstance(data, LoginPassword) and (data.login, data.password) == (
            b"covenant",
            SECRET.encode(),
        )
        return AuthResult(success=right)

    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(tls / "superlink.crt", tls / "superlink.key")
        told = {
            "tls_context": context,
            "require_starttls": True,
            "authenticator": signs_in,
            "auth_required": True,
        }
    with socket.create_server(("127.0.0.1", 0)) as free:
        box.port = free.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=box.port, ready_timeout=30, **told)
    controller.start()
    try:
        yield box
    finally:
        controller.stop()


def with_channels(centre: Centre, channels: Alerts) -> Centre:
    """At a moment that stays."""
    config, now = centre.settings.config.model_copy(update={"alerts": channels}), centre.clock()
    return replace(centre, settings=replace(centre.settings, config=config), clock=lambda: now)


def put(centre: Centre, alert: Alert = ALERT) -> None:
    with writing(centre.engine, "alerting") as session:
        put_in(session, centre.settings.config.alerts, alert, centre.clock())


def later(centre: Centre, hours: float = 7) -> Centre:
    """After the longest wait."""
    now = centre.clock() + timedelta(hours=hours)
    return replace(centre, clock=lambda: now)
