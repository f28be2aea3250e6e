"""What a service is told to serve is one document whose revision only rises."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from coordinator.deploy.scoring.serving import (
    STATE_FILE,
    PackageRef,
    ServingState,
    read_state,
    write_state,
)
from strategies.errors import Refused
from strategies.ids import Digest

ONE = PackageRef(package="/packages/one", digest=Digest("a1" * 32))
TWO = PackageRef(package="/packages/two", digest=Digest("b2" * 32))


def test_a_state_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    assert read_state(tmp_path) is None
    for state in (
        ServingState(revision=1, stable=ONE, decline_at=0.5),
        ServingState(revision=4, stable=ONE, challenger=TWO, mode="canary", share=0.05),
        ServingState(revision=5),
    ):
        write_state(tmp_path, state)
        assert read_state(tmp_path) == state


def test_no_revision_follows_itself_or_a_later_one(tmp_path: Path) -> None:
    write_state(tmp_path, ServingState(revision=7, stable=ONE))
    for revision in (7, 6):
        with pytest.raises(Refused, match=f"has revision 7; {revision} is not above it"):
            write_state(tmp_path, ServingState(revision=revision, stable=TWO))
    found = read_state(tmp_path)
    assert found is not None
    assert found.stable == ONE


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"stable": ONE, "mode": "shadow"}, "a challenger is there exactly for shadow or canary"),
        ({"stable": ONE, "challenger": TWO}, "a challenger is there exactly for shadow or canary"),
        ({"challenger": TWO, "mode": "shadow"}, "needs a stable model beside it"),
        ({"stable": ONE, "challenger": TWO, "mode": "shadow", "share": 0.1}, "only a canary has a share"),
        ({"stable": ONE, "challenger": TWO, "mode": "canary", "share": 1.1}, "less than or equal to 1"),
        ({"stable": ONE, "decline_at": float("nan")}, "finite number"),
        ({"stable": {"package": "relative", "digest": "a1" * 32}}, "absolute path"),
        ({"stable": {"package": "/p", "digest": "A1" * 32}}, "64 lower-case"),
        ({"revision": 0}, "greater than or equal to 1"),
    ],
)
def test_states_that_say_nothing_sensible_are_refused(fields: dict[str, object], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        ServingState.model_validate({"revision": 1, **fields})


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    for data in (b"", b"{}", b'{"covenant":"serving/v2","revision":1}', b'{"revision": 1}', b"x" * 2**21):
        (tmp_path / STATE_FILE).write_bytes(data)
        with pytest.raises(Refused, match="ServingState received"):
            read_state(tmp_path)
