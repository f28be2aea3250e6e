"""A service that lies, drips or is broken costs its own target and nobody else's: the driver goes on, and confirms nothing that is not so."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from sqlalchemy import Engine

from coordinator.db import writing
from coordinator.db.schema import Model
from coordinator.deploy import orders as deciding
from coordinator.deploy.driver import Driver
from coordinator.deploy.inventory import inventory, orders, recalls, rollouts
from coordinator.deploy.issuing import Decided, issuer_of
from coordinator.deploy.scoring.serving import RefusedState
from coordinator.deploy.targets.local import LocalTarget
from coordinator.deploy.targets.settings import LocalSettings
from coordinator.documents import read_root
from protos.model_stages import Stage
from protos.rollouts import Canary, RolloutRules, State
from strategies.errors import CovenantError, Refused, Unreachable
from tests.coordinator.deploy_for_tests import Serving, Works

AUTOMATIC = RolloutRules(steps=(0.1, 0.5), min_rows=100)

pytestmark = pytest.mark.slow


@pytest.fixture
def works(tmp_path: Path, engine: Engine) -> Works:
    return Works.make(tmp_path / "works", engine)


@pytest.fixture
def service(works: Works) -> Iterator[Serving]:
    """A target with a version that serves."""
    with works.serving() as service:
        works.approved(1)
        works.start(1, "branch")
        works.drive("branch")
        yield service


def states(works: Works) -> list[tuple[int, str]]:
    return [(each.version, each.state) for each in reversed(rollouts(works.centre.engine))]


@contextmanager
def dripping(head: bytes) -> Iterator[str]:
    """A service that sends `head`, and then a byte now and then for ever."""
    listener, done = socket.create_server(("127.0.0.1", 0)), threading.Event()
    listener.settimeout(0.05)
    held: list[socket.socket] = []

    def drip() -> None:
        while not done.is_set():
            try:
                found, _ = listener.accept()
                found.sendall(head)
                held.append(found)
            except TimeoutError:
                pass
            for each in list(held):
                try:
                    each.sendall(b"x")
                except OSError:
                    held.remove(each)

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        done.set()
        thread.join()
        for each in (listener, *held):
            each.close()


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nX-Slow: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_a_service_that_drips_its_answer_is_given_up_in_time(
    works: Works, tmp_path: Path, head: bytes
) -> None:
    with dripping(head) as url:
        settings = LocalSettings(state=str(tmp_path / "state"), url=url)
        began = time.monotonic()
        with pytest.raises(Unreachable, match="does not answer"):
            LocalTarget("branch", settings, read_root(works.centre.settings)).observe()
        assert time.monotonic() - began < 4.0


def test_what_is_ordered_elsewhere_does_not_wait_for_a_service_that_drips(
    works: Works, service: Serving
) -> None:
    """`a-slow` comes before `branch` in every order there is."""
    with dripping(b"HTTP/1.1 200 OK\r\nX-Slow: ") as url:
        works.add("a-slow", LocalSettings(state=str(works.home / "slow"), url=url))
        works.start(1, "a-slow")
        works.move(1, Stage.QUARANTINED)
        thread = threading.Thread(target=works.driver.drive_all)
        began = time.monotonic()
        thread.start()
        while service.opened:
            assert time.monotonic() - began < 1.5
            service.look()
        thread.join()


@pytest.mark.parametrize(
    "broken",
    [
        lambda status: status.replace('"scores":[0,', '"scores":['),
        lambda status: status.replace('"requests":0', f'"requests":{10**400}'),
        lambda status: status.replace('"latency_sum_ms":0.0', '"latency_sum_ms":NaN'),
        lambda status: "[" * 100_000,
    ],
)
def test_a_status_that_makes_no_sense_stops_no_other_target(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch, broken: Callable[[str], str]
) -> None:
    works.approved(2)
    works.start(2, "branch", Canary(0.1), AUTOMATIC)
    works.drive("branch")
    with works.serving("later") as later:
        works.start(1, "later")
        text = broken(service.status().model_dump_json())

        class Lying:
            def model_dump_json(self) -> str:
                return text

        monkeypatch.setattr(service, "status", Lying)
        with pytest.raises(Refused, match="does not tell a status"):
            works.driver.drive("branch")
        works.driver.drive_all()
        later.look()
        works.driver.drive_all()
    assert {each.target for each in inventory(works.centre.engine)} == {"branch", "later"}
    assert states(works)[1] == (2, "canary")


def test_a_defect_at_one_target_stops_no_other(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    with works.serving("later") as later:
        works.start(1, "later")

        def fails(*_: object) -> None:
            raise RecursionError

        real = LocalTarget.give
        monkeypatch.setattr(
            LocalTarget,
            "give",
            lambda self, order: real(self, order) if "later" in str(self._folder) else fails(),
        )
        works.approved(2)
        works.start(2, "branch")
        works.driver.drive_all()
        later.look()
        works.driver.drive_all()
    assert "later" in {each.target for each in inventory(works.centre.engine)}


@pytest.mark.parametrize("why", ["nul \x00 and \x1b[2J", "\n", "long " * 5000])
def test_whatever_words_a_service_refuses_with_its_order_is_taken_back(
    works: Works, service: Serving, why: str
) -> None:
    works.approved(2)
    works.start(2, "branch")
    service.refused = RefusedState(revision=2, why=why)
    works.driver.drive("branch")
    (newest, refused, _) = orders(works.centre.engine, "branch")
    assert refused.refused is not None
    assert 0 < len(refused.refused) <= 500
    assert "\x00" not in newest.why + refused.refused
    assert "\x1b" not in newest.why + refused.refused
    assert newest.state == State.FAILED


def test_an_order_is_not_in_force_where_another_model_answers(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where somebody tries a model on the service's port."""
    works.approved(2)
    works.start(2, "branch")
    said = service.status().model_copy(update={"revision": 2})
    monkeypatch.setattr(service, "status", lambda: said)
    with pytest.raises(Refused, match=r"runs lending-default@1, .* another service"):
        works.driver.drive("branch")
    assert [(each.arm, each.version) for each in inventory(works.centre.engine)] == [("stable", 1)]


