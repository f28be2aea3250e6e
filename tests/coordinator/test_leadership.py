"""One coordinator leads: whoever stalls loses the lease and writes nothing more, and a clean stop hands over at once; on both databases."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from coordinator.bootstrap import Centre
from coordinator.db import migrate, open_database, reading, writing
from coordinator.db.halt_schema import LeadershipRow
from coordinator.db.schema import Run
from coordinator.leadership import Deposed, Lease, Seat, require_led_here, seat_in, seat_name
from coordinator.registry.artifacts import ArtifactStore
from coordinator.supervisor import Supervisor
from strategies.errors import CovenantError, Refused
from strategies.ids import RunId
from tests.coordinator.conftest import RUN
from tests.coordinator.test_supervisor import Starts, driven


class Moment:
    """A clock that stands until it is moved."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def goes_on(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def lease(
    engine: Engine, name: str, clock: Callable[[], datetime] | None = None, *, alone: bool = True, **more: Any
) -> Lease:
    return Lease(
        engine=engine,
        holder=f"{name} pid 1",
        seat=Seat(name, alone),
        clock=clock or (lambda: datetime.now(UTC)),
        monotonic=time.monotonic,
        **more,
    )


def test_of_two_one_leads_until_it_gives_the_lead_back(engine: Engine, opened: Callable[..., Engine]) -> None:
    first, second = lease(engine, "first"), lease(opened(), "second")
    assert first.leader() is None
    term = first.take()
    assert term is not None
    assert second.take() is None
    leader = second.leader()
    assert leader is not None
    assert (leader.holder, leader.home) == ("first pid 1", "first")
    assert first.renew(term)
    first.give_back(term)
    later = second.take()
    assert later is not None
    assert later.number == term.number + 1
    assert not first.renew(term)
    first.give_back(term)  # which is no longer its own
    assert second.renew(later)


def test_of_many_who_take_the_lead_at_once_one_leads(engine: Engine, opened: Callable[..., Engine]) -> None:
    leases, start = [lease(opened(), f"home-{each}") for each in range(6)], threading.Barrier(6)
    terms: list[object] = []

    def take(one: Lease) -> None:
        start.wait(30)
        terms.append(one.take())

    threads = [threading.Thread(target=take, args=(each,)) for each in leases]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len([each for each in terms if each is not None]) == 1
    assert len(terms) == 6


def test_the_lease_of_whoever_stalls_ends_by_the_databases_clock(
    engine: Engine, opened: Callable[..., Engine]
) -> None:
    """On PostgreSQL the clocks of both machines may say what they like."""
    wrong = Moment()
    first = lease(engine, "first", wrong if engine.dialect.name == "postgresql" else None, valid_s=0.5)
    second = lease(opened(), "second", valid_s=0.5)
    term = first.take()
    assert term is not None
    wrong.goes_on(-86400.0)
    assert second.take() is None
    deadline = time.monotonic() + 60
    while (later := second.take()) is None:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert not first.renew(term)
    assert later.number == term.number + 1


def centre_over(engine: Engine, folder: Path, clock: Callable[[], datetime], transport: Starts) -> Centre:
    return Centre(
        settings=cast("Any", None),
        engine=engine,
        artifacts=ArtifactStore(folder / "artifacts"),
        clock=clock,
        monotonic=time.monotonic,
        sleep=time.sleep,
        new_run_id=lambda: RUN,
        entropy=os.urandom,
        transport=transport,
    )


def test_what_a_leader_writes_that_was_stalled_is_refused(
    engine: Engine, opened: Callable[..., Engine], tmp_path: Path, run: RunId
) -> None:
    on_postgres = engine.dialect.name == "postgresql"
    clock, transport = Moment(), Starts()
    valid_s = 0.3 if on_postgres else 10.0
    first, second = lease(engine, "first", clock, valid_s=valid_s), lease(opened(), "second", clock)
    term = first.take()
    assert term is not None
    centre = centre_over(engine, tmp_path, clock, transport)
    driven(centre)
    Supervisor(centre, term).process_ended(7, -9)  # while it leads
    clock.goes_on(11.0)
    time.sleep(0.5 if on_postgres else 0.0)
    assert second.take() is not None
    for late in (
        lambda: Supervisor(centre, term).process_ended(101, -9),
        Supervisor(centre, term).resume_leftovers,
    ):
        with pytest.raises(
            Deposed, match=f"led in term {term.number}, which is over; term {term.number + 1} is of second"
        ):
            late()
    with reading(engine, "looking") as session:
        assert session.get_one(Run, RUN).flower_run_id == 101
    assert transport.started == [RUN]


