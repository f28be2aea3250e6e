"""The prompt grid over a Grid that plays a SuperLink on a virtual clock."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from types import SimpleNamespace
from typing import Any

import pytest
from flwr.app import Error, Message
from flwr.proto.message_pb2 import ObjectTree
from flwr.proto.node_pb2 import Node, NodeInfo
from flwr.supercore.inflatable.inflatable_object import (
    get_all_nested_objects,
    get_object_tree,
    iterate_object_tree,
)
from flwr.supercore.inflatable.inflatable_utils import inflate_object_from_contents
from flwr.supercore.task_identity import TaskIdentity

from coordinator.flower import arriving
from coordinator.flower import grid as grid_module
from coordinator.flower import wire as wire_module
from coordinator.flower.grid import PromptGrid
from coordinator.flower.wire import HttpWire
from coordinator.rounds.exchange import Answered, Outcome, Unanswered
from protos import envelope
from protos.envelope import seal, unseal
from protos.frames import Stage
from strategies.ids import SiteName, site_name
from strategies.pieces import Pieces, joined
from tests.flower_for_tests import message

WEST, SOUTH = site_name("west"), site_name("south")
KEYS = {WEST: b"west key", SOUTH: b"south key"}


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    """Flower's message constructor asks its process for these; a ServerApp's runner sets them."""
    for name, value in {"task_id": 1, "run_id": 11, "node_id": 1}.items():
        monkeypatch.setattr(TaskIdentity, f"_{name}", value)


@dataclass
class FakeSuperLink:
    """Keeps replies until a virtual time; `now` moves when the grid sleeps."""

    now: float = 100.0
    nodes: dict[SiteName, NodeInfo] = field(default_factory=dict)
    sent: list[Message] = field(default_factory=list)
    replies: list[tuple[float, int, Message]] = field(default_factory=list)
    late_objects: int = 0
    confirmed: list[str] = field(default_factory=list)
    node: Node = field(default_factory=lambda: Node(node_id=1))
    run: Any = field(default_factory=lambda: SimpleNamespace(run_id=11))
    happening: list[tuple[float, Any]] = field(default_factory=list)
    never: set[str] = field(default_factory=set)
    """Objects that do not come."""
    lost: set[str] = field(default_factory=set)
    """Objects that the SuperLink does not know any more."""
    pushed: dict[str, bytes] = field(default_factory=dict)
    trees: list[ObjectTree] = field(default_factory=list)
    _objects: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for number, (site, key) in enumerate(KEYS.items(), 1):
            self.nodes[site] = NodeInfo(
                node_id=number, public_key=key, last_activated_at="monday", online_until=500.0
            )
        self._runtime_client = self

    def sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.now += max(seconds, 1e-3)
        while self.happening and self.happening[0][0] <= self.now:
            self.happening.pop(0)[1]()

    def push_messages(self, messages: list[Message]) -> list[str]:
        self.sent += messages
        return [f"message-{len(self.sent) - len(messages) + place}" for place in range(len(messages))]

    def GetNodes(self, _: Any) -> Any:
        return SimpleNamespace(nodes=list(self.nodes.values()))

    def PullMessages(self, request: Any) -> Any:
        due = [r for r in self.replies if r[0] <= self.now and f"message-{r[1]}" in request.message_ids]
        self.replies = [r for r in self.replies if r not in due]
        heads, trees = [], []
        for _, place, reply in due:
            reply.metadata.__dict__["_reply_to_message_id"] = f"message-{place}"
            self._objects |= {i: o.deflate() for i, o in get_all_nested_objects(reply).items()}
            names = {"message_id": reply.object_id, "reply_to_message_id": f"message-{place}"}
            heads.append(SimpleNamespace(metadata=SimpleNamespace(**names)))
            trees.append(get_object_tree(reply))
        return SimpleNamespace(messages_list=heads, message_object_trees=trees)

    def PullObject(self, request: Any) -> Any:
        if request.object_id in self.lost:
            return SimpleNamespace(object_available=False, object_found=False, object_content=b"")
        if request.object_id in self.never:
            return SimpleNamespace(object_available=False, object_found=True, object_content=b"")
        if self.late_objects:
            self.late_objects -= 1
            return SimpleNamespace(object_available=False, object_found=True, object_content=b"")
        content = self._objects[request.object_id]
        return SimpleNamespace(object_available=True, object_found=True, object_content=content)

    def _check_message(self, _: Message) -> None:
        """All of them are well-formed."""

    def PushMessages(self, request: Any) -> Any:
        self.trees = list(request.message_object_trees)
        needed = dict.fromkeys(part.object_id for tree in self.trees for part in iterate_object_tree(tree))
        ids = [f"pushed-{number}" for number in range(len(self.trees))]
        return SimpleNamespace(objects_to_push=list(needed), session_id="one", message_ids=ids)

    def PushObject(self, request: Any) -> Any:
        assert request.object_id not in self.pushed
        self.pushed[request.object_id] = request.object_content
        return SimpleNamespace(stored=True)

    def ConfirmMessageReceived(self, request: Any) -> None:
        self.confirmed.append(request.message_object_id)

    def answer(self, at: float, place: int, frame: bytes | None = None, error: Error | None = None) -> None:
        content = None if frame is None else seal(frame)
        self.replies.append(
            (at, place, message(content, error=error, reply_to=f"message-{place}", kind="train"))
        )


def grid(superlink: FakeSuperLink) -> PromptGrid:
    wire = HttpWire(superlink, lambda: superlink.now, superlink.sleep)  # type: ignore[arg-type]
    return PromptGrid(wire, KEYS, monotonic=lambda: superlink.now, sleep=superlink.sleep)


def ask(superlink: FakeSuperLink, prompt: PromptGrid | None = None, deadline_s: float = 10.0) -> Any:
    asked = (prompt or grid(superlink)).ask(
        Stage.TRAIN, {WEST: b"frame", SOUTH: b"frame"}, round_number=3, deadline_s=deadline_s
    )
    return dict(asked)


def test_answers_are_collected_promptly_and_confirmed() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, b"from west")
    superlink.answer(100.3, 1, b"from south")
    assert ask(superlink) == {WEST: Answered(b"from west"), SOUTH: Answered(b"from south")}
    assert superlink.now < 100.5
    assert len(superlink.confirmed) == 2


def test_late_objects_are_waited_for_in_milliseconds() -> None:
    superlink = FakeSuperLink(late_objects=10)
    superlink.answer(100.0, 0, b"from west")
    superlink.answer(100.0, 1, b"from south")
    ask(superlink)
    assert superlink.now < 100.5


def test_the_deadline_cuts_a_straggler_off() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, b"from west")
    superlink.answer(111.0, 1, b"too late")
    assert ask(superlink)[SOUTH] == Unanswered("did not answer before the deadline")
    assert superlink.now == pytest.approx(110, abs=0.1)


def test_an_error_reply_says_why() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, error=Error(4, "the FAB carries code"))
    superlink.answer(100.1, 1, b"from south")
    assert ask(superlink)[WEST] == Unanswered("the FAB carries code")


def test_a_reply_that_is_no_frame_is_not_an_answer() -> None:
    from flwr.app import RecordDict

    superlink = FakeSuperLink()
    superlink.replies.append((100.1, 0, message(RecordDict(), reply_to="message-0")))
    superlink.answer(100.1, 1, b"from south")
    assert isinstance(ask(superlink)[WEST], Unanswered)


def test_a_site_that_is_not_online_is_said_to_be_away() -> None:
    superlink = FakeSuperLink()
    del superlink.nodes[WEST]
    superlink.answer(100.1, 0, b"from south")
    assert ask(superlink)[WEST] == Unanswered("is not online")


def test_a_site_that_restarts_in_mid_round_is_asked_again() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 1, b"from south")

    def restart() -> None:
        superlink.nodes[WEST].last_activated_at = "tuesday"
        superlink.answer(104.0, 2, b"from west, again")

    superlink.happening.append((102.0, restart))
    assert ask(superlink)[WEST] == Answered(b"from west, again")
    assert len(superlink.sent) == 3
    assert superlink.sent[2].metadata.dst_node_id == superlink.nodes[WEST].node_id


def test_a_site_whose_answer_was_lost_is_asked_again_within_the_deadline() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 1, b"from south")
    superlink.answer(171.0, 2, b"from west, at the second asking")
    assert ask(superlink, deadline_s=300.0)[WEST] == Answered(b"from west, at the second asking")
    assert len(superlink.sent) == 3
    assert superlink.now < 172


def test_a_site_that_is_computing_is_asked_a_few_times_and_no_more() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 1, b"from south")
    ask(superlink, deadline_s=300.0)
    assert len(superlink.sent) == 2 + 4


def test_a_silent_site_is_left_out_until_it_is_heard_of_again() -> None:
    superlink = FakeSuperLink()
    prompt = grid(superlink)
    superlink.answer(100.1, 0, b"from west")
    ask(superlink, prompt, deadline_s=5)
    superlink.now += 1
    assert list(prompt.online()) == [WEST]
    superlink.nodes[SOUTH].online_until = 520.0
    superlink.now += 1
    assert set(prompt.online()) == {WEST, SOUTH}


# Memory: forty sites are each sent a megabyte of their own, and answer with one.

MEGABYTE = 1 << 20
MANY = tuple(site_name(f"site-{number:02d}") for number in range(40))


class Lazy(Mapping[SiteName, bytes]):
    """Frames that are made when they are asked for."""

    def __getitem__(self, site: SiteName) -> bytes:
        return site.encode() + bytes(MEGABYTE)

    def __iter__(self) -> Iterator[SiteName]:
        return iter(MANY)

    def __len__(self) -> int:
        return len(MANY)


@dataclass
class ManySites:
    """A wire to sites that answer at once. It keeps nothing but the ids of messages, and makes each reply when its turn comes."""

    reply_bytes: int = MEGABYTE
    largest: int = 0
    pushed: int = 0

    def nodes(self) -> list[NodeInfo]:
        return [
            NodeInfo(node_id=number, public_key=site.encode(), last_activated_at="monday")
            for number, site in enumerate(MANY, 1)
        ]

    def push(self, messages: Sequence[Message]) -> list[str]:
        self.largest = max(self.largest, len(messages))
        first, self.pushed = self.pushed, self.pushed + len(messages)
        return [f"message-{number}" for number in range(first, self.pushed)]

    def pull(
        self, message_ids: Collection[str], _wanted: Any, _most_bytes: int
    ) -> Iterator[tuple[str, Message]]:
        for message_id in list(message_ids):
            reply = message_id.encode() + bytes(self.reply_bytes)
            yield message_id, message(seal(reply), reply_to=message_id)

    def confirm(self) -> None:
        """Nothing is kept."""


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Memory is traced, and nothing is freed but what nobody refers to: the collector counts objects, and frames are few and large."""
    monkeypatch.setattr(grid_module, "_BATCH_BYTES", 4 * MEGABYTE)
    gc.collect()
    gc.disable()
    tracemalloc.start()
    yield
    tracemalloc.stop()
    gc.enable()


