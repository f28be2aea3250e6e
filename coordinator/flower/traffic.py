"""What a SuperLink has answered since it started, counted by itself in a small file that others read while it runs.

1. One process writes, from one thread; each count is eight aligned bytes, which processors read and write whole.
2. Counts only grow. A SuperLink that starts again begins at nothing, as counters of Prometheus may.
3. Nothing of a request is kept: no site, no run, no body.
"""

from __future__ import annotations

import mmap
import struct
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Self

from strategies.errors import CovenantError

FILE: Final = "traffic"
OF_SITES: Final = "/v1/fleet/"
_POLL: Final = f"{OF_SITES}pull-messages"
_FIRST_ERROR: Final = 400
_COUNTS: Final = struct.Struct("=8Q")
_MODE: Final = 0o600
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Scope]]
Send = Callable[[Scope], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Counts since the SuperLink started: requests, those of them that asked for a message, and that were refused or failed; bytes of bodies, of all
    and of what sites sent and were sent; time from a request to the end of its answer, added up."""

    requests: int = 0
    polls: int = 0
    refused: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    site_bytes_in: int = 0
    site_bytes_out: int = 0
    microseconds: int = 0

    @classmethod
    def read(cls, home: Path) -> Self | None:
        """The counts of the SuperLink of the coordinator at `home`; None where none has counted. Raises `CovenantError` for counts that cannot be read."""
        try:
            data = file_in(home).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise CovenantError(
                f"what the SuperLink has counted cannot be read from {file_in(home)} ({error.strerror}); let the coordinator's user read it"
            ) from error
        if len(data) < _COUNTS.size:
            return None
        names = (each.name for each in fields(cls))
        return cls(**dict(zip(names, _COUNTS.unpack_from(data), strict=True)))


def file_in(home: Path) -> Path:
    """Where the SuperLink of the coordinator at `home` counts."""
    return home / "superlink" / FILE


class Counted:
    """An ASGI application whose requests are counted in `file`."""

    def __init__(self, app: Application, file: Path) -> None:
        """Begin at nothing. Raises OSError where the file cannot be written."""
        self._app = app
        file.unlink(missing_ok=True)  # whoever has the old one mapped keeps the old counts
        file.touch(mode=_MODE)
        file.write_bytes(bytes(_COUNTS.size))
        with file.open("r+b") as opened:
            self._counts = memoryview(mmap.mmap(opened.fileno(), _COUNTS.size)).cast("Q")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count one request; anything else that a server says passes."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        counts, began, sizes = self._counts, time.perf_counter(), [0, 0]
        status = 0

        async def received() -> Scope:
            message = await receive()
            sizes[0] += len(message.get("body", b""))
            return message

        async def sent(message: Scope) -> None:
            nonlocal status
            status = message.get("status", status)
            sizes[1] += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, received, sent)
        finally:
            of_site = scope["path"].startswith(OF_SITES)
            took_us = int(1e6 * (time.perf_counter() - began))
            refused = not 0 < status < _FIRST_ERROR
            added = (1, scope["path"] == _POLL, refused, *sizes, *(each * of_site for each in sizes), took_us)
            for place, value in enumerate(added):
                counts[place] += value
