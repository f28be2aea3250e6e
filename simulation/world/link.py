"""A SuperLink in memory, and the Grid over it that a ServerApp is given.

It keeps to what a SuperLink does: a message waits for its node and is delivered once; a node that dies counts as online until its
heartbeats are missed; a stopped run takes and gives nothing any more. What the network does to a message is for the faults to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from flwr.app import Message, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from protos.envelope import seal, unseal
from simulation.world.world import SERVER, World
from strategies.ids import SiteName
from strategies.pieces import joined

_HEARTBEAT_S = 2.0
_FORGOTTEN_AFTER_S = 20.0
_POLL_S = 0.5


class LinkGoneError(Exception):
    """The transport does not answer this ServerApp any more."""


class Node(Protocol):
    """A process of a site, as the SuperLink sees it."""

    site: SiteName

    def deliver(self, message: Message) -> None:
        """Take a message."""
        ...


@dataclass
class _Session:
    node: Node
    node_id: int
    number: int
    began: float
    ended: float | None = None

    def online_until(self, now: float) -> float:
        alive = now if self.ended is None else self.ended
        beats = (alive - self.began) // _HEARTBEAT_S
        return self.began + beats * _HEARTBEAT_S + _FORGOTTEN_AFTER_S


@dataclass
class MemoryLink:
    """The SuperLink. `on_frame` hears of every frame: the site; "request" as it reaches the site, "reply" as it leaves, "arrival"
    as that reaches the SuperLink; the bytes."""

    world: World
    node_keys: dict[SiteName, bytes]
    on_frame: list[Callable[[SiteName, str, bytes], None]] = field(default_factory=list)
    runs: set[int] = field(default_factory=set)
    waiting: list[tuple[int, str]] = field(default_factory=list)
    """Flower runs whose ServerApp is to be started, with the Covenant run that each carries."""
    _started: int = 0
    _sessions: dict[SiteName, _Session] = field(default_factory=dict)
    _activations: int = 0
    _mail: dict[SiteName, list[Message]] = field(default_factory=dict)
    _replies: dict[str, Message] = field(default_factory=dict)
    _messages: int = 0

    def require(self) -> None:
        """See `Transport.require`: memory is always there."""

    def start_run(self, run: str) -> int:
        """See `Transport.start_run`."""
        self._started += 1
        self.runs.add(self._started)
        self.waiting.append((self._started, run))
        return self._started

    def stop_run(self, flower_run: int) -> None:
        """See `Transport.stop_run`."""
        self.runs.discard(flower_run)
        self.waiting = [each for each in self.waiting if each[0] != flower_run]

    def forget_everything(self) -> None:
        """A SuperLink that died and was started again: no run, no message, no session."""
        self.runs.clear()
        self.waiting.clear()
        self._sessions.clear()
        self._mail.clear()
        self._replies.clear()

    def activate(self, node: Node) -> None:
        """A site's process comes online; it takes over from an earlier one, and gets what waited for it."""
        self._activations += 1
        number = sorted(self.node_keys).index(node.site) + 1
        self._sessions[node.site] = _Session(node, number, self._activations, self.world.clock.now)
        for message in self._mail.pop(node.site, []):
            self._carry(node.site, message)

    def deactivate(self, node: Node) -> None:
        """A site's process died: the SuperLink does not know, its heartbeats just end."""
        session = self._sessions.get(node.site)
        if session is not None and session.node is node:
            session.ended = self.world.clock.now

    def knows(self, node: Node) -> bool:
        """Whether this process has the site's session."""
        session = self._sessions.get(node.site)
        return session is not None and session.node is node

    def nodes(self) -> list[NodeInfo]:
        """The nodes that count as online."""
        now = self.world.clock.now
        return [
            NodeInfo(
                node_id=session.node_id,
                public_key=self.node_keys[site],
                last_activated_at=str(session.number),
                online_until=session.online_until(now),
            )
            for site, session in sorted(self._sessions.items())
            if session.online_until(now) > now
        ]

    def send(self, flower_run: int, message: Message) -> str:
        """Take a message of a running run; it goes on its way to its node."""
        self._messages += 1
        message_id = f"{flower_run}-{self._messages}"
        message.metadata.__dict__["_message_id"] = message_id
        site = sorted(self.node_keys)[message.metadata.dst_node_id - 1]
        self._carry(site, message)
        return message_id

    def _carry(self, site: SiteName, message: Message) -> None:
        for delay_s, frame in self.world.faults.request(site, joined(unseal(message))):
            copy = Message(seal(frame), message.metadata.dst_node_id, message.metadata.message_type)
            copy.metadata.__dict__["_message_id"] = message.metadata.message_id
            self.world.clock.after(delay_s, partial(self._arrive, site, copy))

    def _arrive(self, site: SiteName, message: Message) -> None:
        session = self._sessions.get(site)
        if session is None or session.ended is not None:
            self._mail.setdefault(site, []).append(message)
            return
        self._tell(site, "request", joined(unseal(message)))
        session.node.deliver(message)

    def reply(self, site: SiteName, reply: Message) -> None:
        """A site's reply sets out. An error has no frame, and is carried as it is."""
        if reply.has_error():
            self._replies[reply.metadata.reply_to_message_id] = reply
            return
        self._tell(site, "reply", joined(unseal(reply)))
        for delay_s, frame in self.world.faults.reply(site, joined(unseal(reply))):
            self.world.clock.after(delay_s, partial(self._store, site, reply, frame))

    def _store(self, site: SiteName, reply: Message, frame: bytes) -> None:
        self._tell(site, "arrival", frame)
        reply.content = seal(frame)
        self._replies[reply.metadata.reply_to_message_id] = reply

    def take(self, message_ids: Iterable[str]) -> list[Message]:
        """The replies to some messages; each is given once."""
        return [self._replies.pop(each) for each in message_ids if each in self._replies]

    def _tell(self, site: SiteName, direction: str, frame: bytes) -> None:
        for hear in self.on_frame:
            hear(site, direction, frame)


