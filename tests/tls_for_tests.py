"""A server that answers every request over TLS with one status and one clock, with certificates of whatever authority and dates."""

from __future__ import annotations

import re
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from email.utils import format_datetime
from pathlib import Path

from coordinator.tls import make_transport_certificates

HOSTS = ("localhost", "127.0.0.1")


def certificates(folder: Path, now: datetime, federation: str = "demo") -> Path:
    """An authority and a server's certificate, good from `now` on."""
    make_transport_certificates(folder, federation=federation, hosts=HOSTS, now=now)
    return folder


def _read_request(tls: ssl.SSLSocket) -> bool:
    """All of it: a connection that is closed before loses its answer, too."""
    heard = b""
    while b"\r\n\r\n" not in heard and (more := tls.recv(65536)):
        heard += more
    head, _, body = heard.partition(b"\r\n\r\n")
    length = re.search(rb"(?i)content-length: *([0-9]+)", head)
    missing = int(length[1]) - len(body) if length else 0
    while missing > 0 and (more := tls.recv(65536)):
        missing -= len(more)
    return bool(head)


@contextmanager
def answering(folder: Path, clock: datetime, status: str = "404 Not Found") -> Iterator[str]:
    """host:port of a server with the certificates in `folder`, whose clock stands at `clock`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "superlink.crt", folder / "superlink.key")
    said = f"HTTP/1.1 {status}\r\nDate: {format_datetime(clock, usegmt=True)}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            while True:
                try:
                    raw, _ = listening.accept()
                except OSError:
                    return
                with suppress(OSError), context.wrap_socket(raw, server_side=True) as tls:
                    tls.settimeout(5)
                    if _read_request(tls):
                        tls.sendall(said.encode())
                        tls.settimeout(0.5)
                        while tls.recv(
                            65536
                        ):  # what is closed upon unread bytes is cut off before it is read
                            pass

        serving = threading.Thread(target=serve, daemon=True)
        serving.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
