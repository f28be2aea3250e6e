"""The registry as the log tells it: only moves that there are, from where the version stands; aliases that follow."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from protos.log_registry import JUDGED, RegistryStory
from protos.log_registry_events import ModelAliased, ModelMoved
from protos.model_stages import MOVES, Stage
from strategies.encoding import sha256_hex
from strategies.errors import Refused

AT = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DIGEST = sha256_hex(b"a version")
VERDICT, OTHER = sha256_hex(b"a verdict"), sha256_hex(b"another verdict")
NAME = "lending-default"


def moved(
    before: Stage, to: Stage, version: int = 1, digest: str = DIGEST, on: str | None = None
) -> ModelMoved:
    return ModelMoved(
        name=NAME, version=version, digest=digest, before=before, to=to, why="a test", by="model-risk", on=on
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
    if before in JUDGED:
        told.judge(NAME, 1, VERDICT, passed=True)
    if to in MOVES[before]:
        told.take(moved(before, to, on=VERDICT if to is Stage.VALIDATED else None), None, AT)
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


Said = tuple[int, str, bool]
"""Of which version a verdict is, its digest, and whether it passes."""


def judged_story(*said: Said) -> RegistryStory:
    """Two candidates, and what the gate said of them in this order."""
    told = story(versions=2)
    for version, verdict, passed in said:
        told.judge(NAME, version, verdict, passed=passed)
    return told


@pytest.mark.parametrize(
    ("said", "on", "reason"),
    [
        pytest.param((), None, "the gate has not judged it", id="a bare move"),
        pytest.param((), VERDICT, "the gate has not judged it", id="a verdict that nobody told"),
        pytest.param(((1, VERDICT, True),), None, "on no verdict", id="a bare move beside a verdict"),
        pytest.param(((2, VERDICT, True),), VERDICT, "the gate has not judged it", id="of another version"),
        pytest.param(
            ((1, OTHER, True), (2, VERDICT, True)),
            VERDICT,
            "newest verdict on it is",
            id="of another, beside its own",
        ),
        pytest.param(((1, VERDICT, False),), VERDICT, "does not pass it", id="a verdict that fails"),
        pytest.param(
            ((1, VERDICT, True), (1, OTHER, False)),
            VERDICT,
            "newest verdict on it is",
            id="superseded by one that fails",
        ),
        pytest.param(
            ((1, VERDICT, True), (1, OTHER, True)),
            VERDICT,
            "newest verdict on it is",
            id="superseded by one that passes",
        ),
    ],
)
def test_a_candidate_is_validated_on_the_newest_verdict_and_only_if_that_passes(
    said: tuple[Said, ...], on: str | None, reason: str
) -> None:
    told = judged_story(*said)
    with pytest.raises(Refused, match=f"{NAME}@1 cannot become validated.*{reason}"):
        told.take(moved(Stage.CANDIDATE, Stage.VALIDATED, on=on), None, AT)
    told.judge(NAME, 1, VERDICT, passed=True)
    told.take(moved(Stage.CANDIDATE, Stage.VALIDATED, on=VERDICT), None, AT)
    assert told.versions[NAME, 1].validated == VERDICT


@pytest.mark.parametrize("stage", sorted(set(Stage) - JUDGED))
def test_the_gate_judges_candidates_and_validated_versions(stage: Stage) -> None:
    with pytest.raises(Refused, match=f"{NAME}@1 is {stage}; the gate judges candidates"):
        story(stage).judge(NAME, 1, VERDICT, passed=True)


def test_a_verdict_of_before_a_quarantine_counts_no_more() -> None:
    told = judged_story((1, VERDICT, True))
    told.take(moved(Stage.CANDIDATE, Stage.QUARANTINED), None, AT)
    told.take(moved(Stage.QUARANTINED, Stage.CANDIDATE), None, AT)
    with pytest.raises(Refused, match="has not judged it since it became a candidate"):
        told.take(moved(Stage.CANDIDATE, Stage.VALIDATED, on=VERDICT), None, AT)
