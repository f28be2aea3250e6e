"""What a member site can answer to keep a run from going on, and what comes of it: the site is named, and the others are heard."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from flwr.app import ConfigRecord, Error, RecordDict

from coordinator.flower import grid as grid_module
from coordinator.flower import wire as wire_module
from coordinator.flower.grid import PromptGrid
from coordinator.flower.wire import HttpWire
from coordinator.rounds.asking import Asked, Asking
from coordinator.rounds.exchange import Answered, Unanswered
from coordinator.rounds.roster import Roster
from protos import envelope
from protos.documents import read_document
from protos.frames import Stage
from protos.plan import Plan
from strategies.errors import Refused
from tests.coordinator.test_grid import KEYS, SOUTH, WEST, FakeSuperLink, _identity, ask, grid, piece
from tests.flower_for_tests import message
from tests.protos.documents_for_tests import PLAN

__all__ = ["_identity"]


@dataclass
class Slow(FakeSuperLink):
    """Each object takes a second to fetch. `fetched` counts what was asked for."""

    fetched: Counter[str] = field(default_factory=Counter)

    def PullObject(self, request: Any) -> Any:
        self.fetched[request.object_id] += 1
        self.sleep(1.0)
        return super().PullObject(request)


def bounded(superlink: FakeSuperLink, most: int, **others: Any) -> PromptGrid:
    wire = HttpWire(superlink, lambda: superlink.now, superlink.sleep)  # type: ignore[arg-type]
    return PromptGrid(
        wire, KEYS, monotonic=lambda: superlink.now, sleep=superlink.sleep, most_reply_bytes=most, **others
    )


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envelope, "PIECE_BYTES", 1000)


@pytest.mark.parametrize("digits", [4299, 4300, 5000])
def test_a_record_whose_number_is_too_long_for_python_names_its_site_and_ends_nothing(digits: int) -> None:
    superlink = FakeSuperLink()
    content = RecordDict({"frame-" + "9" * digits: ConfigRecord({"bytes": b"x"})})
    superlink.replies.append((100.1, 0, message(content, reply_to="message-0")))
    superlink.answer(100.1, 1, b"from south")
    found = ask(superlink)
    assert found[WEST] == Unanswered("piece 1 of 1 of a frame is missing")
    assert found[SOUTH] == Answered(b"from south")


@pytest.mark.parametrize("broken", [ValueError("x"), TypeError("x"), KeyError("x")])
def test_whatever_a_reply_makes_of_its_reader_is_its_sites_fault(
    monkeypatch: pytest.MonkeyPatch, broken: Exception
) -> None:
    """Should flwr's records behave otherwise one day than ours have judged."""

    def unseal(*_: object) -> bytes:
        raise broken

    monkeypatch.setattr(grid_module, "unseal", unseal)
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, b"from west")
    superlink.answer(100.1, 1, b"from south")
    assert ask(superlink)[WEST] == Unanswered(f"sent what is no frame: {type(broken).__name__}")


@pytest.mark.usefixtures("small_pieces")
def test_a_reply_larger_than_the_plans_is_not_fetched_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.flower.arriving._SPARE_BYTES", 500)
    superlink = Slow()
    superlink.answer(100.1, 0, bytes(range(256)) * 400)
    superlink.answer(100.1, 1, b"from south")
    found = ask(superlink, bounded(superlink, 4000), deadline_s=600.0)
    assert found[WEST].reason.startswith("sent 5")
    assert found[WEST].reason.endswith(" bytes in one answer; the largest that this run asks for has 4000")
    assert found[SOUTH] == Answered(b"from south")
    assert sum(superlink.fetched.values()) < 10


def test_a_small_message_of_a_large_frame_is_no_answer() -> None:
    """One object under fifty names."""
    superlink = FakeSuperLink()
    part = ConfigRecord({"bytes": bytes(1000)})
    content = RecordDict({f"frame-{number:05d}": part for number in range(50)})
    superlink.replies.append((100.1, 0, message(content, reply_to="message-0")))
    superlink.answer(100.1, 1, b"from south")
    found = ask(superlink, bounded(superlink, 4000))
    assert found[WEST] == Unanswered("a frame of 50000 bytes; at most 4000 are accepted")


@pytest.mark.usefixtures("small_pieces")
def test_an_order_to_stop_is_looked_at_while_a_reply_is_fetched() -> None:
    superlink = Slow()
    superlink.answer(100.1, 0, bytes(range(256)) * 400)

    def halted() -> frozenset[str]:
        if superlink.now > 105.0:
            raise Refused("everything stops")
        return frozenset()

    with pytest.raises(Refused, match="everything stops"):
        ask(superlink, bounded(superlink, 1 << 20, halted=halted), deadline_s=600.0)
    assert superlink.now < 107.0


