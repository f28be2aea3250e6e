"""The sites of `covenant bench secagg` in processes of their own, as many at a time as there are processes."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from contextlib import ExitStack
from typing import IO, Self

from protos.egress import child_environment
from simulation.bench import processes
from simulation.bench.secagg_sites import Setting, receive, send
from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.pieces import Bytes, joined


class SitesProcesses:
    """All sites, dealt in turn to `parts` processes, which end with the block."""

    def __init__(self, setting: Setting, parts: int) -> None:
        self._stack = ExitStack()
        with ExitStack() as starting:
            self._parts = [
                starting.enter_context(_SitesProcess(setting, part, parts)) for part in range(parts)
            ]
            self.keys = {site: key for each in self._parts for site, key in each.keys().items()}
            for each in self._parts:
                each.tell(self.keys)
            self._stack = starting.pop_all()
        self._of = {site: self._parts[place % parts] for place, site in enumerate(setting.sites)}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def answer(self, site: SiteName, frame: Bytes) -> Bytes:
        """What `site` answers; others of its process wait."""
        return self._of[site].answer(site, frame)

    @property
    def peak_mib(self) -> float:
        """The most memory that the processes had resident, together."""
        return sum(processes.peak_mib(each.pid) or 0.0 for each in self._parts)


class _SitesProcess:
    """One of the processes."""

    def __init__(self, setting: Setting, part: int, parts: int) -> None:
        numbers = (setting.clients, setting.parameters, setting.dropouts, part, parts)
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulation.bench.secagg_sites", *map(str, numbers)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        self._turn = threading.Lock()
        self.pid = self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            _there(stream).close()

    def keys(self) -> dict[SiteName, str]:
        """The public keys of its sites, which it says first."""
        found: dict[SiteName, str] = json.loads(joined(self._receive()))
        return found

    def tell(self, keys: dict[SiteName, str]) -> None:
        """Hand it the public keys of all sites."""
        send(_there(self._process.stdin), json.dumps(keys).encode())

    def answer(self, site: SiteName, frame: Bytes) -> Bytes:
        """What `site` answers."""
        with self._turn:
            for part in (site.encode(), frame):
                send(_there(self._process.stdin), part)
            return self._receive()

    def _receive(self) -> Bytes:
        data = receive(_there(self._process.stdout))
        if not data:
            raise CovenantError("a process of the benchmark's sites has ended; its error stands above")
        return data


def _there(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise CovenantError("a process of the benchmark's sites has no pipe")
    return stream
