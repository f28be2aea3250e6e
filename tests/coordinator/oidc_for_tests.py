"""A real OpenID provider behind TLS on loopback, and one that answers whatever a test wants."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import oidc_provider_mock
import werkzeug.serving

from coordinator.control_tls import ControlFiles


@contextmanager
def provider(files: ControlFiles, port: int) -> Iterator[str]:
    """The provider's issuer, while it runs: it signs whoever types a subject in."""
    app = oidc_provider_mock.app(require_nonce=True)
    server = werkzeug.serving.make_server("localhost", port, app, threaded=True, ssl_context=_context(files))
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"https://localhost:{port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


@dataclass
class Answers:
    """What paths answer: a status and a body, JSON where it is no bytes; and what was sent to each."""

    issuer: str = ""
    given: dict[str, tuple[int, Any]] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str], bytes]] = field(default_factory=list)

    def metadata(self, **changed: object) -> None:
        """Describe a provider of these paths."""
        told = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "jwks_uri": f"{self.issuer}/keys",
            **changed,
        }
        self.given["/.well-known/openid-configuration"] = 200, told


@contextmanager
def answering(files: ControlFiles) -> Iterator[Answers]:
    """Something on loopback that answers over TLS."""
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("content-length", 0))
            answers.asked.append((self.path, dict(self.headers), self.rfile.read(length)))
            status, told = answers.given.get(self.path, (404, {}))
            body = told if isinstance(told, bytes) else json.dumps(told).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", f"{answers.issuer}/elsewhere")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.socket = _context(files).wrap_socket(server.socket, server_side=True)
    answers.issuer = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield answers
    finally:
        server.shutdown()
        server.server_close()
        thread.join(5)


def _context(files: ControlFiles) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    return context