@pytest.mark.usefixtures("small_pieces")
def test_the_reply_of_a_site_that_is_halted_meanwhile_is_not_fetched_to_its_end() -> None:
    superlink = Slow()
    superlink.answer(100.1, 0, bytes(range(256)) * 400)
    superlink.answer(100.1, 1, b"from south")
    prompt = bounded(superlink, 1 << 20, halted=lambda: {WEST} if superlink.now > 105.0 else frozenset())
    assert ask(superlink, prompt, deadline_s=600.0) == {
        WEST: Unanswered("is halted"),
        SOUTH: Answered(b"from south"),
    }
    assert superlink.now < 112.0


@pytest.mark.usefixtures("small_pieces")
def test_the_deadline_ends_a_reply_that_is_fetched_for_too_long() -> None:
    superlink = Slow()
    superlink.answer(100.1, 0, bytes(range(256)) * 400)
    superlink.answer(100.1, 1, b"from south")
    found = ask(superlink, bounded(superlink, 1 << 20), deadline_s=10.0)
    assert "before the deadline" in found[WEST].reason
    assert superlink.now < 118.0


@pytest.mark.usefixtures("small_pieces")
def test_what_came_in_time_is_fetched_a_little_after_the_deadline() -> None:
    superlink = Slow()
    superlink.answer(108.5, 0, bytes(range(256)) * 8)
    superlink.answer(108.5, 1, b"from south")
    found = ask(superlink, bounded(superlink, 1 << 20), deadline_s=10.0)
    assert isinstance(found[WEST], Answered)


@pytest.mark.usefixtures("small_pieces")
def test_what_was_given_up_is_not_fetched_again_before_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two sites withhold a piece each of a large reply: one of them is looked for from its end, and nothing large comes at every look."""
    monkeypatch.setattr(wire_module, "_MOST_SET_ASIDE", 0)
    superlink = Slow()
    for place, first in enumerate((0, 7)):
        superlink.answer(100.1, place, bytes((first + number) % 251 for number in range(4500)))
        superlink.never.add(piece(superlink, 4))
    found = ask(superlink, bounded(superlink, 1 << 20), deadline_s=120.0)
    withheld = {name: superlink.fetched.pop(name) for name in superlink.never}
    assert len(withheld) == 2
    assert min(withheld.values()) > 10
    assert max(superlink.fetched.values()) <= 2
    assert {each.reason for each in found.values()} == {
        "sent 3 of 5 pieces of its answer before the deadline; piece 4 did not come",
        "piece 4 of 5 of its answer did not come before the deadline",
    }


@pytest.mark.usefixtures("small_pieces")
def test_what_was_given_up_is_fetched_once_it_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire_module, "_MOST_SET_ASIDE", 0)
    superlink = Slow()
    for place, first in enumerate((0, 7)):
        superlink.answer(100.1, place, bytes((first + number) % 251 for number in range(4500)))
        superlink.never.add(piece(superlink, 4))
    superlink.happening.append((130.0, superlink.never.clear))
    found = ask(superlink, bounded(superlink, 1 << 20), deadline_s=120.0)
    assert all(isinstance(each, Answered) for each in found.values())


def test_a_message_that_answers_nothing_is_not_fetched() -> None:
    """A SuperLink also hands over what was addressed to the run itself."""
    stray = message(RecordDict({"frame-00000": ConfigRecord({"bytes": bytes(100)})}))

    class Stray(Slow):
        def PullMessages(self, request: Any) -> Any:
            request.message_ids.append("message-99")
            return super().PullMessages(request)

    superlink = Stray()
    superlink.replies.append((100.0, 99, stray))
    superlink.answer(100.1, 0, b"from west")
    superlink.answer(100.1, 1, b"from south")
    found = ask(superlink)
    assert found == {WEST: Answered(b"from west"), SOUTH: Answered(b"from south")}
    assert stray.object_id not in superlink.fetched
    assert stray.object_id in superlink.confirmed


@pytest.mark.parametrize(
    ("said", "recorded"),
    [
        ("no\x00memory\n", "no memory "),
        ("x" * 5000, "x" * 1000 + "..."),
    ],
)
def test_what_a_site_says_of_its_trouble_can_be_recorded(said: str, recorded: str) -> None:
    superlink = FakeSuperLink()
    superlink.answer(100.1, 0, error=Error(4, said))
    prompt = grid(superlink)
    roster = Roster(
        read_document(PLAN, Plan, "plan.yaml").sites, prompt, lambda: superlink.now, superlink.sleep
    )
    asking = Asking(prompt, roster, 10.0, lambda *_: True, lambda *_: False)
    asked = Asked({WEST: b"frame"}, lambda _: "0" * 64)
    assert asking.ask(Stage.TRAIN, 1, asked, lambda *_: None) == {WEST: recorded}
