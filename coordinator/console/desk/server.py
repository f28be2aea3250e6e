"""The desk's server: HTTP on 127.0.0.1 and nowhere else, in this process, until Ctrl-C."""

from __future__ import annotations

import socket
import tempfile
import webbrowser
from collections.abc import Iterator
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Final

import uvicorn

from coordinator.console.connections import Bounded
from coordinator.console.desk.app import create_desk
from coordinator.console.desk.session import Session
from strategies.errors import UsageError

HOST: Final = "127.0.0.1"
_MOST_CONNECTIONS: Final = 32
_END_WITHIN_S: Final = 3


class AtDesk(Bounded):
    """One connection. All users of the machine have one address: those who are not the officer have half of all, and whoever of them has waited longest makes room."""

    most_an_address = _MOST_CONNECTIONS
    most_strangers = _MOST_CONNECTIONS // 2


@contextmanager
def listening(port: int) -> Iterator[socket.socket]:
    """A socket on loopback. Raises UsageError for a port that is taken."""
    try:
        found = socket.create_server((HOST, port))
    except OSError as error:
        raise UsageError(
            f"the desk cannot listen on {HOST}:{port}: {error.strerror}. Stop what uses that port, or name another with --port"
        ) from error
    with found:
        yield found


def server_of(session: Session) -> uvicorn.Server:
    """What answers, once it is run with the socket that listens."""
    server = uvicorn.Server(
        uvicorn.Config(
            create_desk(session, lambda: setattr(server, "should_exit", True)),
            loop="asyncio",
            http=AtDesk,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_graceful_shutdown=_END_WITHIN_S,
        )
    )
    return server


@contextmanager
def opened(address: str) -> Iterator[None]:
    """Open the browser at `address` by a file that only this user reads: a browser's arguments are read by everybody on the machine."""
    with tempfile.TemporaryDirectory(prefix="covenant-desk-") as folder:
        page = Path(folder) / "desk.html"
        page.touch(0o600)
        page.write_text(f'<!doctype html><meta http-equiv="refresh" content="0;url={escape(address)}">')
        webbrowser.open(page.as_uri())
        yield
