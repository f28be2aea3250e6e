"""No committed round is lost, none is committed twice, and a driver that was replaced changes nothing."""

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import Engine, event, select

from coordinator.db import reading, writing
from coordinator.db.schema import Attempt, Checkpoint, Round, RoundState, Run, RunState
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.record import RoundConflict
from coordinator.rounds.store import RoundStore
from protos.frames import Stage
from strategies.analytics.histograms import ScoreMetrics, metrics_from
from strategies.analytics.panels import Panels, ProfilePanel
from strategies.encoding import vector_digest
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.ids import Digest, RunId
from strategies.server_optimizers import OptimizerState
from tests.coordinator.conftest import DIGEST, Clock

ROSTER = ("west", "east", "south")
STATEMENT = Digest("cd" * 32)
SCALING = Scaling(mean=(0.1, 1 / 3), std=(0.7, 1e-6))
MODEL = np.array([0.1, -0.0, 1e-300, 2.5])
STATE = OptimizerState(0, (np.zeros(4),))


@pytest.fixture
def store(engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock) -> RoundStore:
    """A run that was started and begun."""
    opened = RoundStore(engine, artifacts, run, clock)
    opened.start(2**64 - 1)
    begun(opened, SCALING, MODEL, STATE)
    return opened


def begun(store: RoundStore, scaling: Scaling, model: np.ndarray, state: OptimizerState) -> None:
    attempt = store.next_attempt(Stage.PREPARE, 0, ROSTER)
    store.begin(scaling, model, state, attempt=attempt, survivors=ROSTER)


def evaluated(store: RoundStore, number: int, metrics: ScoreMetrics) -> None:
    attempt = store.next_attempt(Stage.EVALUATE, number, ROSTER)
    store.record_metrics(number, metrics, attempt=attempt, survivors=ROSTER[:2])


def commit(store: RoundStore, number: int, attempt: int, model: np.ndarray = MODEL) -> None:
    state = OptimizerState(number, (model / 2,))
    store.commit(
        number,
        attempt,
        aggregate=store.keep_aggregate(model * 3),
        model=model,
        optimizer=state,
        exchange_s=0.25,
        seconds=1.5,
    )


def committed(store: RoundStore, number: int, model: np.ndarray = MODEL) -> None:
    attempt = store.open_round(number, ROSTER)
    store.settle(number, attempt, ROSTER, STATEMENT)
    commit(store, number, attempt, model)


def rows(engine: Engine) -> list[Round]:
    with reading(engine, "looking") as session:
        return list(session.scalars(select(Round).order_by(Round.number, Round.attempt)))


def the_run(engine: Engine) -> Run:
    with reading(engine, "looking") as session:
        return session.scalars(select(Run)).one()


def test_a_run_that_has_not_begun_has_nothing_to_go_on_from(
    engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock
) -> None:
    store = RoundStore(engine, artifacts, run, clock)
    store.start(1)
    assert store.last_committed() is None
    assert store.scaling() is None
    with pytest.raises(RoundConflict, match="no initial model yet"):
        store.open_round(1, ROSTER)


def test_a_new_driver_goes_on_from_the_last_committed_round_to_the_bit(
    store: RoundStore, engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock
) -> None:
    committed(store, 1)
    committed(store, 2, MODEL + 1)
    restarted = RoundStore(engine, artifacts, run, clock)
    last = restarted.last_committed()
    assert last is not None
    assert last.number == 2
    assert last.model.tobytes() == (MODEL + 1).tobytes()
    assert last.optimizer.digest == OptimizerState(2, ((MODEL + 1) / 2,)).digest
    assert restarted.scaling() == SCALING


def test_the_initial_model_is_checkpoint_zero(store: RoundStore, engine: Engine) -> None:
    last = store.last_committed()
    assert last is not None
    assert (last.number, last.model.tobytes()) == (0, MODEL.tobytes())
    assert rows(engine) == []


