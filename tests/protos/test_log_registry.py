"""The registry as the log tells it: only moves that there are, from where the version stands; aliases that follow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from protos.log_registry import ModelAliased, ModelMoved, RegistryStory
from protos.model_stages import MOVES, Stage
from strategies.encoding import sha256_hex
from strategies.errors import Refused

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = sha256_hex(b"a version")
NAME = "lending-default"


def moved(before: Stage, to: Stage, version: int = 1, digest: str = DIGEST) -> ModelMoved:
    return ModelMoved(
        name=NAME, version=version, digest=digest, before=before, to=to, why="a test", by="model-risk"
    )


def aliased(alias: str, version: int | None) -> ModelAliased:
    return ModelAliased(name=NAME, alias=alias, version=version, by="ml-engineer")


def story(stage: Stage = Stage.CANDIDATE, versions: int = 1) -> RegistryStory:
    made = RegistryStory()
    for version in range(1, versions + 1):
        made.register(NAME, version, DIGEST)
        made.versions[NAME, version].stage = stage
    return made


@pytest.mark.parametrize("before", Stage)
@pytest.mark.parametrize("to", Stage)
def test_only_the_moves_of_the_table_are_believed(before: Stage, to: Stage) -> None:
    told = story(before)
    if (before, to) == (Stage.VALIDATED, Stage.APPROVED):
        return  # takes approvals, which the tests of those have
    if to in MOVES[before]:
        told.take(moved(before, to), None, AT)
        assert told.versions[NAME, 1].stage is to
        return
    with pytest.raises(Refused, match=f"is {before} and cannot become {to}"):
        told.take(moved(before, to), None, AT)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        (moved(Stage.VALIDATED, Stage.RETIRED), "is moved as validated .*, and is candidate"),
        (moved(Stage.CANDIDATE, Stage.VALIDATED, digest=sha256_hex(b"another")), "is moved as candidate"),
        (moved(Stage.CANDIDATE, Stage.VALIDATED, version=2), "lending-default@2 is not registered before it"),
        (aliased("champion", 1), "champion is the version that was deployed last"),
        (aliased("next", 2), "is not registered before it"),
        (aliased("next", None), "is taken away, and names nothing"),
    ],
)
def test_an_entry_that_does_not_fit_is_refused(what: ModelMoved | ModelAliased, reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        story().take(what, None, AT)


def test_aliases_follow_the_moves() -> None:
    told = story(Stage.APPROVED, versions=2)
    told.take(aliased("best", 2), None, AT)
    for version in (1, 2):
        told.take(moved(Stage.APPROVED, Stage.DEPLOYED, version), None, AT)
        assert told.aliases(NAME) == {"best": 2, "champion": version}
    told.take(moved(Stage.DEPLOYED, Stage.QUARANTINED, version=2), None, AT)
    assert told.aliases(NAME) == {"champion": 1}
    with pytest.raises(Refused, match="is quarantined, and such a version has no alias"):
        told.take(aliased("best", 2), None, AT)
