"""Starts one server process for each run that the SuperLink has waiting, and says how each ended."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from coordinator.flower.control import Claim, TaskDesk
from coordinator.settings import SuperLinkAddress
from protos.egress import child_environment
from strategies.errors import CovenantError, DiskError

_POLL_S = 0.2
_RETRY_S = 1.0
_LARGE_IS_GIVEN_BACK = {"MALLOC_MMAP_THRESHOLD_": str(1 << 20)}
"""Has glibc give memory of a piece of a model, or of more, back to the kernel when it is freed: it would keep such for what comes next, in a heap that it cannot shrink."""
_log = structlog.get_logger(__name__)


@dataclass
class Executor:
    """Claims and starts server processes in a thread of its own until stopped."""

    address: SuperLinkAddress
    home: Path
    desk: Callable[[SuperLinkAddress], TaskDesk] = TaskDesk
    on_exit: Callable[[int, int], None] = lambda _flower_run, _exit_code: None
    """Told Flower's id of a run whose server process has ended, and its exit code."""

    failed: DiskError | None = None
    """Why no more is claimed: the coordinator must end."""
    _children: dict[int, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopping: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def start(self) -> None:
        """Begin claiming."""
        self._thread = threading.Thread(target=self._run, name="executor", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Stop claiming, and end the server processes that still run."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        for child in self._children.values():
            child.terminate()
        for child in self._children.values():
            try:
                child.wait(5)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()

    @property
    def pids(self) -> list[int]:
        """Process ids of the server processes that run now."""
        return [child.pid for child in self._children.values() if child.poll() is None]

    def cut(self) -> None:
        """Kill the server processes and start no more, without waiting: somebody else leads soon. `stop` comes after it all the same."""
        self._stopping.set()
        for child in list(self._children.values()):
            child.kill()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._claim_until_trouble()
            except DiskError as error:
                self.failed = error
                return
            except CovenantError as error:
                # The secret is read anew each time: a SuperLink that was started again may have another.
                _log.warning("no task claimed", reason=str(error))
                self._stopping.wait(_RETRY_S)

    def _claim_until_trouble(self) -> None:
        desk = self.desk(self.address)
        try:
            while not self._stopping.wait(_POLL_S):
                self._reap()
                if (claim := desk.claim()) is not None and not self._stopping.is_set():
                    self._children[claim.flower_run] = self._launch(claim)
        finally:
            desk.close()

    def _reap(self) -> None:
        ended = {run: child for run, child in self._children.items() if child.poll() is not None}
        for flower_run, child in ended.items():
            self.on_exit(flower_run, child.returncode)
            del self._children[flower_run]  # only now: what could not be said is said at the next look
            _log.info("server process ended", pid=child.pid, exit_code=child.returncode)

    def _launch(self, claim: Claim) -> subprocess.Popen[bytes]:
        """Start a server process; its token goes through a pipe, so no process list shows it."""
        logs = self.home / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        with (logs / "serverapp.log").open("ab") as log:
            child = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "coordinator.flower.server_process",
                    f"{self.address.host}:{self.address.port}",
                    str(self.address.ca_file),
                    str(os.getpid()),
                ],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=child_environment(flower_home=self.home / "superlink")
                | {"COVENANT_HOME": str(self.home), **_LARGE_IS_GIVEN_BACK},
                start_new_session=True,
            )
        if child.stdin is not None:
            child.stdin.write(claim.token.encode())
            child.stdin.close()
        _log.info("server process started", pid=child.pid)
        return child