def test_a_driver_that_was_started_while_the_term_ended_is_stopped_again(
    engine: Engine, tmp_path: Path, run: RunId
) -> None:
    class Slow(Starts):
        def start_run(self, run: RunId) -> int:
            with writing(engine, "taking over") as session:
                row = session.get_one(LeadershipRow, 1)
                row.term, row.holder = row.term + 1, "second pid 1"
            return super().start_run(run)

    clock, transport = Moment(), Slow()
    term = lease(engine, "first", clock).take()
    centre = centre_over(engine, tmp_path, clock, transport)
    driven(centre)
    with pytest.raises(Deposed):
        Supervisor(centre, term).process_ended(7, -9)
    assert transport.stopped == [7, 101]
    with reading(engine, "looking") as session:
        assert session.get_one(Run, RUN).flower_run_id == 7


def test_a_run_is_started_where_the_leader_is(engine: Engine) -> None:
    ours, others = (lambda: "first"), (lambda: "second")

    def may_start(home: Callable[[], str]) -> None:
        with writing(engine, "launching") as session:
            require_led_here(session, home, lambda: datetime.now(UTC))

    may_start(others)  # nobody leads: whoever carries runs will say so
    held = lease(engine, "first")
    term = held.take()
    assert term is not None
    may_start(ours)
    with pytest.raises(Refused, match="another coordinator leads: first pid 1; start the run with its home"):
        may_start(others)
    held.give_back(term)
    may_start(others)


# --- keeping it, which is the same on both databases


@pytest.fixture
def lone(sqlite_url: str) -> Iterator[Engine]:
    engine = open_database(sqlite_url)
    migrate(engine)
    yield engine
    engine.dispose()


def kept(one: Lease, on_lost: Callable[[], None]) -> Any:
    asked = one.monotonic()
    term = one.take()
    assert term is not None
    return one.kept(term, asked, on_lost)


def test_a_lease_is_renewed_as_long_as_it_is_kept_and_given_back_at_once(lone: Engine) -> None:
    lost: list[float] = []
    first, second = lease(lone, "first", valid_s=0.6, renew_s=0.1), lease(lone, "second")
    with kept(first, lambda: lost.append(0.0)) as keeper:
        time.sleep(1.0)
        assert second.take() is None
        assert not keeper.lost
    assert second.take() is not None
    assert lost == []


@pytest.mark.parametrize("renewal", ["fails", "hangs"])
def test_who_cannot_renew_ends_everything_while_the_lease_is_good(
    lone: Engine, monkeypatch: pytest.MonkeyPatch, renewal: str
) -> None:
    """Also where the database does not even answer."""
    ended: list[bool] = []
    first, second = lease(lone, "first", valid_s=1.0, renew_s=0.1), lease(lone, "second")

    over = threading.Event()

    def renew(*_: object) -> bool:
        if renewal == "hangs":
            over.wait(30.0)
        raise CovenantError("the database is away")

    monkeypatch.setattr(Lease, "renew", renew)
    with kept(first, lambda: ended.append(second.leader() is not None)) as keeper:
        deadline = time.monotonic() + 25
        while not keeper.lost or not ended:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert ended == [True]
    over.set()
    for each in threading.enumerate():
        if each.name == "lease":
            each.join(10)  # what it still logs is this test's


def test_who_was_replaced_is_told(lone: Engine) -> None:
    lost = threading.Event()
    first = lease(lone, "first", renew_s=0.05)
    with kept(first, lost.set) as keeper:
        with writing(lone, "taking over") as session:
            row = session.get_one(LeadershipRow, 1)
            row.term, row.holder, row.home = row.term + 1, "second pid 1", "second"
        assert lost.wait(5)
        assert keeper.lost
    leader = first.leader()
    assert leader is not None
    assert leader.home == "second"  # and was not given back


# --- the seat of a home


def test_a_home_is_served_by_one_process_and_keeps_its_name(tmp_path: Path) -> None:
    assert seat_name(tmp_path) == ""
    with seat_in(tmp_path) as first, seat_in(tmp_path) as second:
        assert (first.alone, second.alone) == (True, False)
        assert first.name == second.name == seat_name(tmp_path) != ""
    with seat_in(tmp_path) as again:
        assert (again.alone, again.name) == (True, first.name)


def test_a_coordinator_that_crashed_leads_again_at_once_when_it_is_started_again_in_its_home(
    lone: Engine,
) -> None:
    crashed = lease(lone, "first").take()
    assert crashed is not None
    assert lease(lone, "first", alone=False).take() is None  # it still runs
    assert lease(lone, "second").take() is None
    again = lease(lone, "first").take()
    assert again is not None
    with reading(lone, "looking") as session, pytest.raises(Deposed):
        crashed.require(session)
