"""Disks of a simulation: the real SQLite and the real artifact store, with a step at each boundary where a process can die."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path

from coordinator.registry.artifacts import ArtifactStore
from simulation.world.world import World
from strategies.ids import Digest
from strategies.pieces import Bytes

FAILED_FLUSH = "SQLITE_IOERR_FSYNC"


def watched_connection(
    world: World,
    party: str | None = None,
    around: Callable[[Callable[[], None]], None] = lambda commit: commit(),
) -> type[sqlite3.Connection]:
    """A connection class whose commits are steps of `party`, or of whoever acts for the coordinator.

    `around` is given the commit itself to call.
    """

    class WatchedConnection(sqlite3.Connection):
        """Commits in steps: about to, done, and in between whatever the disk makes of it."""

        failed = False
        _changes_before = 0

        def commit(self) -> None:
            who = party or world.acting
            if self.total_changes == self._changes_before and not self.failed:
                super().commit()  # of what was only read
                return
            self._changes_before = self.total_changes
            world.step(who, "commits after a failed flush" if self.failed else "commits")
            try:
                world.faults.at_commit(who)
                around(super().commit)
                world.faults.after_commit(who)
            except sqlite3.OperationalError as error:
                self.failed = error.sqlite_errorname == FAILED_FLUSH
                raise
            world.step(who, "has committed")

    return WatchedConnection


class WatchedArtifacts(ArtifactStore):
    """An artifact store whose writes are steps of whoever acts for the coordinator."""

    def __init__(self, folder: Path, world: World) -> None:
        super().__init__(folder)
        self._world = world

    def put(self, data: Bytes) -> Digest:
        """See `ArtifactStore.put`."""
        self._world.step(self._world.acting, "puts an artifact")
        name = super().put(data)
        self._world.step(self._world.acting, f"put artifact {name[:12]}")
        return name

    def _write(self, target: Path, data: Bytes) -> None:
        self._world.faults.at_write(self._world.acting)
        super()._write(target, data)


def disk_error(name: str) -> sqlite3.OperationalError:
    """What SQLite raises for the result code `name`."""
    words = {"SQLITE_FULL": "database or disk is full"}
    error = sqlite3.OperationalError(words.get(name, "disk I/O error"))
    error.sqlite_errorname = name
    return error
