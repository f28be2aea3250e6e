"""A site's process in a simulation: the real participant behind the real ClientApp, with a journal on a real file that can be torn."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode

from client.app import client_app
from client.bootstrap import open_participant
from client.journal.entries import JournalBroken
from client.participant import Participant
from protos.codec_fields import CodecError
from simulation.world.chance import unsafe_site_entropy
from simulation.world.link import MemoryLink
from simulation.world.storage import watched_connection
from simulation.world.world import Crash, World
from strategies.errors import CovenantError
from strategies.ids import SiteName

_SUFFIXES = ("", "-wal")
MENDED_AFTER_S = 30.0


@dataclass
class SimulatedSite:
    """One process of a site. `stopped` says why it has ended by itself, if it has."""

    site: SiteName
    config_file: Path
    journal_file: Path
    world: World
    link: MemoryLink
    seed: int = 0
    compute_s: float = 0.05
    restarts: bool = True
    """Whether somebody starts it again after it has ended."""
    stopped: str | None = None
    measured: Callable[[SiteName, Callable[[], Message]], Message] = field(default=lambda _site, work: work())
    """Runs a computation; a simulation that reports times measures it here."""
    _app: ClientApp = field(init=False)
    _participant: Participant | None = None
    _connections: list[sqlite3.Connection] = field(default_factory=list)
    _life: int = 0
    _last_commit: tuple[int, int] = (0, 0)

    def __post_init__(self) -> None:
        self._app = client_app(self._running)

    @property
    def up(self) -> bool:
        """Whether the process lives."""
        return self._participant is not None

    @property
    def participant(self) -> Participant:
        """The living process's participant."""
        if self._participant is None:
            raise CovenantError(f"{self.site} is down")
        return self._participant

    def start(self) -> None:
        """Start the process: it opens its journal and goes online. One that cannot start says why in `stopped`."""
        if self.up:
            return
        try:
            self._participant = open_participant(
                self.config_file,
                connect=self._connect,
                entropy=unsafe_site_entropy(self.seed, self.site, self._life),
                clock=lambda: self.world.clock.wall(0.0),
                monotonic=self.world.clock.monotonic,
            )
        except Crash as crash:
            self.die(crash)
        except CovenantError as error:
            self._end(str(error))  # which JournalBroken is too
        else:
            self.stopped = None
            self.world.note(self.site, "is up")
            self.link.activate(self)

    def deliver(self, message: Message) -> None:
        """Take a message from the SuperLink, answer it, and send the answer after as long as the computation takes."""
        if not self.up:
            return
        life = self._life
        try:
            self.world.step(self.site, "takes a request")
            reply = self.measured(self.site, lambda: self._answer(message))
            self.world.step(self.site, "has an answer")
        except Crash as crash:
            self.die(crash)
        except JournalBroken as broken:
            self._end(str(broken))
        else:
            self.world.clock.after(self.compute_s, lambda: self._send(reply, life))

    def die(self, crash: Crash) -> None:
        """The process is gone, with whatever was not on disk; it is started again after `down_s`."""
        self.world.note(self.site, "dies" if crash.torn is None else "dies in the middle of a write")
        self._die(crash)

    def close(self) -> None:
        """Let go of every file; nobody starts it again."""
        self.restarts = False
        if self.up:
            self._die(Crash(self.site))

    def _die(self, crash: Crash) -> None:
        saved = {
            suffix: self._file(suffix).read_bytes() for suffix in _SUFFIXES if self._file(suffix).exists()
        }
        if crash.torn is not None and "-wal" in saved:
            before, after = self._last_commit
            saved["-wal"] = saved["-wal"][: before + int(crash.torn * (after - before))]
        self._gone(crash.down_s)
        self._put_back(saved)

    def snapshot(self) -> dict[str, bytes]:
        """The journal's files, as a backup of a running machine finds them."""
        return {
            suffix: self._file(suffix).read_bytes() for suffix in _SUFFIXES if self._file(suffix).exists()
        }

    def restore(self, saved: dict[str, bytes]) -> None:
        """The machine is set back to a snapshot and started."""
        self.world.note(self.site, "is restored from a snapshot")
        self._gone(down_s=1.0)
        self._put_back(saved)

    def rot(self, place: float) -> None:
        """The process is killed, and one byte of the journal is another one when it is started again."""
        self.world.note(self.site, "dies, and a byte of its journal rots")
        saved = self.snapshot()
        self._gone(down_s=1.0)
        content = bytearray(saved[""])
        content[int(place * len(content))] ^= 0xFF
        self._put_back(saved | {"": bytes(content)})

    def _answer(self, message: Message) -> Message:
        context = Context(
            run_id=message.metadata.run_id,
            node_id=message.metadata.dst_node_id,
            node_config={},
            state=RecordDict(),
            run_config={},
        )
        try:
            return self._app(message, context)
        except CodecError as error:
            return Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION, str(error)), reply_to=message)

    def _send(self, reply: Message, life: int) -> None:
        if not self.up or life != self._life:
            return
        try:
            self.world.step(self.site, "sends its answer")
            if self.link.knows(self):
                self.link.reply(self.site, reply)
            self.world.step(self.site, "has sent its answer")
        except Crash as crash:
            self.die(crash)

    def _running(self, _: Context) -> Participant:
        return self.participant

    def _connect(self, path: str) -> sqlite3.Connection:
        noted = (
            (self._note_commit,) if Path(path) == self.journal_file else ()
        )  # accounts have no write-ahead log
        watched = watched_connection(self.world, self.site, *noted)
        self._connections.append(sqlite3.connect(path, timeout=0.0, isolation_level=None, factory=watched))
        return self._connections[-1]

    def _note_commit(self, commit: Callable[[], None]) -> None:
        """Commit, and remember which bytes of the write-ahead log it wrote."""
        before = self._size()
        commit()
        self._last_commit = (before, self._size())

    def _end(self, why: str) -> None:
        """The process ends by itself, as one must whose journal cannot be written; an operator mends it after a while."""
        self.world.note(self.site, f"stops: {why}")
        self.stopped = why
        saved = self.snapshot()
        self._gone(MENDED_AFTER_S)
        self._put_back(saved)

    def _gone(self, down_s: float) -> None:
        self._participant, self._life = None, self._life + 1
        self.link.deactivate(self)
        while self._connections:
            self._connections.pop().close()
        if self.restarts:
            life = self._life
            self.world.clock.after(down_s, lambda: self.start() if life == self._life else None)

    def _put_back(self, saved: dict[str, bytes]) -> None:
        """Closing a connection tidies its files up, and a kill does not: have them as the kill left them."""
        for suffix in _SUFFIXES:
            self._file(suffix).unlink(missing_ok=True)
        for suffix, content in saved.items():
            self._file(suffix).write_bytes(content)

    def _file(self, suffix: str) -> Path:
        return Path(f"{self.journal_file}{suffix}")

    def _size(self) -> int:
        wal = self._file("-wal")
        return wal.stat().st_size if wal.exists() else 0
