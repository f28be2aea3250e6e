"""The enrolment door: one method over TLS for whoever has an invitation, on a port of its own.

1. It proves itself with the SuperLink's certificate, whose authority the invitation has. It asks for no certificate, and opens nothing else.
2. A connection has ten seconds for its call to come, head and body, and the call 16 KiB at most. Few are served at once and in a second; the
   others are told to wait.
3. What cannot be read is told so without a reason that repeats it: a token is in it.
"""

from __future__ import annotations

import asyncio
import errno
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import structlog
import uvicorn
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from coordinator.bootstrap import Centre
from coordinator.enrolment.invitations import InvitationBook
from protos.invitation import ENROLMENT_PATH, MOST_SUBMITTED_BYTES, DoorAnswer, Submission
from strategies.errors import CovenantError, DiskError, Refused, UsageError

_MOST_AT_ONCE: Final = 16
_MOST_A_SECOND: Final = 20
_MOST_CONNECTIONS: Final = 64
_COMES_WITHIN_S: Final = 10.0
_LASTS_S: Final = 30.0
_STARTS_WITHIN_S: Final = 10.0
_ENDS_WITHIN_S: Final = 3.0
_NOTICE_S: Final = 0.02
_OK, _TOO_LARGE, _BUSY, _BAD = 200, 413, 429, 400
_log = structlog.get_logger(__name__)


@dataclass
class EnrolmentDoor:
    """The door of a coordinator. Use as a context manager."""

    centre: Centre
    monotonic: Callable[[], float] = time.monotonic
    failed: DiskError | None = None
    """The disk's failure that a call met, after which this process must end."""
    _calls: deque[float] = field(default_factory=deque)
    _at_once: int = 0
    _server: uvicorn.Server | None = None
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        """Listen. Raises `CovenantError` where that cannot be."""
        section = self.centre.settings.config.enrolment
        if section is None:
            raise UsageError(
                "covenant.yaml has no section `enrolment`, so there is no enrolment door; add one"
            )
        link, address = self.centre.settings.superlink, f"{section.host}:{section.port}"
        try:
            listening = socket.create_server((section.host, section.port))
        except OSError as error:
            raise CovenantError(
                f"the enrolment door cannot listen on {address} ({error.strerror}). Stop what uses that port, or set another `enrolment.port` in covenant.yaml"
            ) from error
        self._server = server = uvicorn.Server(self._configuration(link.certificate_file, link.key_file))
        self._thread = threading.Thread(target=server.run, args=([_FewCallers(listening)],), daemon=True)
        self._thread.start()
        deadline = self.monotonic() + _STARTS_WITHIN_S
        while not server.started and self._thread.is_alive() and self.monotonic() < deadline:
            time.sleep(_NOTICE_S)
        if not server.started:
            raise CovenantError(
                f"the enrolment door does not open on {address}; see the files in {link.certificate_file.parent}"
            )
        _log.info("enrolment door", address=address)
        return self

    def __exit__(self, *_exc: object) -> None:
        """Listen no more."""
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_ENDS_WITHIN_S)

    def cut(self) -> None:
        """End, and wait for nothing: this process leads no longer."""
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True

    def _configuration(self, certificate: Path, key: Path) -> uvicorn.Config:
        return uvicorn.Config(
            Starlette(routes=[Route(ENROLMENT_PATH, self._answer, methods=["POST"])]),
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            loop="asyncio",  # which asks `_FewCallers` for each connection
            http=_Impatient,
            ws="none",
            proxy_headers=False,
            server_header=False,
            access_log=False,
            log_config=None,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
            lifespan="off",
        )

    async def _answer(self, request: Request) -> Response:
        if not self._has_room():
            return _said(_BUSY, "too many calls just now; the same call again in a few seconds is answered")
        try:
            body = await asyncio.wait_for(_read(request), _COMES_WITHIN_S)
        except TimeoutError:
            return _said(_BAD, "the request did not come within ten seconds")
        if len(body) > MOST_SUBMITTED_BYTES:
            return _said(_TOO_LARGE, f"a request of more than {MOST_SUBMITTED_BYTES} bytes")
        try:
            submission = Submission.from_canonical(body)
        except (Refused, UsageError):
            return _said(_BAD, "this is no enrolment request of this version")
        if self._at_once >= _MOST_AT_ONCE:
            return _said(_BUSY, "too many calls just now; the same call again in a few seconds is answered")
        self._at_once += 1
        try:
            return await run_in_threadpool(self._judged, submission)
        finally:
            self._at_once -= 1

    def _judged(self, submission: Submission) -> Response:
        site = submission.request.site
        try:
            answer = InvitationBook(self.centre).submit(submission)
        except CovenantError as error:
            if isinstance(error, DiskError):
                self.failed = error
            _log.error("an enrolment request could not be taken", site=site, reason=str(error))
            return _said(_BUSY, "the coordinator cannot take the request now; try again in a minute")
        _log.info("at the enrolment door", site=site, state=answer.state)
        return Response(answer.canonical, _OK, media_type="application/json")

    def _has_room(self) -> bool:
        """Whether one call more fits into this second."""
        now = self.monotonic()
        while self._calls and now - self._calls[0] > 1.0:
            self._calls.popleft()
        if len(self._calls) >= _MOST_A_SECOND:
            return False
        self._calls.append(now)
        return True


class _Impatient(H11Protocol):
    """A connection that ends unless the whole head of a call comes in time, and some time after that in any case. h11 bounds a head's size."""

    _patience: tuple[asyncio.TimerHandle, ...] = ()

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        later = self.loop.call_later
        self._patience = (
            later(_COMES_WITHIN_S, lambda: transport.abort() if self.cycle is None else None),
            later(_LASTS_S, transport.abort),
        )

    def connection_lost(self, exc: Exception | None) -> None:
        for each in self._patience:
            each.cancel()
        super().connection_lost(exc)


class _FewCallers(socket.socket):
    """A listening socket that has few connections open: whoever only connects takes this process no more files than that."""

    def __init__(self, listening: socket.socket) -> None:
        super().__init__(listening.family, listening.type, listening.proto, fileno=listening.detach())
        self._open: list[socket.socket] = []

    def accept(self) -> tuple[socket.socket, Any]:
        self._open = [each for each in self._open if each.fileno() != -1]
        if len(self._open) >= _MOST_CONNECTIONS:
            # asyncio looks again after a second.
            raise OSError(errno.EMFILE, "the enrolment door has as many connections as it takes")
        made = super().accept()
        self._open.append(made[0])
        return made


async def _read(request: Request) -> bytes:
    """The body, as far as it is looked at."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MOST_SUBMITTED_BYTES:
            break
    return bytes(body)


def _said(status: int, reason: str) -> Response:
    return Response(
        DoorAnswer(state="refused", reason=reason).canonical, status, media_type="application/json"
    )