class MemoryGrid(Grid):
    """flwr's Grid over a `MemoryLink`, for one Flower run."""

    def __init__(self, link: MemoryLink, flower_run: int) -> None:
        self._link = link
        self._run = Run.create_empty(flower_run)

    def set_run(self, run: Run) -> None:
        """See `Grid.set_run`."""
        self._run = run

    @property
    def run(self) -> Run:
        """See `Grid.run`."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """See `Grid.create_message`."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """See `Grid.get_node_ids`."""
        return [node.node_id for node in self.get_nodes()]

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See `Grid.get_nodes`."""
        self._require_running()
        return self._link.nodes()

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid.push_messages`."""
        self._require_running()
        self._link.world.step(SERVER, "pushes requests")
        ids = [self._link.send(self._run.run_id, message) for message in messages]
        self._link.world.step(SERVER, f"pushed {len(ids)} requests")
        return ids

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid.pull_messages`."""
        self._require_running()
        came = self._link.take(message_ids)
        if came:
            self._link.world.step(SERVER, f"pulled {len(came)} replies")
        return came

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See `Grid.send_and_receive`."""
        clock = self._link.world.clock
        waiting = set(self.push_messages(messages))
        deadline = None if timeout is None else clock.now + timeout
        replies: list[Message] = []
        while waiting and (deadline is None or clock.now < deadline):
            clock.sleep(_POLL_S)
            came = list(self.pull_messages(sorted(waiting)))
            waiting -= {each.metadata.reply_to_message_id for each in came}
            replies += came
        return replies

    def _require_running(self) -> None:
        if self._run.run_id not in self._link.runs:
            raise LinkGoneError(f"Flower run {self._run.run_id} is not running")
