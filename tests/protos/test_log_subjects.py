"""Entries are found by what they are about, however they are read."""

from __future__ import annotations

from typing import Any, get_args

import pytest

from protos import log_subjects
from protos.log_entries import LogEntry, What
from protos.log_subjects import LONGEST, Subject, subjects_of
from simulation.bench.log_story import LogStory
from strategies.errors import UsageError

RUN = "run-0123456789abcdef"
DIGEST = "ab" * 32


def keys(what: dict[str, Any]) -> set[str]:
    return {each.key for each in subjects_of(what)}


def kinds(of: Any) -> set[str]:
    """Of a union of parts, however deep."""
    if fields := getattr(of, "model_fields", None):
        return {fields["kind"].default}
    return set().union(*map(kinds, get_args(of)))


def test_every_kind_of_entry_says_what_it_is_about() -> None:
    assert kinds(get_args(What)[0]) == set(log_subjects._ABOUT)


def test_parts_and_their_json_are_about_the_same() -> None:
    entries = [LogEntry.from_canonical(each) for each in LogStory().entries(40)]

    assert [subjects_of(each.what) for each in entries] == [
        subjects_of(each.what.model_dump(mode="json")) for each in entries
    ]
    about = [{each.of for each in subjects_of(entry.what)} for entry in entries]
    assert about[:4] == [{"site"}, {"plan", "site"}, {"run", "plan"}, {"run", "site"}]
    assert all(each == {"run"} for each in about[4:10])


@pytest.mark.parametrize(
    ("what", "found"),
    [
        ({"kind": "launch", "run": RUN, "plan": DIGEST, "reserved": [{"site": "west"}, {"site": "west"}]}, {f"run/{RUN}", f"plan/{DIGEST}", "site/west"}),
        ({"kind": "round", "run": RUN, "roster": ["west", "east"], "survivors": ["west"]}, {f"run/{RUN}"}),
        ({"kind": "refused", "run": RUN, "site": "west", "accused": "east"}, {f"run/{RUN}", "site/west", "site/east"}),
        ({"kind": "ceiling", "decision": {"document": {"decision": {"site": "west"}, "statements": [{"officer": "west"}]}}}, {"site/west", "officer/west"}),
        ({"kind": "model", "name": "lending", "version": 3, "run": RUN}, {"model/lending", "model/lending@3", f"run/{RUN}"}),
        ({"kind": "model-moved", "name": "lending", "version": 3, "by": "an operator"}, {"model/lending", "model/lending@3"}),
        ({"kind": "model-aliased", "name": "lending", "version": None, "by": "risk-1"}, {"model/lending", "officer/risk-1"}),
        ({"kind": "model-approved", "statement": {"model": "lending", "version": 3, "officer": "risk-1"}}, {"model/lending", "model/lending@3", "officer/risk-1"}),
        ({"kind": "halted", "order": {"document": {"scope": "run", "target": RUN, "by": {"kind": "service", "name": "log", "asked_by": "risk-1"}}}}, {f"run/{RUN}", "officer/risk-1"}),
        ({"kind": "halted", "order": {"document": {"scope": "all", "by": {"kind": "site", "name": "west"}}}}, {"site/west"}),
        ({"kind": "judged", "judgement": {"subject": {"of": "model", "name": "lending", "version": 3}}}, {"model/lending", "model/lending@3"}),
        ({"kind": "judged", "judgement": {"subject": {"of": "plan", "name": "lending", "plan": DIGEST}}}, {"plan/lending", f"plan/{DIGEST}"}),
        ({"kind": "deployed", "target": "core", "by": "ml-1", "releases": [{"released": {"model": "lending", "version": 3}}]}, {"target/core", "officer/ml-1", "model/lending", "model/lending@3"}),
        ({"kind": "denied", "officer": "ml-1"}, {"officer/ml-1"}),
        ({"kind": "of a later version", "run": RUN}, set()),
        ({"kind": "refused", "run": 7, "site": ["west"], "accused": "../<b>"}, set()),
    ],
)  # fmt: skip
def test_an_entry_names_its_subjects(what: dict[str, Any], found: set[str]) -> None:
    assert keys(what) == found


def test_the_longest_subject_fits_the_index() -> None:
    longest = {"kind": "model-signed", "name": "a" * 63, "version": 10**9}

    assert max(map(len, keys(longest))) <= LONGEST


@pytest.mark.parametrize(
    "key", ["", "run", "run/", "nothing/west", "site/WEST", "site/we/st", "site/" + "a" * 99]
)
def test_what_is_no_subject_is_refused(key: str) -> None:
    with pytest.raises(UsageError, match="no subject of the log"):
        Subject.parse(key)