def exchanged(wire: ManySites) -> Iterator[tuple[SiteName, Outcome]]:
    now = count()
    keys = {site: site.encode() for site in MANY}
    prompt = PromptGrid(wire, keys, monotonic=lambda: float(next(now)), sleep=lambda _: None)
    return prompt.ask(Stage.TRAIN, Lazy(), round_number=1, deadline_s=1000.0)


def peak() -> int:
    return tracemalloc.get_traced_memory()[1]


@pytest.mark.usefixtures("traced")
def test_an_exchange_does_not_hold_all_its_requests_at_once() -> None:
    wire = ManySites(reply_bytes=1)
    assert [site for site, outcome in exchanged(wire) if isinstance(outcome, Answered)] == list(MANY)
    assert (wire.pushed, wire.largest) == (40, 4)
    assert peak() < 12 * MEGABYTE


@pytest.mark.usefixtures("traced")
def test_an_exchange_whose_requests_are_made_beforehand_holds_them_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The control: all in one batch."""
    monkeypatch.setattr(grid_module, "_BATCH_BYTES", 400 * MEGABYTE)
    wire = ManySites(reply_bytes=1)
    assert len(list(exchanged(wire))) == 40
    assert wire.largest == 40
    assert peak() > 40 * MEGABYTE


@pytest.mark.usefixtures("traced")
def test_an_exchange_does_not_hold_all_its_replies_at_once() -> None:
    sizes = [len(outcome.frame) for _, outcome in exchanged(ManySites()) if isinstance(outcome, Answered)]
    assert len(sizes) == 40
    assert min(sizes) > MEGABYTE
    assert peak() < 12 * MEGABYTE


@dataclass
class Fetching(ManySites):
    """A wire that holds nothing of a reply once it has handed it over."""

    def pull(self, message_ids: Collection[str], *_: object) -> Iterator[tuple[str, Message]]:
        for message_id in list(message_ids):
            yield message_id, message(seal(bytes(self.reply_bytes)), reply_to=message_id)


@pytest.mark.usefixtures("traced")
def test_a_reply_is_gone_before_the_next_one_is_fetched() -> None:
    came = 0
    for _, outcome in exchanged(Fetching(reply_bytes=40 * MEGABYTE)):
        came += isinstance(outcome, Answered)
        del outcome
    assert came == 40
    assert peak() < 60 * MEGABYTE


@pytest.mark.usefixtures("traced")
def test_an_exchange_whose_outcomes_are_kept_holds_them_all() -> None:
    """The control: what an exchange would be that returns a dict."""
    assert len(dict(exchanged(ManySites()))) == 40
    assert peak() > 40 * MEGABYTE


# A reply in several pieces, of which one does not come.


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "PIECE_BYTES", 5)


def piece(superlink: FakeSuperLink, number: int) -> str:
    """The object of a piece of the reply that was announced last."""
    _, _, reply = superlink.replies[-1]
    records = list(reply.content.values())
    return str(records[number - 1].object_id)


@pytest.mark.usefixtures("small_pieces")
def test_a_reply_comes_together_from_its_pieces() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, b"from the west")
    superlink.answer(100.1, 1, b"from the south")
    assert {site: joined(each.frame) for site, each in ask(superlink).items()} == {
        WEST: b"from the west", SOUTH: b"from the south",
    }  # fmt: skip


@pytest.mark.usefixtures("small_pieces")
def test_a_piece_that_does_not_come_is_named_and_the_others_make_no_answer() -> None:
    """Its site died while it sent: the SuperLink waits for the piece, and knows no better."""
    superlink = FakeSuperLink()
    superlink.answer(100.1, 1, b"from the south")
    superlink.answer(100.1, 0, b"from the far west")
    superlink.never.add(piece(superlink, 3))
    found = ask(superlink)
    assert found[WEST] == Unanswered(
        "sent 2 of 4 pieces of its answer before the deadline; piece 3 did not come"
    )
    assert isinstance(found[SOUTH], Answered)


@pytest.mark.usefixtures("small_pieces")
def test_a_piece_that_the_superlink_has_lost_is_named() -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 1, b"from the south")
    superlink.answer(100.1, 0, b"from the far west")
    superlink.lost.add(piece(superlink, 4))
    assert ask(superlink)[WEST] == Unanswered("ended while sending: piece 4 of 4 of its answer never arrived")


@pytest.mark.usefixtures("small_pieces")
def test_a_reply_beyond_the_bound_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arriving, "MOST_OBJECTS", 4)
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, b"from the far west")
    superlink.answer(100.1, 1, b"-")
    found = ask(superlink)
    assert found[WEST] == Unanswered("sent more than 4 objects in one answer")
    assert isinstance(found[SOUTH], Answered)


@pytest.mark.usefixtures("small_pieces")
def test_of_replies_that_are_half_there_only_one_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come in the end: what was given up is fetched again."""
    monkeypatch.setattr(wire_module, "_MOST_SET_ASIDE", 0)
    superlink = FakeSuperLink()
    for place, frame in enumerate((b"from the far west", b"from the deep south")):
        superlink.answer(100.1, place, frame)
        superlink.never.add(piece(superlink, 4))
    prompt = grid(superlink)
    held: list[int] = []

    def come() -> None:
        held.append(sum(bool(each.contents) for each in prompt.wire._arriving.values()))  # type: ignore[attr-defined]
        superlink.never.clear()

    superlink.happening.append((103.0, come))
    assert {joined(each.frame) for each in ask(superlink, prompt).values()} == {
        b"from the far west",
        b"from the deep south",
    }
    assert held == [1]


@pytest.mark.usefixtures("small_pieces")
def test_a_large_request_is_pushed_object_by_object_and_what_sites_have_in_common_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    superlink = FakeSuperLink()
    wire = HttpWire(superlink, lambda: superlink.now, superlink.sleep)  # type: ignore[arg-type]
    vector = bytes(range(64, 84))
    messages = [
        Message(seal(Pieces((head, vector))), node, "train") for node, head in ((1, b"west"), (2, b"south"))
    ]
    assert list(wire.push(messages)) == ["pushed-0", "pushed-1"]
    contents = list(superlink.pushed.values())
    assert sum(vector[:4] in content for content in contents) == 1
    for tree, expected in zip(superlink.trees, (b"west", b"south"), strict=True):
        objects = {part.object_id: superlink.pushed[part.object_id] for part in iterate_object_tree(tree)}
        received = inflate_object_from_contents(tree.object_id, objects)
        assert isinstance(received, Message)
        assert joined(unseal(received)) == expected + vector
