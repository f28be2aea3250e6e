"""Sites that do not take part at present, because a person is asked first or their hours are over: they are asked again, and nobody is told why."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from coordinator.rounds.asking import TooFewSurvivors
from coordinator.rounds.driver import Driver, Finished
from coordinator.rounds.exchange import Outcome
from coordinator.rounds.store import RoundStore
from protos.frames import Stage
from protos.plan import Plan
from protos.site_run import Window
from strategies.ids import SiteName
from tests.bank_for_tests import Bank
from tests.client.loans_for_tests import plan
from tests.coordinator.test_driver import SITES, WEST, Memory, bank, documents_of, logged, rows, store

__all__ = ["bank", "store"]  # fixtures
EVENING = datetime(2026, 11, 26, 19, 59, tzinfo=UTC)


@dataclass
class VirtualTime:
    """Seconds that pass while somebody sleeps or answers."""

    now: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@dataclass
class Slow(Memory):
    """An exchange of which each takes `seconds`."""

    time: VirtualTime | None = None
    seconds: float = 5.0

    def ask(
        self, stage: Stage, frames: Mapping[SiteName, bytes], *, round_number: int, deadline_s: float
    ) -> Iterator[tuple[SiteName, Outcome]]:
        assert self.time is not None
        self.time.sleep(self.seconds)
        return super().ask(stage, frames, round_number=round_number, deadline_s=deadline_s)


def chosen(minimum: int, join_within: float) -> Plan:
    sites = plan().sites.model_copy(update={"minimum": minimum, "join_within": join_within})
    return plan().model_copy(update={"sites": sites})


def drive(bank: Bank, store: RoundStore, of: Plan) -> tuple[Finished, Slow, VirtualTime]:
    """A run in which west takes part from 20:00 on, a minute after it has begun."""
    passing = VirtualTime()
    exchange = Slow(bank, time=passing)
    presence = exchange.participants[WEST].presence
    presence.window = Window.model_validate({"from": "20:00", "to": "06:00", "zone": "UTC"})
    presence.clock = lambda: EVENING + timedelta(seconds=passing.now)
    documents = documents_of(bank, of)
    driver = Driver(
        documents,
        exchange,
        store,
        logged(documents, store),
        monotonic=lambda: passing.now,
        sleep=passing.sleep,
        entropy=os.urandom,
    )
    return driver.drive(), exchange, passing


def test_too_few_are_waited_for_within_the_time_to_join(bank: Bank, store: RoundStore) -> None:
    _, exchange, passing = drive(bank, store, chosen(2, 120.0))
    assert passing.now > 60.0
    assert exchange.asked[0] == (Stage.PREPARE, 0, tuple(SITES))
    assert all(row.survivors == list(SITES) for row in rows(store))


def test_they_are_not_waited_for_longer(bank: Bank, store: RoundStore) -> None:
    with pytest.raises(
        TooFewSurvivors, match="west refused \\(later\\) this site does not take part at present"
    ):
        drive(bank, store, chosen(2, 30.0))


def test_where_others_are_enough_nobody_waits_and_whoever_comes_later_joins_the_next_round(
    bank: Bank, store: RoundStore
) -> None:
    longer = chosen(1, 120.0)
    training = longer.training.model_copy(update={"rounds": 10})
    drive(bank, store, longer.model_copy(update={"training": training}))
    took_part = [WEST in row.survivors for row in rows(store)]
    assert took_part == sorted(took_part)
    assert (took_part[0], took_part[-1]) == (False, True)


def test_the_log_has_nothing_of_it(bank: Bank, store: RoundStore) -> None:
    of = chosen(2, 120.0)
    drive(bank, store, of)
    assert [*logged(documents_of(bank, of), store).entries(kind="refused")] == []
