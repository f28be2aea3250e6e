"""Connections that ask nothing: whoever opens them and waits would keep everybody else out, also from halting.

1. A connection on which no request begins or goes on for a while is cut. The framework has no such bound before the first request, nor for one whose
   headers come slowly.
2. A connection is a stranger's until somebody who is signed in has asked on it. Strangers have half of all connections. Where these are taken, the one
   that has waited longest is cut of the address that holds most of them: a newcomer from elsewhere always gets one.
3. One address has at most half of all connections.
4. Before all that is the TLS handshake, for which the framework waits a minute, and which nothing of the above sees. Connections that have not ended it are
   bounded likewise: one more is at the cost of the one that has waited longest, of the address that holds most.
5. The headers of a request are bounded by h11 (64 KiB).

Whoever has one address of IPv6 has 2^64 of them: those with the same first half are one. A gateway or proxy before the console is one address, and its clients are told apart by nobody here: it has to bound them itself.
"""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import Any, ClassVar, Final

from starlette.requests import Request
from uvicorn.protocols.http.h11_impl import H11Protocol

MOST: Final = 256
_STANDING: Final = "standing"


@dataclass(slots=True)
class _Standing:
    """Whether somebody who is signed in has asked on a connection; all its requests have the same one in their `state`."""

    known: bool = False


def know(request: Request) -> None:
    """Somebody who is signed in asks: the request's connection is no stranger's from now on."""
    standing = getattr(request.state, _STANDING, None)
    if isinstance(standing, _Standing):
        standing.known = True


@lru_cache(4096)
def holder_of(address: str) -> str:
    """Whose an address is, as far as it says: itself, and of IPv6 its first 64 bits (RFC 6177), which one holder has whole."""
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    return address if found.version == 4 else str(ip_network((found, 64), strict=False))  # noqa: PLR2004


def address_of(request: Request) -> str:
    """Whose a request is, as far as the network says."""
    return holder_of(request.client.host) if request.client else ""


class Bounded(H11Protocol):
    """One connection."""

    idle_s: ClassVar[float] = 15.0
    """After one to two of these without a request."""
    most_an_address: ClassVar[int] = MOST // 2
    most_strangers: ClassVar[int] = MOST // 2
    _before: object = None
    came: float = 0.0
    _standing: _Standing

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look after it."""
        super().connection_made(transport)
        self.came, self._standing = self.loop.time(), _Standing()
        self.app_state = {**self.app_state, _STANDING: self._standing}  # each request gets a shallow copy
        others = self._others()
        if sum(each.address == self.address for each in others) > self.most_an_address:
            transport.abort()
            return
        strangers = [each for each in others if each.is_stranger]
        if len(strangers) > self.most_strangers:
            held = Counter(each.address for each in strangers)
            longest = min(strangers, key=lambda each: (-held[each.address], each.came))
            longest.transport.abort()
        self._look_later()

    @property
    def address(self) -> str:
        """Whose it is, as far as the network says."""
        return holder_of(self.client[0]) if self.client else ""

    @property
    def is_stranger(self) -> bool:
        """Whether nobody who is signed in has asked on it."""
        return not self._standing.known

    def _others(self) -> list[Bounded]:
        return [
            each for each in self.connections if isinstance(each, Bounded) and not each.transport.is_closing()
        ]

    def _look_later(self) -> None:
        self.loop.call_later(self.idle_s, self._look)

    def _look(self) -> None:
        """Cut it where nothing was asked since the last look, and nothing is being answered."""
        if self not in self.connections:
            return
        cycle = self.cycle
        idle = cycle is self._before and (cycle is None or cycle.response_complete)
        if idle:
            self.transport.abort()
            return
        self._before = cycle
        self._look_later()


class Doorstep(socket.socket):
    """A socket that listens, and bounds the connections that it took and whose handshake has not ended; `through` are those whose handshake has."""

    most: ClassVar[int] = MOST // 2
    through: Collection[object] = ()

    def __init__(self, family: int, kind: int, proto: int) -> None:
        """One that is not bound yet. Raises OSError."""
        super().__init__(family, kind, proto)
        self._coming: dict[tuple[str, int], socket.socket] = {}

    def accept(self) -> tuple[socket.socket, Any]:
        """The next connection. Where there is one too many, the end of another is near: its transport finds it shut."""
        came, place = super().accept()
        known = {each.client for each in self.through if isinstance(each, Bounded)}
        self._coming = {
            at: each for at, each in self._coming.items() if at not in known and each.fileno() >= 0
        }
        self._coming[place[0], place[1]] = came
        if len(self._coming) > self.most:
            held = Counter(holder_of(address) for address, _ in self._coming)
            longest = max(
                self._coming, key=lambda at: held[holder_of(at[0])]
            )  # the first of them: they are in the order in which they came
            with suppress(OSError):  # it has gone by itself
                self._coming.pop(longest).shutdown(socket.SHUT_RDWR)
        return came, place


def doorsteps(host: str, port: int, through: Collection[object]) -> Sequence[Doorstep]:
    """A socket for each address of `host`. Raises OSError where it has none, and for a port that is taken."""
    found: list[Doorstep] = []
    try:
        for family, kind, proto, _, place in socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        ):
            door = Doorstep(family, kind, proto)
            found.append(door)
            door.through = through
            door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                door.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            door.bind(place)
    except OSError:
        for each in found:
            each.close()
        raise
    return found
