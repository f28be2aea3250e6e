"""The stage that simulations are played on keeps to what a clock, a SuperLink and flwr's Grid are."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import pytest
from flwr.app import Message
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity

from coordinator.flower.wire import GridWire, wire_over
from protos.envelope import seal, unseal
from simulation.world.clock import VirtualClock
from simulation.world.link import LinkGoneError, MemoryGrid, MemoryLink
from simulation.world.world import Faults, World
from strategies.ids import SiteName, site_name

EAST, WEST = site_name("east"), site_name("west")
RUN = "run-0123456789abcdef"


@pytest.fixture(autouse=True)
def _identity(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("task_id", "run_id", "node_id"):
        monkeypatch.setattr(TaskIdentity, f"_{name}", 1)


@dataclass
class Echo:
    """A site that answers at once."""

    site: SiteName
    link: MemoryLink
    got: list[bytes] = field(default_factory=list)

    def deliver(self, message: Message) -> None:
        self.got.append(unseal(message))
        self.link.reply(self.site, Message(seal(b"echo " + unseal(message)), reply_to=message))


@pytest.fixture
def link() -> MemoryLink:
    return MemoryLink(World(), {EAST: b"east key", WEST: b"west key"})


@pytest.fixture
def grid(link: MemoryLink) -> MemoryGrid:
    for site in (EAST, WEST):
        link.activate(Echo(site, link))
    return MemoryGrid(link, link.start_run(RUN))


def asked(grid: Grid, text: bytes = b"hello", node: int = 1) -> Message:
    return grid.create_message(seal(text), "train", node, "1")


def test_a_sleeper_lets_happen_what_is_due_in_its_order() -> None:
    clock, happened = VirtualClock(), []
    clock.after(2.0, lambda: happened.append(("b", clock.now)))
    clock.after(
        1.0, lambda: (happened.append(("a", clock.now)), clock.after(0.5, lambda: happened.append("c")))
    )
    clock.after(2.0, lambda: happened.append(("d", clock.now)))
    clock.after(9.0, lambda: happened.append("late"))
    clock.sleep(5.0)
    assert happened == [("a", 1.0), "c", ("b", 2.0), ("d", 2.0)]
    assert clock.now == 5.0


def test_time_stands_where_an_event_raised() -> None:
    clock = VirtualClock()

    def fail() -> None:
        raise KeyError("x")

    clock.after(1.0, fail)
    clock.after(2.0, lambda: None)
    with pytest.raises(KeyError):
        clock.sleep(5.0)
    assert clock.now == 1.0


def test_the_wall_clock_can_be_ten_years_off_while_time_goes_on() -> None:
    clock = VirtualClock()
    before = clock.wall()
    clock.sleep(3.0)
    assert (clock.wall() - before).total_seconds() == 3.0
    assert (clock.wall(3.2e8) - clock.wall()).days > 3600


def test_a_public_grid_can_be_used_as_one(grid: MemoryGrid) -> None:
    replies = grid.send_and_receive([asked(grid, b"one"), asked(grid, b"two", 2)], timeout=5.0)
    assert sorted(unseal(reply) for reply in replies) == [b"echo one", b"echo two"]
    assert list(grid.get_node_ids()) == [1, 2]


def test_a_wire_over_any_grid_gives_each_reply_once(grid: MemoryGrid, link: MemoryLink) -> None:
    wire = wire_over(grid, time.monotonic, time.sleep)
    assert isinstance(wire, GridWire)
    ids = [each for each in wire.push([asked(grid)]) if each is not None]
    assert dict(wire.pull(ids, lambda _: True, 1 << 20)) == {}
    link.world.clock.sleep(1.0)
    (reply,) = dict(wire.pull(ids, lambda _: True, 1 << 20)).values()
    assert isinstance(reply, Message)
    assert unseal(reply) == b"echo hello"
    assert dict(wire.pull(ids, lambda _: True, 1 << 20)) == {}


def test_a_message_waits_for_its_node_and_is_delivered_once(grid: MemoryGrid, link: MemoryLink) -> None:
    sleeper, back = Echo(EAST, link), Echo(EAST, link)
    link.activate(sleeper)
    link.deactivate(sleeper)
    grid.push_messages([asked(grid)])
    link.world.clock.sleep(1.0)
    link.activate(back)
    link.world.clock.sleep(1.0)
    link.activate(Echo(EAST, link))
    link.world.clock.sleep(1.0)
    assert (sleeper.got, back.got) == ([], [b"hello"])


def test_a_dead_node_counts_as_online_until_its_heartbeats_are_missed(
    grid: MemoryGrid, link: MemoryLink
) -> None:
    link.deactivate(link._sessions[EAST].node)
    link.world.clock.sleep(10.0)
    assert list(grid.get_node_ids()) == [1, 2]
    link.world.clock.sleep(15.0)
    assert list(grid.get_node_ids()) == [2]


def test_a_stopped_run_takes_and_gives_nothing(grid: MemoryGrid, link: MemoryLink) -> None:
    link.stop_run(grid.run.run_id)
    for use in (
        grid.get_nodes,
        lambda: grid.push_messages([asked(grid)]),
        lambda: grid.pull_messages(["1-1"]),
    ):
        with pytest.raises(LinkGoneError, match="is not running"):
            use()


def test_what_the_network_does_to_a_message_is_for_the_faults_to_say(
    grid: MemoryGrid, link: MemoryLink
) -> None:
    class Twice(Faults):
        def request(self, site: SiteName, frame: bytes) -> list[tuple[float, bytes]]:
            return [] if site == WEST else [(3.0, frame), (1.0, frame + b"!")]

    link.world.faults = Twice()
    grid.push_messages([asked(grid), asked(grid, node=2)])
    link.world.clock.sleep(5.0)
    assert link._sessions[EAST].node.got == [b"hello!", b"hello"]  # type: ignore[attr-defined]
    assert link._sessions[WEST].node.got == []  # type: ignore[attr-defined]
