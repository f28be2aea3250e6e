"""What is noted of exchanges while a run goes on: real rounds, real rows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from coordinator.db.engine import reading
from coordinator.db.progress_schema import SiteExchange, SiteHeard
from coordinator.rounds.driver import Driver
from coordinator.rounds.progress import KeptProgress
from protos.release import package_version
from strategies.errors import CovenantError
from strategies.secagg.messages import MaskedInput
from tests.coordinator.secure_for_tests import CONTRACT, EAST, FOUR, RUN, WEST, Secured, Template, secure_plan


@pytest.fixture
def federation(tmp_path: Path) -> Iterator[Secured]:
    made = Template(tmp_path, FOUR).copy(tmp_path / "copy", secure_plan(rounds=2, every=2))
    yield made
    made.close()


def progress_of(federation: Secured) -> KeptProgress:
    clock = federation.clock
    return KeptProgress(federation.engine, RUN, CONTRACT.ref, clock.wall, clock.monotonic)


def drive(federation: Secured, progress: KeptProgress) -> None:
    federation.store = federation._started()
    made = federation.driver()
    Driver(
        made.documents, made.exchange, made.store, made.log, made.monotonic, made.sleep, made.entropy, progress=progress
    ).drive()  # fmt: skip


def exchanges(engine: Engine) -> list[SiteExchange]:
    with reading(engine, "looking") as session:
        return list(session.scalars(select(SiteExchange).order_by(SiteExchange.round, SiteExchange.site)))


def heard(engine: Engine) -> dict[str, SiteHeard]:
    with reading(engine, "looking") as session:
        return {each.site: each for each in session.scalars(select(SiteHeard))}


def test_bytes_and_answers_are_those_of_the_wire(federation: Secured) -> None:
    progress = progress_of(federation)
    drive(federation, progress)
    progress.flush()

    of_round = [each for each in exchanges(federation.engine) if (each.stage, each.round) == ("train", 1)]
    asks = [each for each in federation.wire.asks if (each.stage.name, each.number) == ("TRAIN", 1)]
    assert {each.site for each in of_round} == set(FOUR)
    for row in of_round:
        assert row.sent == sum(len(ask.frames[row.site]) for ask in asks)
        assert row.received == sum(len(ask.replies[row.site]) for ask in asks)
        assert row.asked == row.answered == len(asks)
        assert (row.waiting, row.trouble) == (False, None)
    assert all(each.fits and each.contract == CONTRACT.ref for each in heard(federation.engine).values())


def test_who_is_waited_for_is_known_while_the_driver_waits(federation: Secured) -> None:
    progress = progress_of(federation)
    seen: list[tuple[str, int]] = []

    def look(ask: object) -> None:
        progress.flush()
        rows = [each for each in exchanges(federation.engine) if each.waiting]
        seen.extend((each.step, len(rows)) for each in rows[:1])

    federation.wire.before = look
    drive(federation, progress)

    assert ("input", 4) in seen
    assert ("opening", 4) in seen


def test_a_site_that_drops_out_is_noted_with_why(federation: Secured) -> None:
    federation.wire.reply_lost = lambda site, ask: (
        site == WEST and ask.number == 1 and bool(ask.said(MaskedInput))
    )
    progress = progress_of(federation)
    drive(federation, progress)
    progress.flush()

    (row,) = [
        each
        for each in exchanges(federation.engine)
        if (each.round, each.stage, each.site) == (1, "train", WEST)
    ]
    assert row.trouble == "did not answer before the deadline"
    assert row.answered < row.asked
    assert heard(federation.engine)[WEST].trouble == row.trouble
    assert heard(federation.engine)[EAST].trouble is None


def test_rows_add_up_over_drivers_and_forget_whom_a_dead_one_waited_for(federation: Secured) -> None:
    first = progress_of(federation)

    def die(ask: object) -> None:
        if len(federation.wire.asks) == 4:
            first.flush()
            raise RuntimeError("the driver dies")

    federation.wire.before = die
    with pytest.raises(RuntimeError):
        drive(federation, first)
    federation.wire.before = lambda _: None
    before = {(each.stage, each.round, each.site): each.sent for each in exchanges(federation.engine)}

    second = progress_of(federation)
    drive(federation, second)
    second.flush()

    after = {(each.stage, each.round, each.site): each.sent for each in exchanges(federation.engine)}
    assert any(before.values())
    assert all(after[key] >= value for key, value in before.items())
    assert not [each for each in exchanges(federation.engine) if each.waiting]


def test_a_database_that_fails_holds_no_run_up(federation: Secured, monkeypatch: pytest.MonkeyPatch) -> None:
    progress = progress_of(federation)

    def fails(*_: object) -> None:
        raise CovenantError("the database is away")

    monkeypatch.setattr(progress, "_write", fails)
    with progress.written():
        drive(federation, progress)

    assert federation.committed().number == 2
    assert exchanges(federation.engine) == []


def test_nothing_of_a_silent_progress_is_kept(federation: Secured) -> None:
    federation.drive()
    assert exchanges(federation.engine) == []


def test_the_release_of_an_agent_is_told_with_what_it_witnesses(federation: Secured) -> None:
    progress = progress_of(federation)
    drive(federation, progress)
    progress.flush()

    assert {each.version for each in heard(federation.engine).values()} == {package_version()}