def test_scaling_and_initial_model_are_fixed_by_the_first_committed_round(store: RoundStore) -> None:
    begun(store, replace(SCALING, mean=(0.0, 0.0)), MODEL, STATE)
    begun(store, SCALING, MODEL, STATE)
    committed(store, 1)
    with pytest.raises(RoundConflict, match="are fixed"):
        begun(store, replace(SCALING, mean=(0.0, 0.0)), MODEL, STATE)
    assert store.scaling() == SCALING


def test_a_committed_round_records_who_what_and_when(store: RoundStore, engine: Engine) -> None:
    attempt = store.open_round(1, ROSTER)
    store.settle(1, attempt, ["west", "east"], STATEMENT)
    commit(store, 1, attempt)
    (row,) = rows(engine)
    assert (row.number, row.attempt, row.state) == (1, 1, RoundState.COMMITTED)
    assert (row.roster, row.survivors) == (["east", "south", "west"], ["east", "west"])
    assert (row.statement_digest, row.aggregate_digest) == (STATEMENT, vector_digest(MODEL * 3))
    assert row.model_digest == vector_digest(MODEL)
    assert row.optimizer_digest == OptimizerState(1, (MODEL / 2,)).digest
    assert (row.exchange_s, row.seconds) == (0.25, 1.5)
    assert row.closed_at is not None
    assert row.closed_at > row.opened_at


def test_an_attempt_left_open_by_a_crash_is_voided_by_the_next(store: RoundStore, engine: Engine) -> None:
    assert store.open_round(1, ROSTER) == 1
    store.settle(1, 1, ROSTER, STATEMENT)
    assert store.open_round(1, ROSTER[:2]) == 2
    first, second = rows(engine)
    assert (first.state, first.reason) == (
        RoundState.VOIDED,
        "a later attempt was opened before this one was committed",
    )
    assert second.state == RoundState.OPEN
    with pytest.raises(RoundConflict, match=r"attempt 1 at round 1 of .* is voided, not open"):
        commit(store, 1, 1)
    store.settle(1, 2, ROSTER[:2], STATEMENT)
    commit(store, 1, 2)


def test_attempts_at_preparing_and_evaluating_are_never_repeated_by_another_driver(
    store: RoundStore, engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock
) -> None:
    assert [store.next_attempt(Stage.PREPARE, 0, ROSTER) for _ in range(2)] == [2, 3]
    assert store.next_attempt(Stage.EVALUATE, 0, ROSTER) == 1
    restarted = RoundStore(engine, artifacts, run, clock)
    restarted.start(7)
    assert restarted.next_attempt(Stage.PREPARE, 0, ROSTER) == 4
    assert restarted.next_attempt(Stage.EVALUATE, 5, ROSTER) == 1
    with pytest.raises(RoundConflict, match="another driver"):
        store.next_attempt(Stage.PREPARE, 0, ROSTER)


def test_who_answered_an_attempt_that_counted_is_recorded(store: RoundStore, engine: Engine) -> None:
    committed(store, 1)
    evaluated(store, 1, metrics_from(np.array([[30, 12, 3], [2, 9, 20]])))
    with reading(engine, "looking") as session:
        asked = {(row.stage, row.round): row for row in session.scalars(select(Attempt))}
    assert asked["prepare", 0].survivors == sorted(ROSTER)
    assert asked["evaluate", 1].survivors == sorted(ROSTER[:2])
    for attempt, survivors in ((1, ["north"]), (1, []), (9, ["west"])):
        with pytest.raises(RoundConflict, match="was not asked of"):
            store.record_metrics(
                1, metrics_from(np.array([[1, 0], [0, 1]])), attempt=attempt, survivors=survivors
            )


def test_rounds_are_opened_and_committed_in_order(store: RoundStore) -> None:
    for number in (0, 2):
        with pytest.raises(RoundConflict, match=f"the next is 1, not {number}"):
            store.open_round(number, ROSTER)
    committed(store, 1)
    for number in (1, 3):
        with pytest.raises(RoundConflict, match=f"has committed round 1; the next is 2, not {number}"):
            store.open_round(number, ROSTER)


