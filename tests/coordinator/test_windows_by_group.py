"""What a place tells of protected groups is held against its monitor as all the rest: pages and evidence add these counts up."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from coordinator.deploy.monitoring.receiving import receive
from protos.drift import require_released, require_window
from protos.windows import Outcomes, Window
from strategies.errors import Refused
from tests.coordinator.monitor_for_tests import Place, Population, Watch, made, watched

__all__ = ["made", "watched"]
FAIR = 2.0 * math.sqrt(2.0)
"""The noise of a monitor of 2, where one decision is in a cell of all and in one of its group."""


def by_band(watched: Watch) -> Place:
    """A place whose monitor lets outcomes be told by `band`."""
    monitor = watched.monitor.model_copy(update={"protected": ("band",)})
    return replace(watched.place(), monitor=monitor)


def told(place: Place, *, noise: float = FAIR, **groups: Any) -> Window:
    """Outcomes with counts by group."""
    window = place.outcomes(Population.usual(), 1)
    assert window.outcomes is not None
    found = Outcomes(noise_std=noise, counts=window.outcomes.counts, groups=groups)
    return window.model_copy(update={"outcomes": found})


def test_groups_that_the_monitor_names_are_taken_in(watched: Watch) -> None:
    place = by_band(watched)
    counts = ((40,) * place.monitor.score_bins,) * 2
    window = told(place, band={"old": counts, "young": counts})
    require_window(window, place.reference, place.monitor)
    require_released(window, place.monitor)


def test_groups_of_other_bins_are_refused_where_they_come_in(watched: Watch) -> None:
    """Added up with those of others they would break every page that shows them."""
    place = by_band(watched)
    right, short = ((40,) * place.monitor.score_bins,) * 2, ((40,) * 3,) * 2
    for window in (
        told(place, band={"old": right, "young": short}),
        told(place, band={"old": (right[0], short[0])}),
    ):
        with pytest.raises(Refused, match="bins of band"):
            require_released(window, place.monitor)


def test_an_attribute_that_the_monitor_does_not_name_is_refused(watched: Watch) -> None:
    """Its operator agreed to others; and who counts by thousands of attributes makes a page of thousands."""
    place = watched.place()
    counts = ((40,) * place.monitor.score_bins,) * 2
    with pytest.raises(Refused, match="by band, and its monitor lets outcomes be told by no attribute"):
        receive(watched.works.centre, told(place, band={"old": counts}))


def test_groups_take_the_noise_of_a_decision_that_is_in_more_cells(watched: Watch) -> None:
    place = by_band(watched)
    counts = ((40,) * place.monitor.score_bins,) * 2
    with pytest.raises(Refused, match=r"noise of 2, and its monitor asks for 2\.82843"):
        require_released(told(place, noise=2.0, band={"old": counts}), place.monitor)
