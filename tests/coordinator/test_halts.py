"""A halt is recorded with all that it stops; nothing that it covers is launched, resumed or settled before two officers lift it; on both databases."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
from sqlalchemy import Engine, select

from coordinator.bootstrap import Centre
from coordinator.db import migrate, open_database, reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Run, RunState
from coordinator.documents import read_plan
from coordinator.governance.halted import Halted, HaltWatch, SitesHalted
from coordinator.governance.halts import halt, say_lift, take_order, view, views
from coordinator.governance.members import Listed
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.record import RoundConflict
from coordinator.rounds.store import RoundStore
from coordinator.runs import record, resume, stop
from coordinator.settings import load_settings
from coordinator.supervisor import Supervisor
from protos.frames import Stage
from protos.halts import HaltOrder
from protos.membership import MemberList, Membership, Officer, Role
from strategies.encoding import canonical_json
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest, RunId, SiteName
from tests.coordinator.cli_for_tests import SITES, make_home, membership
from tests.coordinator.conftest import Clock
from tests.coordinator.test_supervisor import Starts
from tests.halts_for_tests import ordered, would_lift
from tests.private_plan_for_tests import NONE, write_documents
from tests.trust_for_tests import FAR, key_of, officers

RUN, OTHER = RunId("run-0000000000000001"), RunId("run-0000000000000002")
STATEMENT = Digest("cd" * 32)
PATIENCE_S = 60.0
PEOPLE = {"privacy-1": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK, "admin-1": Role.ADMIN}


def trusted(version: int = 1, *, without: str = "") -> Membership:
    """The plan's sites and officers, on a signed list."""
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in PEOPLE.items()
        if name != without
    )
    sites = tuple(
        each.model_copy(update={"identity_key": key_of(each.site).public})
        for each in membership().signed.list.members
    )
    return officers().sign(MemberList(name="demo", version=version, members=sites, officers=people))


TRUSTED = trusted()
LISTED = Listed.of(TRUSTED, officers().pinned)


@dataclass
class Desk:
    """A coordinator with a plan that can be launched."""

    centre: Centre
    folder: Path
    transport: Starts = field(default_factory=Starts)

    def launch(self, run: RunId = RUN) -> None:
        plan, contract = read_plan(self.folder / "plan.yaml")
        record(self.centre, RunDocuments(run=run, plan=plan, contract=contract, members=TRUSTED.canonical))

    def driven(self, run: RunId = RUN, flower_run: int = 7) -> RoundStore:
        store = RoundStore(self.centre.engine, self.centre.artifacts, run, self.centre.clock)
        store.start(flower_run)
        return store

    def halt(self, order: HaltOrder) -> str:
        return halt(self.centre, order, LISTED).state

    def lift(self, order: HaltOrder, *names: str) -> None:
        for name in names:
            said = would_lift(order.digest, name, at=self.centre.clock())
            say_lift(self.centre, order.id, said, LISTED)

    def run(self, run: RunId = RUN) -> Run:
        with reading(self.centre.engine, "looking") as session:
            return session.get_one(Run, run)

    def kinds(self) -> list[str]:
        with reading(self.centre.engine, "looking") as session:
            return list(session.scalars(select(LoggedEntry.kind).order_by(LoggedEntry.seq)))

    def again(self, opened: Callable[..., Engine]) -> Centre:
        """The same coordinator over connections of its own."""
        return Centre(**{**_facts(self.centre), "engine": opened(lock_timeout_s=PATIENCE_S)})


def _facts(centre: Centre) -> dict[str, Any]:
    return {name: getattr(centre, name) for name in Centre.__dataclass_fields__}


def desk_over(engine: Engine, folder: Path) -> Desk:
    transport = Starts()
    make_home(folder / "home")
    centre = Centre(
        settings=load_settings(folder / "home"),
        engine=engine,
        artifacts=ArtifactStore(folder / "artifacts"),
        clock=Clock(),
        monotonic=time.monotonic,
        sleep=time.sleep,
        new_run_id=lambda: RUN,
        entropy=os.urandom,
        transport=transport,
    )
    write_documents(folder, *NONE)
    return Desk(centre, folder, transport)


@pytest.fixture
def desk(engine: Engine, tmp_path: Path) -> Desk:
    return desk_over(engine, tmp_path)