def test_a_round_is_committed_only_once_and_only_when_settled(store: RoundStore) -> None:
    attempt = store.open_round(1, ROSTER)
    with pytest.raises(RoundConflict, match="is not settled"):
        commit(store, 1, attempt)
    with pytest.raises(RoundConflict, match=r"attempt 7 .* is unknown"):
        commit(store, 1, 7)
    store.settle(1, attempt, ROSTER, STATEMENT)
    commit(store, 1, attempt)
    with pytest.raises(RoundConflict, match="is committed, not open"):
        commit(store, 1, attempt, MODEL * 2)
    last = store.last_committed()
    assert last is not None
    assert last.model.tobytes() == MODEL.tobytes()


def test_survivors_are_fixed_once_and_come_from_the_roster(store: RoundStore, engine: Engine) -> None:
    attempt = store.open_round(1, ROSTER)
    for strangers in (["west", "north"], []):
        with pytest.raises(RoundConflict, match="all from its roster"):
            store.settle(1, attempt, strangers, STATEMENT)
    store.settle(1, attempt, ["west", "east"], STATEMENT)
    store.settle(1, attempt, ["east", "west"], STATEMENT)
    with pytest.raises(RoundConflict, match=r"is settled on \['east', 'west'\]"):
        store.settle(1, attempt, ["east", "south"], STATEMENT)
    with pytest.raises(RoundConflict, match="is settled on"):
        store.settle(1, attempt, ["west", "east"], Digest(DIGEST))
    assert rows(engine)[0].survivors == ["east", "west"]


@pytest.mark.parametrize("roster", [[], ["west", "west"]])
def test_a_roster_names_distinct_sites(store: RoundStore, roster: list[str]) -> None:
    with pytest.raises(RoundConflict, match="a roster of distinct sites"):
        store.open_round(1, roster)


def test_only_an_open_attempt_is_voided(store: RoundStore, engine: Engine) -> None:
    attempt = store.open_round(1, ROSTER)
    store.void(1, attempt, "two of three sites were away")
    store.void(1, attempt, "again")
    assert [row.reason for row in rows(engine)] == ["two of three sites were away"]
    committed(store, 1)
    with pytest.raises(RoundConflict, match="is committed; only an open attempt"):
        store.void(1, 2, "regret")
    with pytest.raises(RoundConflict, match="is unknown"):
        store.void(2, 1, "early")


def test_metrics_belong_to_a_committed_round_and_come_back_equal(store: RoundStore) -> None:
    metrics = metrics_from(np.array([[30, 12, 3], [2, 9, 20]]))
    with pytest.raises(RoundConflict, match="is not committed"):
        evaluated(store, 1, metrics)
    committed(store, 1)
    assert store.metrics(1) is None
    evaluated(store, 1, metrics)
    assert store.metrics(1) == metrics


def test_panels_without_metrics_belong_to_a_committed_round_and_come_back_equal(store: RoundStore) -> None:
    panels = Panels(
        noise_std=3.0,
        profile=ProfilePanel(counts={"age": (1, -2)}, labels={"age": ("a", "b")}, noise_std=4.0),
    )
    committed(store, 1)
    assert store.panels(1) is None
    attempt = store.next_attempt(Stage.EVALUATE, 1, ROSTER)
    store.record_no_metrics(1, attempt=attempt, survivors=ROSTER, panels=panels)
    assert store.metrics(1) is None
    assert store.panels(1) == panels


