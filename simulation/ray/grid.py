"""Flower's own Grid under the names of a simulation's sites, with the messages that get lost, and a clock that does not wait for those."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from flwr.app import Message, MessageType, RecordDict
from flwr.proto.node_pb2 import NodeInfo
from flwr.serverapp import Grid
from flwr.supercore.run import Run

from protos.envelope import unseal
from simulation.ray.sites import WHOSE, place_in
from simulation.world.link import LinkGoneError
from simulation.world.world import Faults
from strategies.errors import CovenantError, Unreachable
from strategies.ids import SiteName
from strategies.pieces import joined

_NAMED_WITHIN_S: Final = 300.0
_LOOK_S: Final = 0.05
_LOST: Final = "lost-"
_HEARD_FOR_S: Final = 20.0


@dataclass
class HastyClock:
    """Time as it passes, except while nothing is under way: then whoever sleeps wakes at once, and the time has passed all the same.

    A request that a dropout swallows would be waited for until the round's deadline.
    """

    under_way: set[str] = field(default_factory=set)
    """Messages that will be answered."""
    _skipped: float = 0.0

    def monotonic(self) -> float:
        """Seconds, the skipped ones among them."""
        return time.monotonic() + self._skipped

    def sleep(self, seconds: float) -> None:
        """Wait, unless there is nothing to wait for."""
        if self.under_way:
            time.sleep(seconds)
        else:
            self._skipped += max(0.0, seconds)


@dataclass
class SitesGrid(Grid):
    """Flower's `grid`, whose nodes are known by their sites. `tell` hears of frames as `MemoryLink.on_frame` does.

    Once `stopped` is set, it answers nobody any more.
    """

    grid: Grid
    node_keys: Mapping[SiteName, bytes]
    faults: Faults
    clock: HastyClock
    tell: Callable[[SiteName, str, bytes], None]
    stopped: threading.Event
    _sites: dict[int, SiteName] = field(default_factory=dict)
    _asked: dict[str, SiteName] = field(default_factory=dict)
    _lost: int = 0

    def name_nodes(self) -> None:
        """Have each of Flower's nodes say which site it stands for: their keys, which Flower draws, do not. Raises `Unreachable` and `CovenantError`."""
        sites, until = sorted(self.node_keys), time.monotonic() + _NAMED_WITHIN_S
        while len(list(self.grid.get_node_ids())) < len(sites):
            self._wait(until)
        asked = [
            Message(RecordDict(), node, f"{MessageType.QUERY}.{WHOSE}") for node in self.grid.get_node_ids()
        ]
        waiting = set(self.grid.push_messages(asked))
        while waiting:
            for reply in self.grid.pull_messages(waiting):
                waiting.discard(reply.metadata.reply_to_message_id)
                if reply.has_error():
                    raise CovenantError(f"Flower's engine can't run the sites: {reply.error.reason}")
                self._sites[reply.metadata.src_node_id] = sites[place_in(reply)]
            if waiting:
                self._wait(until)

    def _wait(self, until: float) -> None:
        self._require_running()
        if time.monotonic() > until:
            raise Unreachable(
                f"{len(self._sites)} of {len(self.node_keys)} simulated sites are there after {_NAMED_WITHIN_S:g} s; "
                "`ray status` says what the cluster waits for"
            )
        time.sleep(_LOOK_S)

    def set_run(self, run: Run) -> None:
        """See `Grid.set_run`."""
        self.grid.set_run(run)

    @property
    def run(self) -> Run:
        """See `Grid.run`."""
        return self.grid.run

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
        return list(self._sites)

    def get_nodes(self) -> Iterable[NodeInfo]:
        """See `Grid.get_nodes`: each with its site's own key, and heard of at this moment, since Flower's nodes here send no heartbeats."""
        self._require_running()
        now = self.clock.monotonic()
        return [
            NodeInfo(
                node_id=node,
                public_key=self.node_keys[site],
                last_activated_at="1",
                online_until=now + _HEARD_FOR_S,
            )
            for node, site in self._sites.items()
        ]

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """See `Grid.push_messages`. A message that gets lost has an id like any other."""
        self._require_running()
        return [self._push(message) for message in messages]

    def _push(self, message: Message) -> str:
        site, frame = self._sites[message.metadata.dst_node_id], joined(unseal(message))
        if not self.faults.request(site, frame):
            self._lost += 1
            return f"{_LOST}{self._lost}"
        taken = list(self.grid.push_messages([message]))
        if not taken:
            raise CovenantError(f"Flower's engine did not take a message to {site}")
        self.tell(site, "request", frame)
        self._asked[taken[0]] = site
        self.clock.under_way.add(taken[0])
        return taken[0]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """See `Grid.pull_messages`. What came and is not asked for answers a question that was repeated, and is dropped."""
        self._require_running()
        wanted, came = set(message_ids), []
        for reply in self.grid.pull_messages(set(self.clock.under_way)):
            asked = reply.metadata.reply_to_message_id
            self.clock.under_way.discard(asked)
            if not reply.has_error():
                self.tell(self._asked[asked], "reply", joined(unseal(reply)))
            if asked in wanted:
                came.append(reply)
        return came

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """See `Grid.send_and_receive`."""
        waiting = set(self.push_messages(messages))
        deadline = None if timeout is None else self.clock.monotonic() + timeout
        replies: list[Message] = []
        while waiting and (deadline is None or self.clock.monotonic() < deadline):
            self.clock.sleep(_LOOK_S)
            came = list(self.pull_messages(waiting))
            waiting -= {each.metadata.reply_to_message_id for each in came}
            replies += came
        return replies

    def _require_running(self) -> None:
        if self.stopped.is_set():
            raise LinkGoneError("the simulation is over")
