"""Versions move as the table of moves has it, each with its entry in the log; aliases follow."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from coordinator.bootstrap import Centre, open_centre
from coordinator.db import reading, writing
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.registry_schema import ModelMove
from coordinator.deploy.verdicts import verdicts_on
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.stages import move, write_alias
from coordinator.registry.versions import ModelVersion, find_version, get_version, register
from coordinator.settings import load_settings
from protos.log_entries import LogEntry
from protos.log_registry_events import ModelMoved
from protos.model_stages import MOVES, Stage
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId
from tests.coordinator.cli_for_tests import make_home
from tests.coordinator.conftest import RUN, Clock
from tests.coordinator.gate_for_tests import gated_run, held_back, passed

NAME = "lending-default"
ROUTES: dict[Stage, tuple[Stage, ...]] = {
    Stage.CANDIDATE: (),
    Stage.VALIDATED: (Stage.VALIDATED,),
    Stage.APPROVED: (Stage.VALIDATED, Stage.APPROVED),
    Stage.DEPLOYED: (Stage.VALIDATED, Stage.APPROVED, Stage.DEPLOYED),
    Stage.RETIRED: (Stage.RETIRED,),
    Stage.QUARANTINED: (Stage.QUARANTINED,),
}
Go = Callable[..., ModelVersion]


@pytest.fixture
def centre(engine: Engine, artifacts: ArtifactStore, clock: Clock, tmp_path: Path) -> Centre:
    make_home(tmp_path / "home")
    opened = open_centre(load_settings(tmp_path / "home"))
    opened.engine.dispose()
    return replace(opened, engine=engine, artifacts=artifacts, clock=clock)


@pytest.fixture
def run(engine: Engine) -> RunId:
    with writing(engine, "submitting") as session:
        session.add(gated_run())
    return RUN


@pytest.fixture
def register_one(
    engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock
) -> Callable[[], ModelVersion]:
    made: list[ModelVersion] = []

    def one() -> ModelVersion:
        files = {"model.onnx": f"model {len(made)}".encode()}
        weights = sha256_hex(b"the last model")
        made.append(
            register(
                engine,
                artifacts,
                name=NAME,
                run_id=run,
                files=files,
                weights=weights,
                metrics=None,
                clock=clock,
            )
        )
        return made[-1]

    return one


@pytest.fixture
def go(centre: Centre, engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]) -> Go:
    """Moves a version through stages; a candidate by the gate."""

    def through(*stages: Stage, version: int = 1, by: str = "model-risk") -> ModelVersion:
        for to in stages:
            if (get_version(engine, NAME, version).stage, to) == (Stage.CANDIDATE, Stage.VALIDATED):
                passed(centre, NAME, version, by=by)
                continue
            with writing(engine, "moving") as session:
                move(session, NAME, version, to, why="a test", by=by, at=clock())
        return get_version(engine, NAME, version)

    return through


def entries(engine: Engine) -> list[tuple[int, ModelMoved]]:
    with reading(engine, "looking") as session:
        rows = session.execute(
            select(LoggedEntry.seq, LoggedEntry.body)
            .where(LoggedEntry.kind == "model-moved")
            .order_by(LoggedEntry.seq)
        ).all()
    found = [(seq, LogEntry.from_canonical(bytes(body)).what) for seq, body in rows]
    return [(seq, what) for seq, what in found if isinstance(what, ModelMoved)]


@pytest.mark.parametrize("before", Stage)
def test_there_are_the_moves_of_the_table_and_no_others(
    before: Stage, go: Go, engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    for version, to in enumerate(Stage, start=1):
        register_one()
        assert go(*ROUTES[before], version=version).stage is before
        if to in MOVES[before]:
            assert go(to, version=version).stage is to
            continue
        told = entries(engine)
        with pytest.raises(Refused, match=f"{NAME}@{version} is {before} and cannot become {to}"):
            go(to, version=version)
        assert get_version(engine, NAME, version).stage is before
        assert entries(engine) == told


def test_a_move_is_a_row_and_an_entry_that_name_each_other(
    go: Go, engine: Engine, register_one: Callable[[], ModelVersion]
) -> None:
    version = register_one()
    go(Stage.VALIDATED, Stage.APPROVED)
    with reading(engine, "looking") as session:
        rows = session.scalars(select(ModelMove).order_by(ModelMove.number)).all()
    assert [(row.number, row.entry, row.before, row.after) for row in rows] == [
        (number, seq, what.before, what.to) for number, (seq, what) in enumerate(entries(engine), start=1)
    ]
    assert [(what.digest, what.why, what.by) for _, what in entries(engine)] == [
        (version.digest, why, "model-risk") for why in ("the gate passed it: a test", "a test")
    ]


def test_a_transaction_that_fails_after_it_moves_nothing(
    engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()

    def moved_and_failed() -> None:
        with writing(engine, "moving") as session:
            move(session, NAME, 1, Stage.RETIRED, why="a test", by="risk-1", at=clock())
            raise RuntimeError

    with pytest.raises(RuntimeError):
        moved_and_failed()
    assert get_version(engine, NAME, 1).stage is Stage.CANDIDATE
    assert entries(engine) == []


def test_two_moves_at_once_do_not_start_from_one_stage(
    opened: Callable[..., Engine], engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()
    refused: list[Refused] = []
    ready = threading.Barrier(4)

    def one(mine: Engine) -> None:
        ready.wait()
        try:
            with writing(mine, "moving") as session:
                move(session, NAME, 1, Stage.RETIRED, why="a test", by="risk-1", at=clock())
        except Refused as error:
            refused.append(error)

    threads = [threading.Thread(target=one, args=(opened(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(refused) == 3
    assert len(entries(engine)) == 1


def test_the_champion_is_the_version_that_was_deployed_last_and_still_is(
    go: Go, engine: Engine, register_one: Callable[[], ModelVersion]
) -> None:
    for version in (1, 2):
        register_one()
        assert go(*ROUTES[Stage.DEPLOYED], version=version).aliases == ("champion",)
    assert get_version(engine, NAME, 1).aliases == ()
    go(Stage.APPROVED, version=2)
    assert find_version(engine, f"{NAME}@champion").version == 1
    go(Stage.DEPLOYED, version=2)
    assert find_version(engine, f"{NAME}@champion").version == 2
    go(Stage.QUARANTINED, version=2)
    assert find_version(engine, f"{NAME}@champion").version == 1
    go(Stage.RETIRED, version=1)
    with pytest.raises(UsageError, match="names no version"):
        find_version(engine, f"{NAME}@champion")


@pytest.mark.parametrize("out", [Stage.QUARANTINED, Stage.RETIRED])
def test_what_is_quarantined_or_retired_loses_its_aliases(
    out: Stage, go: Go, engine: Engine, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()
    register_one()
    with writing(engine, "naming") as session:
        write_alias(session, NAME, "shadow", 1)
        write_alias(session, NAME, "next", 2)
    assert go(out).aliases == ()
    assert get_version(engine, NAME, 2).aliases == ("next",)


def test_what_leaves_quarantine_begins_anew(go: Go, register_one: Callable[[], ModelVersion]) -> None:
    register_one()
    go(*ROUTES[Stage.APPROVED], Stage.QUARANTINED, Stage.CANDIDATE)
    with pytest.raises(Refused, match="is candidate and cannot become approved"):
        go(Stage.APPROVED)


def test_words_that_are_too_long_are_refused(
    engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()
    with pytest.raises(UsageError, match="why"), writing(engine, "moving") as session:
        move(session, NAME, 1, Stage.RETIRED, why="x" * 501, by="risk-1", at=clock())
    assert get_version(engine, NAME, 1).stage is Stage.CANDIDATE


# --- what a candidate is validated on


def validate_on(engine: Engine, clock: Clock, on: Digest | None, version: int = 1) -> None:
    """The bare move that only the gate may make."""
    with writing(engine, "moving") as session:
        move(session, NAME, version, Stage.VALIDATED, why="a test", by="risk-1", at=clock(), on=on)


def verdict_of(engine: Engine, version: int = 1) -> Digest:
    """The newest."""
    return verdicts_on(engine, NAME, version)[-1].digest


def is_refused(engine: Engine, clock: Clock, on: Digest | None, reason: str, version: int = 1) -> None:
    told = entries(engine)
    with pytest.raises(Refused, match=f"{NAME}@{version} cannot become validated.*{reason}"):
        validate_on(engine, clock, on, version)
    assert get_version(engine, NAME, version).stage is Stage.CANDIDATE
    assert entries(engine) == told


@pytest.mark.parametrize("on", [None, sha256_hex(b"a verdict")])
def test_nothing_is_validated_without_a_verdict(
    on: Digest | None, engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()
    is_refused(engine, clock, on, "the gate has not judged it")


def test_nothing_is_validated_on_the_verdict_of_another_version(
    centre: Centre, engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    register_one(), register_one()
    passed(centre, NAME, 1)
    is_refused(engine, clock, verdict_of(engine), "the gate has not judged it", version=2)
    held_back(centre, NAME, 2)
    is_refused(engine, clock, verdict_of(engine), "the gate's newest verdict on it is", version=2)


def test_nothing_is_validated_on_a_verdict_that_fails(
    centre: Centre, engine: Engine, clock: Clock, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()
    held_back(centre, NAME, 1)
    is_refused(engine, clock, verdict_of(engine), "does not pass it")
    is_refused(engine, clock, None, "on no verdict")


def test_nothing_is_validated_on_a_verdict_of_before_its_quarantine(
    centre: Centre, engine: Engine, clock: Clock, go: Go, register_one: Callable[[], ModelVersion]
) -> None:
    register_one()
    passed(centre, NAME, 1)
    before = verdict_of(engine)
    go(Stage.QUARANTINED, Stage.CANDIDATE)
    is_refused(engine, clock, before, "the gate has not judged it since it became a candidate")
    held_back(centre, NAME, 1)
    is_refused(engine, clock, before, "the gate's newest verdict on it is")
    assert go(Stage.VALIDATED).stage is Stage.VALIDATED
