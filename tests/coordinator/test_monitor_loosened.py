"""How a version is watched is tightened by one person, and loosened by what a privacy officer and a model risk officer have signed; an auditor asks for the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.bootstrap import Centre
from coordinator.cli.log_words import words_of
from coordinator.db.engine import reading, writing
from coordinator.db.monitor_schema import MonitorRow
from coordinator.db.schema import Model
from coordinator.documents import read_members
from coordinator.governance.log import open_log
from coordinator.office.actors import here
from coordinator.office.monitoring import watch, watch_of
from protos.drift import DriftRules
from protos.log_entries import LogEntry
from protos.log_monitor import MonitorAdded, MonitorStory
from protos.membership import Role
from protos.monitor_approvals import (
    GOOD_FOR,
    Change,
    MonitorStatement,
    loosened,
    state_change,
)
from protos.monitor_approvals import (
    Watch as Watching,
)
from protos.windows import Monitor
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.coordinator.cli_for_tests import Command, commands_in, facts_of
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.coordinator.monitor_for_tests import MONITOR, Population, Watch, made, metrics_of, watched
from tests.trust_for_tests import key_of

__all__ = ["made", "watched"]
USUAL = DriftRules()
PRIVACY, RISK = ("privacy-1", Role.PRIVACY_OFFICER), ("risk-1", Role.MODEL_RISK)
LAXER: dict[str, dict[str, Any]] = {
    "a lower rate of false alarms": {"false_alarm_rate": 0.01},
    "the same rate for more windows": {"horizon": 100},
    "a higher rate for so many more windows that each may use less": {
        "false_alarm_rate": 0.1,
        "horizon": 121,
    },
    "more drift that is tolerated": {"tolerated_psi": 0.03},
    "worse metrics that are tolerated": {"tolerated_drop": 0.03},
    "a forecast that looks for more": {"threshold_psi": 0.3},
    "one tighter and one laxer": {"false_alarm_rate": 0.2, "tolerated_drop": 0.03},
}
TIGHTER: dict[str, dict[str, Any]] = {
    "the same": {},
    "a higher rate of false alarms": {"false_alarm_rate": 0.1},
    "a lower rate for so few windows that each may use more": {"false_alarm_rate": 0.025, "horizon": 30},
    "less that is tolerated": {"tolerated_psi": 0.01, "tolerated_drop": 0.0, "threshold_psi": 0.1},
}


def of(monitor: str = "ab", **rules: Any) -> Watching:
    return Watching(monitor=Digest(monitor * 32), rules=DriftRules(**rules))


@pytest.mark.parametrize("rules", LAXER.values(), ids=LAXER)
def test_rules_that_let_more_pass_are_looser(rules: dict[str, Any]) -> None:
    assert loosened(of(), of(**rules))


@pytest.mark.parametrize("rules", TIGHTER.values(), ids=TIGHTER)
def test_rules_that_let_no_more_pass_are_not(rules: dict[str, Any]) -> None:
    assert loosened(of(), of(**rules)) == ()


def test_another_monitor_is_looser_whatever_is_other_about_it() -> None:
    assert loosened(of(), of("cd", false_alarm_rate=0.5))


# --- at the coordinator ---------------------------------------------------------------------------------------------------


def in_force(centre: Centre) -> MonitorRow:
    with reading(centre.engine, "looking") as session:
        return session.get_one(MonitorRow, (NAME, 1))


def change_of(at: Watch, rules: DriftRules, monitor: Monitor | None = None) -> Change:
    return Change(
        model=NAME,
        version=1,
        digest=at.reference.version_digest,
        before=watch_of(in_force(at.works.centre)),
        after=Watching(monitor=(monitor or at.monitor).digest, rules=rules),
    )


def words(
    watched: Watch, change: Change, *officers: tuple[str, Role], **otherwise: Any
) -> list[MonitorStatement]:
    centre = watched.works.centre
    facts = {"federation": read_members(centre.settings)[1].federation, "at": centre.clock()} | otherwise
    return [state_change(change, name, role, key_of(name), **facts) for name, role in officers]


def asked(at: Watch, rules: DriftRules, said: Sequence[MonitorStatement] = ()) -> None:
    watch(at.works.centre, here(), NAME, 1, at.monitor, rules, "a season", approvals=said)


def rules_of(at: Watch, **changes: Any) -> DriftRules:
    """The rules in force with some changed."""
    return watch_of(in_force(at.works.centre)).rules.model_copy(update=changes)


def entries(at: Watch) -> list[LogEntry]:
    centre = at.works.centre
    log = open_log(centre.engine, centre.settings, centre.clock)
    return [LogEntry.from_canonical(each.body) for each in log.entries()]


def test_one_person_tightens_and_two_officers_loosen(watched: Watch) -> None:
    tighter = rules_of(watched, tolerated_drop=0.0)
    asked(watched, tighter)
    assert watch_of(in_force(watched.works.centre)).rules == tighter
    laxer = rules_of(watched, tolerated_drop=0.1)
    change = change_of(watched, laxer)
    both = words(watched, change, PRIVACY, RISK)
    for said, lacks in (
        ((), "privacy_officer and model_risk"),
        (both[:1], "model_risk"),
        (both[1:], "privacy_officer"),
    ):
        with pytest.raises(Refused, match=rf"tolerated_drop is 0.1 after 0.* lacks {lacks}"):
            asked(watched, laxer, said)
    assert watch_of(in_force(watched.works.centre)).rules == tighter
    asked(watched, laxer, both)
    assert watch_of(in_force(watched.works.centre)).rules == laxer
    asked(watched, tighter)
    with pytest.raises(Refused, match="about another change: its `since`"):
        asked(watched, laxer, both)  # which were for the change of before


def test_another_monitor_takes_two_officers(watched: Watch) -> None:
    other = watched.monitor.model_copy(update={"minimum_group": 200})
    with pytest.raises(Refused, match="the monitor is another"):
        watch(watched.works.centre, here(), NAME, 1, other, USUAL, "why")


def test_a_word_that_does_not_count_refuses_the_change(watched: Watch) -> None:
    laxer = rules_of(watched, tolerated_drop=0.1)
    change, at = change_of(watched, laxer), watched.works.centre.clock()
    good = words(watched, change, PRIVACY, RISK)
    elsewhere = replace(change, after=replace(change.after, rules=rules_of(watched, tolerated_drop=0.2)))
    bad = {
        "is ml_engineer, not model_risk": words(watched, change, ("author-1", Role.MODEL_RISK)),
        "is no officer": words(watched, change, ("nobody-1", Role.MODEL_RISK)),
        "about another change: its `rules`": words(watched, elsewhere, RISK),
        "is for another federation": words(watched, change, RISK, federation=Digest("ab" * 32)),
        "is good for 7 days": words(watched, change, RISK, at=at - GOOD_FOR - timedelta(days=1)),
        "not signed with their key": [good[1].model_copy(update={"signature": good[0].signature})],
    }
    for match, said in bad.items():
        with pytest.raises(Refused, match=match):
            asked(watched, laxer, [good[0], *said])
    with pytest.raises(UsageError, match="not as ml_engineer"):
        words(watched, change, ("author-1", Role.ML_ENGINEER))


def test_words_for_a_change_that_loosens_nothing_are_refused(watched: Watch) -> None:
    """Log and evidence say of an entry with officers' words that it was loosened as they signed, of one officer's too."""
    tighter = rules_of(watched, tolerated_drop=0.0)
    said = words(watched, change_of(watched, tighter), PRIVACY)
    with pytest.raises(Refused, match="loosens nothing, and takes nobody's word"):
        asked(watched, tighter, said)


def test_an_auditor_refuses_what_was_loosened_with_one_signature(watched: Watch) -> None:
    laxer = rules_of(watched, tolerated_drop=0.1)
    asked(watched, laxer, words(watched, change_of(watched, laxer), PRIVACY, RISK))
    trusted = read_members(watched.works.centre.settings)[1]
    *_, first, second = (each for each in entries(watched) if isinstance(each.what, MonitorAdded))
    assert isinstance(first.what, MonitorAdded)
    assert isinstance(second.what, MonitorAdded)
    assert second.what.approvals is not None
    registered = {(NAME, 1, watched.reference.version_digest)}

    def story() -> MonitorStory:
        found = MonitorStory()
        found.take(first.what, registered, first.at, trusted)  # type: ignore[arg-type]
        return found

    story().take(second.what, registered, second.at, trusted)
    for kept in (None, second.what.approvals[:1], second.what.approvals[1:]):
        with pytest.raises(Refused, match="would be watched less tightly"):
            story().take(second.what.model_copy(update={"approvals": kept}), registered, second.at, trusted)
    further = second.what.model_copy(update={"rules": rules_of(watched, tolerated_drop=0.2)})
    with pytest.raises(Refused, match="about another change: its `rules`"):
        story().take(further, registered, second.at, trusted)
    with pytest.raises(Refused, match="before any member list"):
        story().take(second.what, registered, second.at)
    with pytest.raises(Refused, match="is good for 7 days"):
        story().take(second.what, registered, second.at + GOOD_FOR + timedelta(days=1), trusted)
    with pytest.raises(Refused, match="for the first time, which loosens nothing"):
        MonitorStory().take(second.what, registered, second.at, trusted)


def test_what_windows_are_compared_with_stays_while_a_version_is_watched(watched: Watch) -> None:
    """Of a run before a gap nobody can compute it any more: another one would hide any drift, and takes no officer."""
    trusted = read_members(watched.works.centre.settings)[1]
    *_, first = (each for each in entries(watched) if isinstance(each.what, MonitorAdded))
    assert isinstance(first.what, MonitorAdded)
    registered = {(NAME, 1, watched.reference.version_digest)}
    story = MonitorStory()
    story.take(first.what, registered, first.at, trusted)
    story.take(first.what, registered, first.at, trusted)
    other = first.what.model_copy(update={"reference": "ab" * 32})
    with pytest.raises(Refused, match="is compared with another reference"):
        story.take(other, registered, first.at, trusted)


def test_a_registry_that_was_changed_gives_no_other_reference_to_a_version_that_is_watched(
    watched: Watch,
) -> None:
    centre = watched.works.centre
    drifted = metrics_of(Population.usual(), np.random.default_rng(99))
    with writing(centre.engine, "changing what was released") as session:
        session.get_one(Model, (NAME, 1)).metrics = drifted
    with pytest.raises(Refused, match="is compared with another reference"):
        asked(watched, rules_of(watched))


@pytest.mark.slow
def test_officers_sign_a_change_at_their_own_machines(
    tmp_path: Path,
    migrated_sqlite: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    works = Works.make_at(tmp_path / "home", migrated_sqlite)
    works.approved(1, metrics_of(Population.usual(), np.random.default_rng(4)))
    covenant: Command = commands_in(tmp_path, monkeypatch, capsys)
    monitor = tmp_path / "monitor.yaml"
    monitor.write_text(MONITOR)

    def asked_by(name: str, **changes: Any) -> tuple[str, ...]:
        file = tmp_path / f"{name}.yaml"
        file.write_bytes(USUAL.model_copy(update=changes).canonical)
        return (f"{NAME}@1", str(monitor), "--rules", str(file))

    def signs(who: tuple[str, Role], what: tuple[str, ...]) -> tuple[str, ...]:
        (name, role), key = who, tmp_path / f"{who[0]}.key"
        if not key.exists():
            key_of(name).save(key)
        signer = (
            "--officer",
            name,
            "--key",
            str(key),
            "--as",
            role.value,
            "--root",
            str(works.home / "root.json"),
        )
        return (*what, *signer, "--out", str(tmp_path / f"{name}.json"), "--yes")

    facts_of(covenant, "monitor", "add", *asked_by("usual"), "--why", "it decides")
    laxer = asked_by("laxer", tolerated_drop=0.1)
    left, _, err = covenant("monitor", "add", *laxer, "--why", "a season")
    assert (left, "covenant monitor sign" in err) == (3, True), err
    for each in (PRIVACY, RISK):
        told = facts_of(covenant, "monitor", "sign", *signs(each, laxer))
        assert told["looser"] == ["tolerated_drop is 0.1 after 0.02"]
    given = [part for name, _ in (PRIVACY, RISK) for part in ("--approval", str(tmp_path / f"{name}.json"))]
    facts_of(covenant, "monitor", "add", *laxer, "--why", "a season", *given)
    assert watch_of(in_force(works.centre)).rules.tolerated_drop == 0.1
    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    (*_, last) = (words_of(LogEntry.from_canonical(each.body).what) for each in log.entries())
    assert "loosened as privacy-1 and risk-1 signed: a season" in str(last)
    left, _, err = covenant("monitor", "sign", *signs(RISK, asked_by("tighter", tolerated_drop=0.0)))
    assert (left, "takes nobody's word" in err) == (2, True), err
    works.centre.engine.dispose()
