"""One TCP connection to a server, through the site's proxy where it has one; loopback is never proxied. What fails on the way is told with its fix."""

from __future__ import annotations

import socket
import time
from typing import Final
from urllib.parse import urlsplit

from protos.names import is_loopback
from strategies.errors import Unreachable

WITHIN_S: Final = 10.0
_MOST_BYTES: Final = 8192
_HEAD_ENDS: Final = b"\r\n\r\n"


def connected(host: str, port: int, proxy: str | None) -> socket.socket:
    """A connection to `host`, whose reads and writes wait for `WITHIN_S` at most. Raises Unreachable, naming the step that failed."""
    if proxy is not None and not is_loopback(host):
        return _through(proxy, host, port)
    try:
        return socket.create_connection((host, port), timeout=WITHIN_S)
    except socket.gaierror as error:
        raise Unreachable(
            f"the name {host} cannot be resolved ({error.strerror}); check the address (`federation.superlink`, or the door in the invitation), and this machine's DNS with `getent hosts {host}`"
        ) from error
    except TimeoutError as error:
        raise Unreachable(
            f"nothing answers at {host}:{port} within {WITHIN_S:.0f} s: a firewall drops the connection. Ask the network team to open TCP {port} outwards"
        ) from error
    except OSError as error:
        raise Unreachable(
            f"nothing listens at {host}:{port} ({error.strerror}); ask the centre whether what should answer there runs, and check the port"
        ) from error


def _through(proxy: str, host: str, port: int) -> socket.socket:
    """A tunnel of the proxy's (CONNECT, RFC 9110 section 9.3.6)."""
    at = urlsplit(proxy)
    try:
        made = socket.create_connection((at.hostname or "", at.port or 0), timeout=WITHIN_S)
    except OSError as error:
        raise Unreachable(f"the proxy {proxy} does not answer ({error}); check `federation.proxy`") from error
    try:
        target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        made.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        first = _head(made).split(b"\r\n", 1)[0].decode("latin-1")
    except OSError as error:
        made.close()
        raise Unreachable(
            f"the proxy {proxy} ended the connection to {host}:{port}, or said nothing within {WITHIN_S:.0f} s ({error}); check `federation.proxy`"
        ) from error
    if first.split(" ")[1:2] != ["200"]:
        made.close()
        raise Unreachable(
            f"the proxy {proxy} does not let this machine through to {host}:{port}: {first[:100]!r}. Ask the network team"
        )
    return made


def _head(tunnel: socket.socket) -> bytes:
    """The head of the proxy's answer, to its last byte: what follows is the server's. Raises OSError."""
    ends, head = time.monotonic() + WITHIN_S, b""
    while not head.endswith(_HEAD_ENDS) and len(head) < _MOST_BYTES:
        tunnel.settimeout(max(ends - time.monotonic(), 0.001))  # of all that comes, not of each piece
        if not (more := tunnel.recv(1)):
            raise ConnectionAbortedError("it closed the connection")
        head += more
    tunnel.settimeout(WITHIN_S)
    return head
