"""The console's server: TLS on a thread of the coordinator that leads."""

from __future__ import annotations

import gc
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog
import uvicorn

from coordinator.bootstrap import Centre
from coordinator.console.app import create_app
from coordinator.console.connections import MOST, Bounded, doorsteps
from coordinator.console.console import Console
from coordinator.control_tls import control_files
from strategies.errors import CovenantError, DiskError, UsageError

_READY_WITHIN_S: Final = 20.0
_END_WITHIN_S: Final = 3
_log = structlog.get_logger(__name__)


@dataclass
class ConsoleServer:
    """Serves pages while it is entered. `failed` is a disk that failed, which ends the coordinator."""

    centre: Centre
    _console: Console = field(init=False)
    _server: _Server | None = None
    _thread: threading.Thread | None = None

    def __post_init__(self) -> None:
        """Read what pages are made of."""
        self._console = Console.of(self.centre)

    @property
    def failed(self) -> DiskError | None:
        """The disk's failure, if it failed."""
        return self._console.failed

    def __enter__(self) -> Self:
        """Listen. Raises CovenantError where that is not possible."""
        section = self._console.section
        certificate, key = _certificate(self.centre)
        config = uvicorn.Config(
            create_app(self._console),
            host=section.host,
            port=section.port,
            loop="asyncio",
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,
            http=Bounded,
            limit_concurrency=MOST,
            timeout_graceful_shutdown=_END_WITHIN_S,
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
        )
        try:
            config.load()
        except (OSError, ssl.SSLError) as error:
            raise UsageError(f"{certificate} and {key} are no certificate with its key: {error}") from error
        self._server = server = _Server(config)
        try:
            doors = doorsteps(section.host, section.port, server.server_state.connections)
        except OSError as error:
            raise CovenantError(
                f"the console cannot listen on {section.host}:{section.port}: {error.strerror}. Stop what uses that port, or set another `console.port` in"
                " covenant.yaml"
            ) from error
        self._thread = threading.Thread(target=server.run, args=(doors,), name="console", daemon=True)
        self._thread.start()
        if not server.listens.wait(_READY_WITHIN_S):
            raise CovenantError(f"the console does not begin to listen on {section.host}:{section.port}")
        # What is loaded by now stays: without it a collection of garbage, which every answer waits for, takes a tenth of the time.
        gc.collect()
        gc.freeze()
        _log.info("console", address=f"https://{section.host}:{section.port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Answer what is under way, and listen no more."""
        self._end()

    def cut(self) -> None:
        """End at once: this process leads no longer."""
        self._console.closing.set()
        if self._server is not None:
            self._server.should_exit = self._server.force_exit = True

    def _end(self) -> None:
        self._console.closing.set()
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_END_WITHIN_S + 1)
            self._server = self._thread = None
            gc.unfreeze()


class _Server(uvicorn.Server):
    """Says when it listens, and leaves signals to the coordinator."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listens = threading.Event()

    async def startup(self, sockets: list[object] | None = None) -> None:  # type: ignore[override]
        await super().startup(sockets)  # type: ignore[arg-type]
        self.listens.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _certificate(centre: Centre) -> tuple[Path, Path]:
    """The console's certificate and key: the bank's own, or the control authority's."""
    section, home = centre.settings.config.console, centre.settings.home
    if section is not None and section.certificate is not None and section.key is not None:
        return home / section.certificate, home / section.key
    names = [] if section is None else [section.host, *(each.partition(":")[0] for each in section.names)]
    files = control_files(centre.settings, centre.clock(), names)
    return files.certificate, files.key