@pytest.fixture
def lone(tmp_path: Path, sqlite_url: str) -> Desk:
    """On SQLite alone, for what the database has no part in."""
    engine = open_database(sqlite_url)
    migrate(engine)
    return desk_over(engine, tmp_path)


def test_all_stops_what_is_going_and_launches_and_resumes_nothing_until_two_officers_lift_it(
    desk: Desk,
) -> None:
    desk.launch()
    desk.driven()
    desk.launch(OTHER)
    order = ordered(by="officer risk-1", reason="the figures are odd")
    assert desk.halt(order) == "stands"
    for run in (RUN, OTHER):
        assert desk.run(run).state == RunState.STOPPED
        assert "officer risk-1 halted everything" in str(desk.run(run).reason)
        assert "the figures are odd" in str(desk.run(run).reason)
    assert desk.transport.stopped == [7]
    assert desk.kinds()[-3:] == ["halted", "ended", "ended"]
    with pytest.raises(
        Halted, match=r"launching run-\w+: officer risk-1 halted everything .* the figures are odd"
    ):
        desk.launch(RunId("run-0000000000000003"))
    with pytest.raises(Halted, match=f"resuming {RUN}: .*`covenant halt lift {order.id}`"):
        resume(desk.centre, RUN)
    desk.lift(order, "risk-1")
    assert view(desk.centre.engine, order.id).state == "stands (1 of 2 would lift it)"
    with pytest.raises(Halted):
        resume(desk.centre, RUN)
    desk.lift(order, "privacy-1")
    assert (view(desk.centre.engine, order.id).state, desk.kinds()[-1]) == ("lifted", "halt-lifted")
    resume(desk.centre, RUN)
    desk.launch(RunId("run-0000000000000003"))
    assert desk.run().state == RunState.SUBMITTED


def test_a_run_that_is_halted_leaves_others_alone(lone: Desk) -> None:
    lone.launch()
    lone.launch(OTHER)
    order = ordered("run", RUN, by="site west")
    lone.halt(order)
    assert [lone.run(each).state for each in (RUN, OTHER)] == [RunState.STOPPED, RunState.SUBMITTED]
    with pytest.raises(Halted, match="site west halted run"):
        resume(lone.centre, RUN)
    stop(lone.centre, OTHER)
    resume(lone.centre, OTHER)
    lone.lift(order, "privacy-1", "risk-1")
    resume(lone.centre, RUN)


def test_a_halted_site_is_asked_by_no_run_and_invited_by_no_launch(lone: Desk) -> None:
    lone.launch()
    store = lone.driven()
    attempt = store.next_attempt(Stage.PREPARE, 0, SITES)
    order = ordered("site", "south")
    lone.halt(order)
    assert lone.run().state == RunState.RUNNING
    with pytest.raises(SitesHalted, match=r"settling the prepare stage .* halted site south"):
        store.settle_attempt(Stage.PREPARE, 0, attempt, [SiteName(each) for each in SITES], None)
    with pytest.raises(SitesHalted):
        store.next_attempt(Stage.PREPARE, 0, SITES)
    rest = tuple(SiteName(each) for each in SITES if each != "south")
    store.settle_attempt(Stage.PREPARE, 0, attempt, rest, None)
    assert HaltWatch(lone.centre.engine, RUN, time.monotonic)() == {"south"}
    with pytest.raises(SitesHalted, match="launching"):
        lone.launch(OTHER)
    stop(lone.centre, RUN)
    resume(lone.centre, RUN)  # without that site
    lone.lift(order, "privacy-1", "admin-1")
    lone.launch(OTHER)


