"""The agent's state on disk, for `status` and `drain`: a lock that says whether it lives, and a file that says how it is.

1. The lock is held for as long as the process lives, and the kernel lets go of it: a process id in it is of a living agent if the lock is held.
2. The state is replaced as a whole. It is for people, and nothing is decided by it; where it cannot be written the agent goes on.
3. It holds no value of rows.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from strategies.errors import UsageError

_LOCK: Final = "agent.lock"
_STATE: Final = "agent.json"
_MODE: Final = 0o600
_POLL_S: Final = 0.05
_LOOK_S: Final = 1.0
_MOST_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentState:
    """How an agent is, as it last said; times are UTC in ISO 8601. `away_because` is absent while it is connected."""

    pid: int
    version: str
    started_at: str
    connected: bool = False
    contact_at: str | None = None
    away_because: str | None = None
    last_request: str | None = None
    last_request_at: str | None = None
    answered: int = 0
    refused: int = 0
    draining: bool = False
    ended_at: str | None = None
    ended_because: str | None = None


@dataclass(frozen=True, slots=True)
class StateFolder:
    """Where an agent's lock and state lie: beside its journal."""

    folder: Path

    @contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for as long as the block runs. Raises UsageError where another agent has it, or nobody can."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE)
        except OSError as error:
            raise UsageError(
                f"{self.folder / _LOCK} cannot be opened ({error.strerror}); `journal` must name a file in a folder, on a local disk, that the"
                " agent's user may write"
            ) from error
        if not _locked(descriptor):
            os.close(descriptor)
            raise UsageError(
                f"another agent of this site runs already on {self.folder}; `covenant-agent status` shows it, and `covenant-agent drain` ends it"
            )
        try:
            with suppress(OSError):  # on a full disk it runs, and cannot be drained by command
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, str(os.getpid()).encode(), 0)
            yield
        finally:
            os.close(descriptor)

    def write(self, state: AgentState) -> bool:
        """Replace the state; whether that could be done."""
        beside = self.folder / f"{_STATE}.new"
        try:
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _MODE)
            with os.fdopen(descriptor, "w") as file:
                json.dump(asdict(state), file)
            beside.replace(self.folder / _STATE)
        except OSError:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            return False
        return True

    def read(self) -> AgentState | None:
        """The last state, or None where there is none that can be read."""
        try:
            with (self.folder / _STATE).open("rb") as file:
                kept: Any = json.loads(file.read(_MOST_BYTES))
            return AgentState(**kept)
        except (OSError, ValueError, TypeError):
            return None

    @property
    def alive(self) -> bool:
        """Whether an agent holds the lock."""
        try:
            descriptor = os.open(self.folder / _LOCK, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise UsageError(
                f"{self.folder / _LOCK} cannot be read ({error.strerror}); be the agent's user, or root"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(descriptor)
        return False

    def drain(self, within_s: float) -> bool:
        """Tell the agent to drain and wait until it has gone; False if it is still there after `within_s`. Raises UsageError where none runs."""
        number = self._living()
        try:
            process = os.pidfd_open(number)
        except (OSError, ValueError) as error:
            raise self._nobody() from error
        try:
            # The process is held fast now: that it has the lock's file open shows that it is the agent, and no other of its number.
            if not self.alive or self._living() != number:
                raise self._nobody()
            self._require_holder(number)
            try:
                signal.pidfd_send_signal(process, signal.SIGTERM)
            except PermissionError as error:
                raise self._foreign() from error
        finally:
            os.close(process)
        ends = time.monotonic() + within_s
        while self.alive:
            if time.monotonic() > ends:
                return False
            time.sleep(_POLL_S)
        return True

    def _require_holder(self, number: int) -> None:
        """Raise UsageError unless the process has the lock's file open: in a container the agent has a number that is another's outside."""
        try:
            lock = (self.folder / _LOCK).stat()
            if any(_is_same(each, lock) for each in Path(f"/proc/{number}/fd").iterdir()):
                return
        except PermissionError as error:
            raise self._foreign() from error
        except OSError as error:
            raise self._nobody() from error
        raise UsageError(
            f"the agent on {self.folder} runs in a container, where it is process {number}; drain it there, or stop its container with SIGTERM"
        )

    def _foreign(self) -> UsageError:
        return UsageError(
            f"the agent on {self.folder} belongs to another user; drain it as that user, or with `systemctl stop`"
        )

    def _living(self) -> int:
        try:
            text = (self.folder / _LOCK).read_text()
        except OSError as error:
            raise self._nobody() from error
        if not self.alive or not text.isdigit():
            raise self._nobody()
        return int(text)

    def _nobody(self) -> UsageError:
        return UsageError(
            f"no agent runs on {self.folder}; `covenant-agent status` says when it was last heard of"
        )


def _locked(descriptor: int) -> bool:
    """Lock a file for this process alone; who asks whether an agent lives has it for a moment, and is waited for."""
    ends = time.monotonic() + _LOOK_S
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            if time.monotonic() > ends:
                return False
            time.sleep(_POLL_S)
        else:
            return True


def _is_same(link: Path, lock: os.stat_result) -> bool:
    try:
        return os.path.samestat(link.stat(), lock)
    except OSError:
        return False
