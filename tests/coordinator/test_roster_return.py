"""A sum that lacks shares waits for sites that are away, and for nobody who is there."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import pytest

from coordinator.rounds.roster import Roster
from strategies.ids import SiteName, site_name

EAST, WEST = site_name("east"), site_name("west")


@dataclass
class Sky:
    """An exchange of which only who is online matters; `returns` is when west is back."""

    returns: float | None
    now: float = 0.0
    looks: list[float] = field(default_factory=list)

    def online(self) -> Collection[SiteName]:
        self.looks.append(self.now)
        back = self.returns is not None and self.now >= self.returns
        return [EAST, WEST] if back else [EAST]

    def sleep(self, seconds: float) -> None:
        self.now += seconds


def roster(sky: Any) -> Roster:
    return Roster(None, sky, lambda: sky.now, sky.sleep)  # type: ignore[arg-type]


@pytest.mark.parametrize(("returns", "back"), [(600.0, True), (899.0, True), (901.0, False), (None, False)])
def test_a_site_that_is_away_is_waited_for_until_its_time_is_over(returns: float | None, back: bool) -> None:
    sky = Sky(returns)
    assert roster(sky).return_of([EAST, WEST], until=900.0) is back
    assert sky.now == pytest.approx(returns if back and returns is not None else 900.0, abs=0.2)


def test_sites_that_are_there_and_give_nothing_are_not_waited_for() -> None:
    sky = Sky(None)
    assert not roster(sky).return_of([EAST], until=900.0)
    assert sky.now == 0.0