def test_no_driver_begins_or_settles_anything_under_a_halt(
    lone: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the driver knows, and though its run was not stopped: the order came between the launch and the sweep."""
    lone.launch()
    store = lone.driven()
    attempt = store.next_attempt(Stage.PREPARE, 0, SITES)
    monkeypatch.setattr("coordinator.governance.halts._going", lambda _: select(Run).where(Run.id == "none"))
    order = ordered()
    lone.halt(order)
    assert lone.run().state == RunState.RUNNING
    for step in (
        lambda: store.settle_attempt(Stage.PREPARE, 0, attempt, [SiteName("west")], b"secret"),
        lambda: store.next_attempt(Stage.PREPARE, 0, SITES),
        lambda: store.open_round(1, SITES),
        lambda: lone.driven(flower_run=8),
    ):
        with pytest.raises(Halted, match="halted everything"):
            step()
    with pytest.raises(Halted, match="stops"):
        HaltWatch(lone.centre.engine, RUN, time.monotonic)()
    assert "settled" not in lone.kinds()
    Supervisor(lone.centre).resume_leftovers()
    assert (lone.run().state, lone.run().reason, lone.transport.started) == (
        RunState.STOPPED,
        order.words,
        [],
    )


def test_the_settling_asks_for_halts_where_nobody_can_come_between(
    desk: Desk, opened: Callable[..., Engine]
) -> None:
    """A halt and a settling at once, many times: in the log no sum is settled after the order."""
    for number in range(3):
        run = RunId(f"run-{number:016x}")
        desk.launch(run)
        store = desk.driven(run, 10 + number)
        attempt = store.next_attempt(Stage.PREPARE, 0, SITES)
        order = ordered("site", "south")
        raised = at_once(
            [
                partial(halt, desk.again(opened), order, LISTED),
                partial(store.settle_attempt, Stage.PREPARE, 0, attempt, [SiteName(s) for s in SITES], None),
            ]
        )
        kinds = desk.kinds()
        last = len(kinds) - 1 - kinds[::-1].index("halted")
        settled = raised[1] is None
        assert raised[0] is None
        assert isinstance(raised[1], SitesHalted | None)
        assert ("settled" in kinds[last:]) is False
        assert settled == ("settled" in kinds[last - 1 : last])
        desk.lift(order, "privacy-1", "risk-1")


def test_of_a_halt_and_a_launch_at_once_either_the_launch_is_refused_or_its_run_is_stopped(
    desk: Desk, opened: Callable[..., Engine]
) -> None:
    for number in range(3):
        run, order = RunId(f"run-{number:016x}"), ordered()
        launching = Desk(desk.again(opened), desk.folder)
        raised = at_once([partial(halt, desk.again(opened), order, LISTED), partial(launching.launch, run)])
        assert raised[0] is None
        if raised[1] is None:
            assert desk.run(run).state == RunState.STOPPED
        else:
            assert isinstance(raised[1], Halted)
            with reading(desk.centre.engine, "looking") as session:
                assert session.get(Run, run) is None
        desk.lift(order, "privacy-1", "risk-1")


def test_two_officers_who_halt_at_once_both_do(desk: Desk, opened: Callable[..., Engine]) -> None:
    desk.launch()
    orders = [ordered(by="officer privacy-1"), ordered(by="officer risk-1")]
    assert at_once([partial(halt, desk.again(opened), each, LISTED) for each in orders]) == [None, None]
    assert desk.kinds().count("halted") == 2
    assert desk.kinds().count("ended") == 1
    desk.lift(orders[0], "privacy-1", "risk-1")
    with pytest.raises(Halted):
        resume(desk.centre, RUN)
    desk.lift(orders[1], "privacy-1", "risk-1")
    resume(desk.centre, RUN)


def test_one_order_that_comes_twice_at_once_is_recorded_once(
    desk: Desk, opened: Callable[..., Engine]
) -> None:
    order = ordered()
    assert at_once([partial(halt, desk.again(opened), order, LISTED) for _ in range(2)]) == [None, None]
    assert desk.kinds().count("halted") == 1


def test_two_officers_who_lift_at_once_are_two(desk: Desk, opened: Callable[..., Engine]) -> None:
    order = ordered()
    desk.halt(order)
    said = [would_lift(order.digest, each, at=desk.centre.clock()) for each in ("privacy-1", "risk-1")]
    steps = [partial(say_lift, desk.again(opened), order.id, each, LISTED) for each in said]
    assert at_once(steps) == [None, None]
    assert view(desk.centre.engine, order.id).state == "lifted"
    assert desk.kinds().count("halt-lifted") == 1


def at_once(steps: list[Callable[[], object]]) -> list[BaseException | None]:
    """Take all steps in threads that start together; what each one raised."""
    start, raised = threading.Barrier(len(steps)), cast("list[BaseException | None]", [None] * len(steps))

    def one(at: int) -> None:
        start.wait(PATIENCE_S)
        try:
            steps[at]()
        except CovenantError as error:
            raised[at] = error

    threads = [threading.Thread(target=one, args=(at,)) for at in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
    return raised


# --- who counts


def test_one_officer_twice_lifts_nothing(lone: Desk) -> None:
    order = ordered()
    lone.halt(order)
    lone.lift(order, "privacy-1", "privacy-1")
    assert view(lone.centre.engine, order.id).state == "stands (1 of 2 would lift it)"


def test_an_officer_who_has_left_meanwhile_does_not_count(lone: Desk) -> None:
    order = ordered()
    lone.halt(order)
    lone.lift(order, "privacy-1")
    later = Listed.of(trusted(2, without="privacy-1"), officers().pinned)
    found = say_lift(lone.centre, order.id, would_lift(order.digest, "risk-1", at=lone.centre.clock()), later)
    assert found.said == ("risk-1",)
    say_lift(lone.centre, order.id, would_lift(order.digest, "admin-1", at=lone.centre.clock()), later)
    assert view(lone.centre.engine, order.id).state == "lifted"
    with pytest.raises(Refused, match="was lifted at"):
        say_lift(lone.centre, order.id, would_lift(order.digest, "risk-1", at=lone.centre.clock()), later)


def test_an_order_that_does_not_count_leaves_nothing(lone: Desk) -> None:
    lone.launch()
    before = lone.kinds()
    for order, words in (
        (ordered(by="officer stranger"), "no officer"),
        (ordered(key=key_of("stranger")), "not signed with their key"),
        (ordered("site", "east"), "east is not on member list"),
    ):
        with pytest.raises(Refused, match=words):
            lone.halt(order)
    with pytest.raises(UsageError, match="there is no run"):
        lone.halt(ordered("run", OTHER))
    assert (lone.kinds(), views(lone.centre.engine)) == (before, [])
    assert lone.run().state == RunState.SUBMITTED


def test_an_order_that_was_lifted_does_not_come_back(lone: Desk) -> None:
    order = ordered()
    lone.halt(order)
    lone.halt(order)  # said again
    lone.lift(order, "privacy-1", "risk-1")
    with pytest.raises(Refused, match="does not come back; give another order"):
        lone.halt(order)


def test_a_halt_is_named_by_how_its_id_begins(lone: Desk) -> None:
    order = ordered()
    lone.halt(order)
    assert view(lone.centre.engine, order.id[:8]).order == order
    for wrong in ("", "%", "_", "zz", order.id + "0"):
        with pytest.raises(UsageError, match="covenant halt list"):
            view(lone.centre.engine, wrong)


# --- what a site sends


def test_the_order_in_a_sites_refusal_halts_the_run_for_everybody(lone: Desk) -> None:
    lone.launch()
    lone.driven()
    order = ordered("run", RUN, by="site west", reason="our rows are wrong")
    take_order(lone.centre, RUN, SiteName("west"), order.canonical)
    assert (lone.run().state, lone.run().reason) == (RunState.STOPPED, order.words)
    assert lone.kinds()[-2:] == ["halted", "ended"]
    take_order(lone.centre, RUN, SiteName("west"), order.canonical)
    assert lone.kinds().count("halted") == 1


def test_an_order_in_a_refusal_that_does_not_count_changes_nothing(lone: Desk) -> None:
    lone.launch()
    lone.driven()
    wrong = [
        b"no order",
        ordered("run", OTHER, by="site west").canonical,  # about another run
        ordered("run", RUN, by="site south").canonical,  # of another site
        ordered("run", RUN, by="officer risk-1").canonical,
        ordered("run", RUN, by="site west", key=key_of("stranger")).canonical,
        canonical_json({"covenant": "halt/v1"}),
    ]
    for evidence in wrong:
        take_order(lone.centre, RUN, SiteName("west"), evidence)
    assert (lone.run().state, views(lone.centre.engine)) == (RunState.RUNNING, [])


def test_whoever_waits_asks_five_times_a_second_and_hears_within_one(lone: Desk) -> None:
    lone.launch()
    lone.driven()
    now = [0.0]
    watch = HaltWatch(lone.centre.engine, RUN, lambda: now[0])
    assert watch() == frozenset()
    lone.halt(ordered())
    now[0] = 0.19
    assert watch() == frozenset()
    now[0] = 0.2
    with pytest.raises(Halted):
        watch()


def test_a_driver_that_is_late_finds_its_run_stopped(lone: Desk) -> None:
    lone.launch()
    store = lone.driven()
    order = ordered("run", RUN)
    lone.halt(order)
    store.finish("stopped", order.words)
    with pytest.raises(RoundConflict, match="has already stopped"):
        store.finish("failed", "another reason")