def test_finishing_voids_what_is_open_and_stops_every_step(store: RoundStore, engine: Engine) -> None:
    attempt = store.open_round(1, ROSTER)
    store.finish("stopped", "the officer said so")
    run = the_run(engine)
    assert (run.state, run.reason) == (RunState.STOPPED, "the officer said so")
    assert run.finished_at is not None
    assert rows(engine)[0].reason == "the run ended: the officer said so"
    steps: list[Callable[[], object]] = [
        lambda: store.open_round(1, ROSTER),
        lambda: store.settle(1, attempt, ROSTER, STATEMENT),
        lambda: commit(store, 1, attempt),
        lambda: begun(store, SCALING, MODEL, STATE),
    ]
    for step in steps:
        with pytest.raises(RoundConflict, match="is stopped, not running"):
            step()
    store.finish("stopped", "again")
    with pytest.raises(RoundConflict, match="has already stopped; it cannot become completed"):
        store.finish("completed")


@pytest.mark.parametrize("state", ["failed", "stopped", "completed"])
def test_a_run_that_has_ended_takes_no_driver(store: RoundStore, state: str) -> None:
    """Else the driver of a run that was stopped while it was starting would open it again."""
    store.finish(state, "a reason")
    with pytest.raises(RoundConflict, match=f"it has {state}; `covenant run resume` opens it again"):
        store.start(7)


def test_drivers_are_counted_until_one_commits(store: RoundStore, engine: Engine) -> None:
    def count(starts: int) -> None:
        with writing(engine, "counting") as session:
            session.scalars(select(Run)).one().idle_starts = starts

    count(3)
    committed(store, 1)
    assert the_run(engine).idle_starts == 0
    count(2)
    evaluated(store, 1, metrics_from(np.array([[30, 12, 3], [2, 9, 20]])))
    assert the_run(engine).idle_starts == 0
    count(2)
    store.start(8)
    assert the_run(engine).idle_starts == 2


def test_an_unknown_run_is_named(engine: Engine, artifacts: ArtifactStore, clock: Clock) -> None:
    store = RoundStore(engine, artifacts, RunId("run-" + "0" * 16), clock)
    for look in (lambda: store.start(1), store.scaling):
        with pytest.raises(RoundConflict, match="run-0000000000000000 is not in this database"):
            look()


def test_a_replaced_driver_changes_nothing(
    store: RoundStore, engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock
) -> None:
    attempt = store.open_round(1, ROSTER)
    store.settle(1, attempt, ROSTER, STATEMENT)
    successor = RoundStore(engine, artifacts, run, clock)
    successor.start(99)
    steps: list[Callable[[], object]] = [
        lambda: store.open_round(1, ROSTER),
        lambda: commit(store, 1, attempt),
        lambda: store.void(1, attempt, "mine"),
        lambda: store.finish("failed", "mine"),
    ]
    for step in steps:
        with pytest.raises(RoundConflict, match=r"another driver \(Flower run 99\) has taken it over"):
            step()
    assert rows(engine)[0].state == RoundState.OPEN
    committed(successor, 1)


def test_two_drivers_never_both_commit_a_round(
    store: RoundStore, opened: Callable[..., Engine], artifacts: ArtifactStore, run: RunId, clock: Clock
) -> None:
    """Not fenced, on purpose: neither calls `start`, so only the database stands between them."""
    drivers = [RoundStore(opened(), artifacts, run, clock) for _ in range(2)]
    for number in range(1, 9):
        attempt = store.open_round(number, ROSTER)
        store.settle(number, attempt, ROSTER, STATEMENT)
        outcomes = race(
            [partial(commit, driver, number, attempt, MODEL + k) for k, driver in enumerate(drivers)]
        )
        assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType", "RoundConflict"]
    last = store.last_committed()
    assert last is not None
    assert last.number == 8


def test_drivers_that_race_through_whole_rounds_commit_each_once(
    store: RoundStore, engine: Engine, opened: Callable[..., Engine], artifacts: ArtifactStore, run: RunId
) -> None:
    def drive(driver: RoundStore) -> None:
        for number in range(1, 6):
            committed(driver, number)

    outcomes = race([partial(drive, RoundStore(opened(), artifacts, run, Clock())) for _ in range(2)])
    assert all(outcome is None or isinstance(outcome, RoundConflict) for outcome in outcomes)
    done = [row.number for row in rows(engine) if row.state == RoundState.COMMITTED]
    assert done == sorted(set(done))
    assert sum(row.state == RoundState.OPEN for row in rows(engine)) <= 1


