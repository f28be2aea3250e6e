"""Releases are signed, for one target, in an order that never goes back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from protos.membership import MemberList, Service
from protos.model_release import (
    ModelRelease,
    Released,
    floor_after,
    require_in_force,
    require_release,
    sign_release,
)
from strategies.encoding import digest_of
from strategies.errors import Refused, UsageError
from strategies.ids import Digest
from tests.ceilings_for_tests import site_of
from tests.trust_for_tests import key_of

FEDERATION, LIST = Digest("ab" * 32), Digest("cd" * 32)
AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
FILES = {"model.onnx": Digest("01" * 32), "plan.json": Digest("02" * 32)}


def members(key: str = "artifacts") -> MemberList:
    service = Service(name="artifacts", purpose="artifacts", key=key_of(key).public)
    return MemberList(name="demo", version=1, members=(site_of("west"),), services=(service,))


def released(version: int = 1, **changes: Any) -> Released:
    facts = {"model": "lending", "version": version, "digest": digest_of(FILES), "artifacts": FILES}
    return Released(**{**facts, **changes})


def release(sequence: int = 1, **changes: Any) -> ModelRelease:
    facts: dict[str, Any] = {
        "federation": FEDERATION,
        "members": LIST,
        "target": "branch-1",
        "sequence": sequence,
        "floor": 1,
        "mode": "serve",
        "released": released(),
        "at": AT,
        "expires": AT + timedelta(days=30),
    }
    signer = key_of(changes.pop("key", "artifacts"))
    return sign_release(signer, **{**facts, **changes})


def test_a_release_counts_as_it_was_signed() -> None:
    found = ModelRelease.from_canonical(release().canonical)
    assert require_release(found, members(), FEDERATION, "branch-1") == found
    require_in_force(found, AT)
    require_in_force(found, AT + timedelta(days=30))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"key": "somebody"}, "not signed by artifacts"),
        ({"target": "branch-2"}, "not for branch-1"),
        ({"federation": Digest("ef" * 32)}, "another federation"),
    ],
)
def test_a_release_of_others_is_refused(change: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        require_release(release(**change), members(), FEDERATION, "branch-1")


@pytest.mark.parametrize("field", ["sequence", "floor", "expires", "mode", "released"])
def test_a_release_with_one_changed_value_is_refused(field: str) -> None:
    other = {
        "sequence": 3,
        "floor": 2,
        "expires": AT + timedelta(days=31),
        "mode": "trial",
        "released": released(2),
    }
    changed = release(2).model_copy(update={field: other[field]})
    with pytest.raises(Refused, match="not signed by"):
        require_release(changed, members(), FEDERATION, "branch-1")


def test_a_list_without_the_service_vouches_for_nothing() -> None:
    alone = MemberList(name="demo", version=1, members=(site_of("west"),))
    with pytest.raises(Refused, match="no service for purpose artifacts"):
        require_release(release(), alone, FEDERATION, "branch-1")


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        (AT + timedelta(days=30, seconds=1), "good until 2026-12-23"),
        (AT - timedelta(minutes=11), "this machine's future"),
    ],
)
def test_a_release_is_good_for_its_time(now: datetime, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        require_in_force(release(), now)


@pytest.mark.parametrize(
    "change",
    [
        {"floor": 2},
        {"expires": AT},
        {"sequence": 0},
        {"mode": "recall", "sequence": 3},
        {"target": "Branch 1"},
    ],
)
def test_what_makes_no_sense_is_never_signed(change: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        release(**change)


def test_the_digest_is_of_the_files() -> None:
    with pytest.raises(ValueError, match="not of these artifacts"):
        released(digest=Digest("99" * 32))


def test_a_machine_takes_nothing_back() -> None:
    first = floor_after(release(1), None)
    trial = floor_after(release(2, mode="trial"), first)
    assert (trial.floor, trial.sequence) == (1, 2)
    # What serves still counts beside the trial, and changes nothing.
    assert floor_after(release(1), trial) == trial
    promoted = floor_after(release(3, floor=3), trial)
    for old in (release(1), release(2, mode="trial")):
        with pytest.raises(Refused, match="releases before 3 count no more"):
            floor_after(old, promoted)
    # A release whose own floor is lower does not lower the machine's.
    assert floor_after(release(4, floor=1), promoted).floor == 3


def test_nothing_before_a_recall_counts() -> None:
    recalled = floor_after(release(5, floor=5, mode="recall"), floor_after(release(4), None))
    with pytest.raises(Refused, match="releases before 5"):
        floor_after(release(4), recalled)


def test_two_releases_of_one_number_are_a_sign_of_a_stolen_key() -> None:
    accepted = floor_after(release(2), None)
    assert floor_after(release(2), accepted) == accepted
    with pytest.raises(Refused, match="signed two"):
        floor_after(release(2, mode="trial"), accepted)


def test_beside_a_trial_only_the_release_that_served_counts() -> None:
    served = floor_after(release(3, floor=3), None)
    trial = floor_after(release(5, floor=3, mode="trial"), served)
    assert floor_after(release(3, floor=3), trial) == trial
    for other in (release(3, floor=3, released=released(2)), release(4, floor=3, mode="trial")):
        with pytest.raises(Refused, match="signed two"):
            floor_after(other, trial)
    # A machine that saw the trial first keeps to the one that it sees then.
    late = floor_after(release(3, floor=3), floor_after(release(5, floor=3, mode="trial"), None))
    assert late == trial
    with pytest.raises(Refused, match="signed two"):
        floor_after(release(3, floor=3, released=released(2)), late)


def test_the_floor_is_of_one_target() -> None:
    with pytest.raises(Refused, match="which runs here"):
        floor_after(release(2, target="branch-2"), floor_after(release(1), None))
