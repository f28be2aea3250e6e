"""One officer's desk, while it is open: what they brought, the coordinator that it speaks to, and the secrets of its pages."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from coordinator.api.client import ControlClient
from coordinator.api.desk import RemoteDesk
from coordinator.api.log_reader import LogReader
from coordinator.api.model_desk import RemoteModelDesk
from coordinator.console.desk.looking import Looked, Say, Trust, look


@dataclass
class Session:
    """The desk. `enter` opens it once; whoever has `cookie` is the officer, and `token` is in their forms. All pages are in `room`, a part of the path that
    nobody else knows: the cookie is for that only. `lock` is held while something is looked at or signed: one thing at a time."""

    trust: Trust
    client: ControlClient
    port: int
    clock: Callable[[], datetime]
    room: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    enter: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    cookie: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    entered: bool = False
    closed: bool = False
    notice: str | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def origin(self) -> str:
        """Where its pages are."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def home(self) -> str:
        """What the path of each page begins with."""
        return f"/{self.room}"

    @property
    def address(self) -> str:
        """What opens it, once."""
        return f"{self.origin}{self.home}/enter?key={self.enter}"

    @property
    def desk(self) -> RemoteDesk:
        """The coordinator, as commands see it."""
        return RemoteDesk(self.client)

    @property
    def models(self) -> RemoteModelDesk:
        """Its registry."""
        return RemoteModelDesk(self.client)

    def look(self, say: Say = lambda _: None) -> Looked:
        """Make the first checks now. Raises Unreachable."""
        return look(self.trust, LogReader(self.client), self.clock(), say)