def race(steps: list[Callable[[], None]]) -> list[BaseException | None]:
    """Run all at the same time; what each raised, or None."""
    barrier = threading.Barrier(len(steps))
    outcomes: list[BaseException | None] = [None] * len(steps)

    def one(place: int) -> None:
        barrier.wait()
        try:
            steps[place]()
        except BaseException as error:  # noqa: BLE001  (a thread must not swallow what the test should see)
            outcomes[place] = error

    threads = [threading.Thread(target=one, args=(place,)) for place in range(len(steps))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


def test_no_row_names_an_artifact_that_could_not_be_written(
    store: RoundStore, engine: Engine, tmp_path: Path, run: RunId, clock: Clock
) -> None:
    attempt = store.open_round(1, ROSTER)
    store.settle(1, attempt, ROSTER, STATEMENT)
    (tmp_path / "in the way").write_text("a file where the folder should be")
    broken = RoundStore(engine, ArtifactStore(tmp_path / "in the way"), run, clock)
    with pytest.raises(CovenantError, match="cannot be written"):
        commit(broken, 1, attempt)
    assert rows(engine)[0].state == RoundState.OPEN
    last = store.last_committed()
    assert last is not None
    assert last.number == 0


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
def test_full_disk_while_committing_leaves_the_round_open_and_the_last_checkpoint_in_force(
    engine: Engine, store: RoundStore
) -> None:
    with closing(engine.raw_connection()) as direct:
        pages = direct.cursor().execute("PRAGMA page_count").fetchone()[0]
    engine.dispose()

    @event.listens_for(engine, "connect")
    def fill(connection: object, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages}")  # type: ignore[attr-defined]

    finished = 0
    sentence = (
        r"(opening|settling|committing) round \d+ of run-\w+: the database .* has no space left; nothing of"
    )
    with pytest.raises(CovenantError, match=sentence):  # noqa: PT012  (which round the disk fills at is open)
        for number in range(1, 500):
            committed(store, number)
            finished = number
    last = store.last_committed()
    assert last is not None
    assert last.number == finished
    with writing(engine, "looking") as session:
        assert session.query(Checkpoint).count() == finished + 1
    states = [row.state for row in rows(engine)]
    assert states.count(RoundState.COMMITTED) == finished


def test_an_aggregate_is_read_when_it_is_asked_for_and_again_once_nobody_holds_it(
    store: RoundStore, artifacts: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    committed(store, 1)
    read: list[Digest] = []
    vector = artifacts.vector

    def counted(name: Digest) -> np.ndarray:
        read.append(name)
        return vector(name)

    monkeypatch.setattr(artifacts, "vector", counted)
    step = store.step(1)
    assert read == []
    held = step.aggregate
    again = step.aggregate
    assert held is again
    assert len(read) == 1
    del held, again
    assert np.array_equal(step.aggregate, MODEL * 3)
    assert len(read) == 2


def test_a_connection_of_sqlite_that_settled_a_large_sum_is_closed(store: RoundStore, engine: Engine) -> None:
    """The statement, which the connection keeps, would hold a copy of what opens the sum."""
    closed: list[object] = []
    event.listen(engine, "close", lambda connection, _: closed.append(connection))
    first = store.open_round(1, ROSTER)
    store.settle(1, first, ROSTER, STATEMENT, opening=bytes(1 << 10))
    assert not closed
    second = store.open_round(1, ROSTER)
    store.settle(1, second, ROSTER, STATEMENT, opening=bytes(3 << 20))
    assert len(closed) == (engine.dialect.name == "sqlite")
    attempt = store.next_attempt(Stage.EVALUATE, 0, ROSTER)
    store.settle_attempt(Stage.EVALUATE, 0, attempt, ROSTER, bytes(3 << 20))
    assert len(closed) == 2 * (engine.dialect.name == "sqlite")
