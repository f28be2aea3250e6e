"""A network that can be cut: a door on loopback before another port, whose connections end and which is closed while it is cut."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self

_CHUNK = 65536


class CutNetwork:
    """Forwards connections to a port of this machine until it is cut, and again once it is mended. `passed` counts them."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.passed = 0
        self._open: set[socket.socket] = set()
        self._turn = threading.Lock()
        self._door: socket.socket | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.mend()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cut()

    def mend(self) -> None:
        """Open the door again."""
        door = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self._door = door
        threading.Thread(target=self._let_in, args=(door,), daemon=True).start()

    def cut(self) -> None:
        """Close the door, and every connection that went through it."""
        door, self._door = self._door, None
        if door is not None:
            with contextlib.suppress(OSError):
                door.shutdown(socket.SHUT_RDWR)
            door.close()
        with self._turn:
            left, self._open = self._open, set()
        for each in left:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _let_in(self, door: socket.socket) -> None:
        while self._door is door:
            try:
                come, _ = door.accept()
                go = socket.create_connection(("127.0.0.1", self.target), timeout=5)
            except OSError:
                continue
            go.settimeout(None)
            with self._turn:
                self._open |= {come, go}
                self.passed += 1
            for pair in ((come, go), (go, come)):
                threading.Thread(target=self._pass_on, args=pair, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(_CHUNK):
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        with self._turn:
            self._open -= {source, target}
