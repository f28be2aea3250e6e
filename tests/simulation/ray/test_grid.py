"""Flower's nodes under their sites' names; lost requests have ids and never reach Flower; nobody waits for what will not come."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flwr.app import ConfigRecord, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from protos.envelope import seal, unseal
from simulation.ray.grid import HastyClock, SitesGrid
from simulation.ray.sites import WHOSE, place_in
from simulation.world.link import LinkGoneError
from simulation.world.world import Faults
from strategies.errors import CovenantError
from strategies.ids import SiteName, site_name

SOUTH, WEST = site_name("south"), site_name("west")
KEYS = {SOUTH: b"south's key", WEST: b"west's key"}


class Lost(Faults):
    """West's requests get lost."""

    def request(self, site: SiteName, frame: bytes) -> list[tuple[float, bytes]]:
        return [] if site == WEST else [(0.0, frame)]


@dataclass
class Nodes:
    """Two nodes that answer at once: 11 stands for the second site, 12 for the first one."""

    places: dict[int, Any] = field(default_factory=lambda: {11: 1, 12: 0})
    pushed: list[Message] = field(default_factory=list)
    _replies: dict[str, Message] = field(default_factory=dict)

    def get_node_ids(self) -> Iterable[int]:
        return list(self.places)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return [self._push(each) for each in messages]

    def _push(self, message: Message) -> str:
        self.pushed.append(message)
        name = f"message-{len(self.pushed)}"
        message.metadata.__dict__["_message_id"] = name
        content = message.content
        if message.metadata.message_type == f"query.{WHOSE}":
            place = self.places[message.metadata.dst_node_id]
            content = RecordDict({WHOSE: ConfigRecord({"place": place})})
        self._replies[name] = Message(content, reply_to=message)
        return name

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return [self._replies.pop(each) for each in list(message_ids) if each in self._replies]


@pytest.fixture(autouse=True)
def _identity() -> None:
    """Flower's messages name the run that their process is in."""
    TaskIdentity.task_id = TaskIdentity.run_id = TaskIdentity.node_id = 1


def a_grid(
    nodes: Nodes | None = None, faults: Faults | None = None
) -> tuple[SitesGrid, list[tuple[str, str, bytes]]]:
    told: list[tuple[str, str, bytes]] = []
    grid = SitesGrid(
        nodes or Nodes(),  # type: ignore[arg-type]
        KEYS,
        faults or Faults(),
        HastyClock(),
        lambda *frame: told.append(frame),
        threading.Event(),
    )
    grid.name_nodes()
    return grid, told


def to(node: int, frame: bytes) -> Message:
    return Message(seal(frame), node, "train")


def test_nodes_have_the_keys_of_the_sites_whose_place_they_name() -> None:
    grid, _ = a_grid()
    assert {node.node_id: node.public_key for node in grid.get_nodes()} == {11: KEYS[WEST], 12: KEYS[SOUTH]}


def test_a_node_is_heard_of_at_each_look() -> None:
    grid, _ = a_grid()
    (first, *_), _, (second, *_) = grid.get_nodes(), time.sleep(0.001), grid.get_nodes()
    assert second.online_until > first.online_until > time.monotonic()


@pytest.mark.parametrize("place", ["0", 0.0, b"0"])
def test_a_node_that_names_no_place_ends_it(place: object) -> None:
    with pytest.raises(CovenantError, match="does not say which one it is"):
        a_grid(Nodes({11: 1, 12: place}))


def test_frames_are_told_by_site_as_they_come_and_go() -> None:
    grid, told = a_grid()
    (asked,) = grid.push_messages([to(12, b"model")])
    (reply,) = grid.pull_messages([asked])
    assert unseal(reply) == b"model"
    assert told == [(SOUTH, "request", b"model"), (SOUTH, "reply", b"model")]


def test_a_lost_request_has_an_id_and_never_reaches_flower() -> None:
    nodes = Nodes()
    grid, told = a_grid(nodes, Lost())
    named = len(nodes.pushed)
    lost, kept = grid.push_messages([to(11, b"lost"), to(12, b"kept")])
    assert lost != kept
    assert [unseal(each) for each in nodes.pushed[named:]] == [b"kept"]
    assert [each.metadata.reply_to_message_id for each in grid.pull_messages([lost, kept])] == [kept]
    assert told == [(SOUTH, "request", b"kept"), (SOUTH, "reply", b"kept")]


def test_nobody_waits_while_nothing_is_under_way() -> None:
    grid, _ = a_grid(faults=Lost())
    began, before = time.monotonic(), grid.clock.monotonic()
    (lost,) = grid.push_messages([to(11, b"lost")])
    while grid.clock.monotonic() < before + 3600.0:
        assert list(grid.pull_messages([lost])) == []
        grid.clock.sleep(0.5)
    assert time.monotonic() - began < 600.0


def test_what_is_under_way_is_waited_for() -> None:
    clock = HastyClock()
    clock.under_way.add("message")
    began = time.monotonic()
    clock.sleep(0.05)
    assert time.monotonic() - began >= 0.05
    assert clock._skipped == 0.0
    clock.under_way.clear()
    clock.sleep(300.0)
    assert clock._skipped == 300.0


def test_the_answer_to_a_repeated_question_holds_nobody_up() -> None:
    grid, _ = a_grid()
    first, second = grid.push_messages([to(12, b"model"), to(12, b"model")])
    assert [each.metadata.reply_to_message_id for each in grid.pull_messages([first])] == [first]
    assert grid.clock.under_way == set()
    assert list(grid.pull_messages([second])) == []


def test_a_grid_that_was_stopped_answers_nobody() -> None:
    grid, _ = a_grid()
    grid.stopped.set()
    for ask in (grid.get_nodes, lambda: grid.push_messages([]), lambda: grid.pull_messages([])):
        with pytest.raises(LinkGoneError):
            ask()


def test_the_place_in_a_reply_is_counted_from_0() -> None:
    asked = Message(RecordDict(), 11, f"query.{WHOSE}")
    asked.metadata.__dict__["_message_id"] = "message"
    assert place_in(Message(RecordDict({WHOSE: ConfigRecord({"place": 3})}), reply_to=asked)) == 3
