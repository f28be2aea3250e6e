"""`covenant diagnose` names the cause of every misfortune of the campaign that the centre can see, each planted here by itself."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.cli.diagnose import _show, diagnose_run
from coordinator.db.schema import RunState
from coordinator.diagnosis.causes import CAUSES
from coordinator.diagnosis.diagnose import Finding, diagnose
from coordinator.diagnosis.evidence import RunEvidence, Symptom, gather, read_events
from protos.shell import people
from simulation.campaign.schedule import (
    TEN_YEARS_S,
    Death,
    Delay,
    DiskFull,
    Duplication,
    FlushFails,
    Garbling,
    Loss,
    LyingCoordinator,
    LyingSite,
    Misfortune,
    Replay,
    Rot,
    Skew,
    Snapshot,
    TornWrite,
    Twin,
)
from simulation.campaign.stage import SITES
from simulation.world.world import COORDINATOR, SERVER
from strategies.errors import UsageError
from strategies.ids import RunId
from strategies.update_gate import GateTripped, UpdateGate
from tests.campaign_for_tests import AFTER_A_SNAPSHOT, struck

WEST = SITES[-1]
RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"
PLANTED: Mapping[str, tuple[Misfortune, str | None]] = {
    "loss": (Loss(rate=0.4), "site-silent"),
    "delay": (Delay(most_s=70.0), "site-silent"),
    "duplication": (Duplication(rate=0.5), None),
    "replay": (Replay(rate=0.25), "strange-answers"),
    "garbling": (Garbling(rate=0.2), "documents-changed"),
    "death of the server process": (Death(party=SERVER, step=30, down_s=1.0), "driver-died"),
    "death of everything at the centre": (
        Death(party=SERVER, step=30, down_s=5.0, whole=True),
        "driver-died",
    ),
    "death of the coordinator": (Death(party=COORDINATOR, step=1, down_s=5.0), None),
    "death of a site": (Death(party=WEST, step=16, down_s=100.0), "site-silent"),
    "torn write": (TornWrite(site=WEST, commit=9, share=0.5, down_s=100.0), "site-silent"),
    "failed flush at the centre": (FlushFails(party=SERVER, commit=12, written=False), "disk-failed"),
    "failed flush at a site": (FlushFails(party=WEST, commit=7, written=False), None),
    "full disk at the centre": (DiskFull(party=SERVER, commit=12, times=3), "disk-full"),
    "full disk at a site": (DiskFull(party=WEST, commit=9, times=2), "site-silent"),
    "rot": (Rot(site=WEST, at=60, place=0.0), "site-silent"),
    "snapshot": (Snapshot(site=WEST, taken=2, back=100), "site-set-back"),
    "twin": (Twin(site=WEST, at=40), None),
    "clock behind": (Skew(seconds=-TEN_YEARS_S, since=30), None),
    "clock ahead": (Skew(seconds=TEN_YEARS_S, since=30), None),
    **{
        f"lie: {kind}": (LyingSite(site=WEST, kind=kind, rate=0.9), "strange-answers")
        for kind in ("garbage", "another-name", "another-statement", "short", "stale")
    },
    "lying coordinator": (LyingCoordinator(site=WEST, rate=0.6, first=True), "keys-gone"),
}


AFTERWARDS: Mapping[str, Misfortune] = {"snapshot": AFTER_A_SNAPSHOT}


def played(folder: Path, seed: int, *misfortunes: Misfortune) -> list[Finding]:
    """What is diagnosed after a federation met one misfortune."""
    with struck(folder, seed, *misfortunes) as found:
        return diagnose(gather(found.federation.centre().engine, found.run, found.events))


def test_every_misfortune_of_the_campaign_is_planted() -> None:
    planted = {type(misfortune) for misfortune, _ in PLANTED.values()}
    assert planted == set(Misfortune.__args__)


@pytest.mark.slow
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_misfortune_is_named(tmp_path: Path, name: str) -> None:
    misfortune, cause = PLANTED[name]
    struck = (misfortune, AFTERWARDS[name]) if name in AFTERWARDS else (misfortune,)
    found = [each for seed in (1, 2) for each in played(tmp_path / str(seed), seed, *struck)]
    names = {each.cause for each in found}
    if cause is None:
        assert names <= {"site-silent", "driver-died"}, "no harm was done that a person must mend"
        return
    assert cause in names
    (named, *_) = [each for each in found if each.cause == cause]
    assert named.evidence
    assert named.next
    if getattr(misfortune, "site", None) == WEST and cause != "site-silent":
        assert WEST in {site for each in found if each.cause == cause for site in each.sites}


@pytest.mark.parametrize("name", ["death of the server process", "full disk at the centre"])
def test_a_misfortune_at_the_centre_is_named(tmp_path: Path, name: str) -> None:
    misfortune, cause = PLANTED[name]
    assert cause in {each.cause for each in played(tmp_path / "one", 2, misfortune)}


def evidence(*symptoms: Symptom) -> RunEvidence:
    return RunEvidence(
        run=RunId("run-0123456789abcdef"), state=RunState.FAILED, reason=None, committed=1, rounds=4, idle_starts=0, symptoms=symptoms
    )  # fmt: skip


def test_a_cause_names_the_sites_that_its_evidence_is_about() -> None:
    found = diagnose(
        evidence(
            Symptom(
                "the run is failed",
                "2 of at least 3 sites answered: east is not online; west refused (policy) no",
            ),
            Symptom("now", "is not online", "east"),
            Symptom("now", "refused (policy) no", "west"),
        )
    )
    assert {each.cause: each.sites for each in found} == {"policy": ("west",), "site-silent": ("east",)}
    assert found[0].next[0] == "at west: covenant-agent history --run run-0123456789abcdef"


def test_a_gate_that_ended_a_run_is_named_and_no_site_with_it() -> None:
    with pytest.raises(GateTripped) as tripped:
        UpdateGate(update_norm=1.0).require(np.full(4, 9.0), 2)
    found = diagnose(
        evidence(
            Symptom("the run is failed", str(tripped.value)),
            Symptom("round 1", "did not answer before the deadline", "west"),
        )
    )
    assert [(each.cause, each.sites) for each in found] == [("update-gate", ()), ("site-silent", ("west",))]


def test_what_a_site_wrote_moves_no_cursor_where_it_is_shown() -> None:
    said = evidence(Symptom("now", "refused (policy) \x1b[2J[bold]no", "west"))
    with people.capture() as shown:
        _show(said, diagnose(said))
    assert "[bold]no" in shown.get()
    assert "\x1b[2J" not in shown.get()


def test_a_run_of_which_nothing_was_said_has_no_findings() -> None:
    assert diagnose(evidence()) == []


def test_the_pages_that_causes_name_are_there() -> None:
    assert all((RUNBOOKS / each.page).resolve().is_file() for each in CAUSES)
    assert len({each.name for each in CAUSES}) == len(CAUSES)


def test_events_are_those_of_the_run(tmp_path: Path) -> None:
    run, log = RunId("run-0123456789abcdef"), tmp_path / "serverapp.log"
    lines: list[Any] = [{"event": "driving", "run": run}, {"event": "driving", "run": "run-0000000000000000"}]
    log.write_text("\n".join([*map(json.dumps, lines), f"no JSON, of {run}", "[1]"]))
    assert read_events(log, run) == lines[:1]
    assert read_events(tmp_path / "absent", run) == []


@pytest.fixture
def home(tmp_path: Path) -> Path:
    from coordinator.cli.centre import init

    with people.capture():
        init(tmp_path / "centre", "demo")
    return tmp_path / "centre"


def test_the_command_says_that_there_is_no_such_run(home: Path) -> None:
    with pytest.raises(UsageError, match="there is no run run-0123456789abcdef"):
        diagnose_run("run-0123456789abcdef", home=home)
