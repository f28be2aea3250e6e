"""The coordinator's metrics are counted in its database, and say so where that, or the SuperLink, does not answer."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from coordinator.bootstrap import Centre, open_centre
from coordinator.cli.centre import init
from coordinator.db.engine import writing
from coordinator.db.schema import Run, RunState
from coordinator.flower.traffic import file_in
from coordinator.metrics import CentreMetrics
from coordinator.settings import load_settings
from protos.documents import read_document
from protos.shell import people
from simulation.deployment import free_port
from strategies.errors import UsageError


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    with people.capture():
        init(tmp_path / "centre", "demo", port=free_port())
    return open_centre(load_settings(tmp_path / "centre"))


def figures(centre: Centre, *, leads: bool = True) -> dict[str, float]:
    return {
        sample.name + "".join(sorted(sample.labels.values())): sample.value
        for family in CentreMetrics(centre, lambda: leads).collect()
        for sample in family.samples
    }


def test_runs_are_counted_by_state_and_what_there_is_none_of_is_nought(centre: Centre) -> None:
    with writing(centre.engine, "testing") as session:
        for number, state in enumerate((RunState.RUNNING, RunState.FAILED, RunState.FAILED)):
            session.add(
                Run(
                    id=f"run-{number:016x}", plan_name="p", plan_digest="0" * 64, plan="{}", contract="{}", members="{}",
                    state=state, submitted_at=centre.clock(),
                )
            )  # fmt: skip
    found = figures(centre)
    assert (found["covenant_runsrunning"], found["covenant_runsfailed"], found["covenant_runscompleted"]) == (
        1,
        2,
        0,
    )
    assert (found["covenant_leading"], found["covenant_database_up"], found["covenant_halts_standing"]) == (
        1,
        1,
        0,
    )


def test_a_superlink_that_does_not_answer_is_a_figure(centre: Centre) -> None:
    found = figures(centre, leads=False)
    assert (found["covenant_superlink_up"], found["covenant_leading"]) == (0, 0)
    assert "covenant_sites_online" not in found


def test_what_the_superlink_has_counted_is_told(centre: Centre) -> None:
    assert not any(name.startswith("covenant_superlink_requests") for name in figures(centre))
    file = file_in(centre.settings.home)
    file.parent.mkdir(parents=True)
    file.write_bytes(struct.pack("=8Q", 7, 5, 2, 300, 400, 100, 200, 1_500_000))
    found = figures(centre)
    assert [found[f"covenant_superlink_{name}_total"] for name in ("requests", "polls", "refused")] == [
        7,
        5,
        2,
    ]
    assert found["covenant_superlink_request_seconds_total"] == 1.5
    assert (
        found["covenant_superlink_received_bytes_total"],
        found["covenant_superlink_sent_bytes_total"],
    ) == (300, 400)


def test_counts_of_the_superlink_that_cannot_be_read_leave_the_other_figures(
    centre: Centre, capsys: pytest.CaptureFixture[str]
) -> None:
    file = file_in(centre.settings.home)
    file.unlink(missing_ok=True)
    file.mkdir(parents=True)
    found = figures(centre)
    assert found["covenant_database_up"] == 1
    assert not any(name.startswith("covenant_superlink_requests") for name in found)
    said = capsys.readouterr()
    assert "the SuperLink's count is left out of the metrics" in said.out + said.err


def test_a_database_that_does_not_answer_is_a_figure(centre: Centre) -> None:
    centre.engine.dispose()
    (centre.settings.home / "covenant.db").rename(centre.settings.home / "gone.db")
    (centre.settings.home / "covenant.db").mkdir()
    assert figures(centre)["covenant_database_up"] == 0


def test_the_section_is_read_and_an_address_without_a_port_is_refused(centre: Centre) -> None:
    text = (centre.settings.home / "covenant.yaml").read_text()
    config = type(centre.settings.config)
    read = read_document(
        text + 'monitoring: {metrics: "127.0.0.1:9465"}\nlogging: {level: debug}\n', config, "covenant.yaml"
    )
    assert (read.monitoring.metrics, read.logging.level) == ("127.0.0.1:9465", "debug")
    with pytest.raises(UsageError, match="host:port"):
        read_document(text + "monitoring: {metrics: here}\n", config, "covenant.yaml")
