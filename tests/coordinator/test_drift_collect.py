"""Windows are fetched from services on this machine, and taken from signed files of places without a connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from coordinator.db.deploy_schema import TargetRow
from coordinator.db.engine import writing
from coordinator.deploy.monitoring import views
from coordinator.deploy.monitoring.collecting import Collecting, collect, collect_from, take_file
from coordinator.deploy.targets.settings import EdgeSettings
from protos.keys import SigningKey
from protos.windows import Windows
from strategies.errors import Refused, Unreachable, UsageError
from tests.coordinator.deploy_for_tests import NAME
from tests.coordinator.monitor_for_tests import Population, Watch, made, numbers, tilted, watched

__all__ = ["made", "watched"]


def shifted() -> Population:
    found = Population.usual()
    found.inputs[numbers()[0]] = tilted(found.inputs[numbers()[0]], 0.6)
    return found


def counted(watched: Watch) -> int:
    (found,) = views.monitors(watched.works.centre.engine)
    return int(found["windows"])


def test_what_a_service_has_released_since_is_fetched_page_by_page(watched: Watch) -> None:
    place, centre = watched.place(), watched.works.centre
    with watched.works.serving("branch", known=True) as service:
        service.windows = [place.decisions(watched.population) for _ in range(5)]
        taken = collect_from(centre, "branch")
        assert (taken.new, taken.alarms, taken.refused) == (5, (), ())
        assert [each.rpartition("=")[2] for each in service.asked] == ["0", "2", "4"]
        assert collect_from(centre, "branch").new == 0
        assert service.asked[-1].endswith("after=5")
        service.windows.append(place.decisions(shifted()))
        assert len(collect_from(centre, "branch").alarms) == 1
    assert counted(watched) == 6


def test_a_service_whose_sequence_went_back_was_restored_and_is_not_listened_to(watched: Watch) -> None:
    place, centre = watched.place(), watched.works.centre
    with watched.works.serving("branch", known=True) as service:
        service.windows = [place.decisions(watched.population) for _ in range(3)]
        assert collect_from(centre, "branch").new == 3
        del service.windows[1:]
        with pytest.raises(
            Refused, match="branch has told 1 windows, and 3 are here: its state was restored"
        ):
            collect_from(centre, "branch")
        assert collect_from(centre, "branch", again=True).new == 0
    assert counted(watched) == 3


def test_a_service_that_is_down_and_one_that_lies_keep_nothing_from_the_others(watched: Watch) -> None:
    with watched.works.serving("north", known=True) as service:
        service.windows = [watched.place("north").decisions(watched.population)]
        taken = collect(watched.works.centre)
    assert [(each.place, each.new) for each in taken] == [("north", 1)]
    with pytest.raises(Unreachable, match="does not answer"):
        collect_from(watched.works.centre, "north")
    with watched.works.serving("branch", known=True) as service:
        service.name = "somewhere"
        with pytest.raises(Refused, match="branch tells windows of somewhere"):
            collect_from(watched.works.centre, "branch")


def test_a_window_that_is_refused_keeps_none_after_it_and_is_taken_once_it_can_be(watched: Watch) -> None:
    place, centre = watched.place(), watched.works.centre
    with watched.works.serving("branch", known=True) as service:
        strange = place.decisions(watched.population, contract="ab" * 32)
        service.windows = [strange, place.decisions(watched.population)]
        taken = collect_from(centre, "branch")
        assert taken.new == 1
        assert "are not taken for the other's" in taken.refused[0]
        service.windows[0] = strange.model_copy(update={"contract": watched.reference.contract})
        assert collect_from(centre, "branch").new == 0
        assert collect_from(centre, "branch", again=True).new == 1


def test_the_coordinators_thread_collects_and_goes_on_after_trouble(watched: Watch) -> None:
    centre = replace(watched.works.centre)
    with Collecting(centre, every_s=0.05, deliver_s=0.05) as collecting:
        with watched.works.serving("branch", known=True) as service:
            service.windows = [watched.place().decisions(shifted())]
            for _ in range(1000):
                if counted(watched) == 1:
                    break
                time.sleep(0.02)
        assert collecting.failed is None
    assert len(views.alarms(centre.engine)) == 1


@pytest.fixture
def edge(watched: Watch) -> Callable[[Windows], Windows]:
    """`branch` is a server without a connection; signs what it carries."""
    key = SigningKey.generate()
    settings = EdgeSettings(outbox="/out", inbox="/in", key=key.public)
    with writing(watched.works.centre.engine, "changing the target") as session:
        row = session.get_one(TargetRow, "branch")
        row.kind, row.settings = "edge", settings.canonical.decode()
    return lambda windows: windows.signed(key)


def test_a_signed_file_of_an_edge_is_taken_in_once(
    watched: Watch, edge: Callable[[Windows], Windows]
) -> None:
    place, centre = watched.place(), watched.works.centre
    windows = tuple(place.decisions(watched.population) for _ in range(3))
    carried = edge(Windows(place="branch", windows=windows, last=3))
    assert take_file(centre, carried).new == 3
    assert take_file(centre, carried).new == 0
    forged = carried.model_copy(update={"windows": windows[:2]})
    for wrong in (forged, carried.model_copy(update={"signature": None})):
        with pytest.raises(Refused, match="are not signed by branch"):
            take_file(centre, wrong)
    with pytest.raises(UsageError, match="is reached over no connection"):
        collect_from(centre, "branch")


def test_a_file_of_a_place_that_is_asked_or_of_none_is_refused(watched: Watch) -> None:
    windows = Windows(place="branch", windows=(watched.place().decisions(watched.population),), last=1)
    with pytest.raises(Refused, match="a file of them proves nothing"):
        take_file(watched.works.centre, windows)
    stranger = watched.place("nowhere").decisions(watched.population)
    with pytest.raises(UsageError, match="there is no target 'nowhere'"):
        take_file(watched.works.centre, Windows(place="nowhere", windows=(stranger,), last=1))
    assert counted(watched) == 0


def test_windows_have_forecasts_by_stream(watched: Watch) -> None:
    place, centre = watched.place(), watched.works.centre
    feature = numbers()[0]
    with watched.works.serving("branch", known=True) as service:
        for psi in np_steps(12):
            population = Population.usual()
            population.inputs[feature] = tilted(population.inputs[feature], psi)
            service.windows.append(place.decisions(population))
        collect_from(centre, "branch")
    (found,) = views.windows(centre.engine, NAME, 1)["places"]
    told = found["forecasts"][f"input {feature}"]
    assert told["windows"] == 12
    assert told["values"][-1] > told["values"][0]
    assert told["crosses"]["earliest"] is not None
    still = found["forecasts"]["score"]
    assert still["crosses"]["earliest"] is None


def np_steps(count: int) -> list[float]:
    """A drift whose root grows evenly, as a mean that moves does."""
    return [(0.03 + 0.028 * each) ** 2 for each in range(count)]


def test_few_windows_say_why_there_is_no_forecast(watched: Watch, tmp_path: Path) -> None:
    with watched.works.serving("branch", known=True) as service:
        service.windows = [watched.place().decisions(watched.population)]
        collect_from(watched.works.centre, "branch")
    (found,) = views.windows(watched.works.centre.engine, NAME, 1)["places"]
    assert found["forecasts"]["score"]["said"].startswith("there are 1 windows to forecast from")