def test_a_recall_is_not_confirmed_by_a_service_that_still_runs_the_model(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.move(1, Stage.QUARANTINED)
    said = service.status().model_copy(update={"revision": 2})
    monkeypatch.setattr(service, "status", lambda: said)
    with pytest.raises(Refused, match="another service"):
        works.driver.drive("branch")
    assert [each.confirmed_at for each in recalls(works.centre.engine)] == [None]


def two_versions(works: Works) -> None:
    """A second version has served after the first, and a third is on trial beside it."""
    works.approved(2)
    works.start(2, "branch")
    works.drive("branch")
    works.approved(3)
    works.start(3, "branch", Canary(0.1), AUTOMATIC)
    works.drive("branch")


def test_a_rollback_by_figures_does_not_take_back_what_serves_after_one_by_hand(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two drivers: between what one has seen and what it decides, somebody takes the trial back and the other confirms that."""
    two_versions(works)
    service.count("stable", rows=1000)
    service.count("challenger", rows=1000, errors=500)
    real = Driver._take_back

    def later(self: Driver, *given: object, **named: object) -> None:
        monkeypatch.setattr(Driver, "_take_back", real)
        works.roll_back("branch")
        works.taken_over().drive("branch")
        real(self, *given, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Driver, "_take_back", later)
    works.driver.drive("branch")
    works.drive("branch")
    assert states(works) == [(1, "superseded"), (2, "full"), (3, "rolled_back")]


def test_a_promotion_by_figures_is_of_what_they_were_about(works: Works, service: Serving) -> None:
    two_versions(works)
    seen = orders(works.centre.engine, "branch")[0].revision
    works.roll_back("branch")
    works.drive("branch")
    works.start(3, "branch", Canary(0.1))
    works.drive("branch")
    decided = Decided(by="the rollout's rules", why="all is well", at=works.centre.clock())
    supports = frozenset({State.CANARY, State.FULL})
    deciding.promote(issuer_of(works.centre), decided, "branch", Canary(0.5), supports=supports, seen=seen)
    assert next((each.state, each.share) for each in rollouts(works.centre.engine)) == ("canary", 0.1)


def test_a_recall_does_not_wait_for_a_lost_file_of_the_version_before(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch")
    works.drive("branch")
    with writing(works.centre.engine, "looking") as session:
        artifacts = session.get_one(Model, ("lending-default", 1)).artifacts
    works.centre.artifacts.path(artifacts["model.onnx"]).unlink()
    works.move(2, Stage.QUARANTINED)
    for _ in range(3):
        with suppress(CovenantError):
            works.driver.drive("branch")
        service.look()
    works.driver.drive("branch")
    assert service.opened == {}
    assert inventory(works.centre.engine) == []
    assert all(each.confirmed_at is not None for each in recalls(works.centre.engine))


def test_a_machine_that_forgot_what_it_accepted_is_out_of_service_after_a_recall(
    works: Works, service: Serving
) -> None:
    """The recall is not confirmed, and a person mends the machine; but nothing serves until then."""
    (service.state / "accepted" / "accepted.json").write_bytes(b"")
    works.move(1, Stage.QUARANTINED)
    with pytest.raises(Refused, match="is empty"):
        works.driver.drive("branch")
    service.look()
    assert service.opened == {}
    with pytest.raises(Refused, match="is empty"):
        works.driver.drive("branch")
    assert [each.confirmed_at for each in recalls(works.centre.engine)] == [None]
