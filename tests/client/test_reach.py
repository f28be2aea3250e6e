"""A site behind a proxy reaches its centre through it, and whatever the proxy does wrong is told with its fix."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.fleet import reach
from client.fleet.probe import look
from client.fleet.reach import connected
from strategies.errors import Unreachable
from tests.tls_for_tests import certificates

FAR = ("fl.example", 9092)


@contextmanager
def proxy(answer: Callable[[socket.socket], object]) -> Iterator[str]:
    """A proxy that reads one request's head, and then does as `answer` says."""

    def serve() -> None:
        caller, _ = listening.accept()
        with caller:
            while not asked.endswith(b"\r\n\r\n"):
                asked.extend(caller.recv(4096))
            answer(caller)

    asked = bytearray()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()
    assert asked.startswith(b"CONNECT fl.example:9092 HTTP/1.1\r\n")


def in_pieces(caller: socket.socket) -> None:
    """The head of the answer in two segments, and the server's first bytes with its end."""
    caller.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    caller.sendall(b"HTTP/1.1 200 Connection established\r\nVia: 1.1 ")
    threading.Event().wait(0.05)
    caller.sendall(b"gate\r\n\r\nhello")


def test_what_follows_the_proxys_head_is_the_servers_however_it_comes() -> None:
    with proxy(in_pieces) as url, connected(*FAR, url) as tunnel:
        said = b""
        while more := tunnel.recv(100):
            said += more
        assert said == b"hello"


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (
            b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n",
            r"does not let .* through to fl\.example:9092",
        ),
        (b"HTTP/1.1 502 upstream said 200 times no\r\n\r\n", "does not let this machine through"),
        (b"HTTP/1.1 200 Connec", "it closed the connection"),
    ],
)
def test_a_proxy_that_refuses_is_told_as_such(said: bytes, words: str) -> None:
    with proxy(lambda caller: caller.sendall(said)) as url, pytest.raises(Unreachable, match=words):
        connected(*FAR, url)


def test_a_proxy_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "WITHIN_S", 0.05)
    ca = (certificates(tmp_path, datetime.now(UTC)) / "ca.crt").read_bytes()
    over = threading.Event()
    with proxy(lambda _caller: over.wait()) as url:
        with pytest.raises(Unreachable, match=r"said nothing within .*check `federation\.proxy`"):
            look("fl.example:9092", ca, proxy=url, clock=lambda: datetime.now(UTC))
        over.set()


def test_loopback_is_never_proxied() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        with connected("127.0.0.1", port, "http://nowhere.invalid:1") as made:
            assert made.getpeername()[1] == port
