"""Versions are numbered without gaps or twins, and name exactly their artifacts."""

import threading
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from coordinator.db import writing
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.versions import ModelVersion, get_version, list_versions, register
from strategies.encoding import digest_of, sha256_hex
from strategies.errors import UsageError
from strategies.ids import RunId
from tests.coordinator.conftest import RUN, Clock, submitted

WEIGHTS = sha256_hex(b"the last model")
FILES = {"model.onnx": b"onnx", "model.safetensors": b"weights"}


@pytest.fixture
def registering(
    engine: Engine, artifacts: ArtifactStore, run: RunId, clock: Clock
) -> Callable[..., ModelVersion]:
    def one(
        name: str = "lending-default", run_id: RunId = run, files: dict[str, bytes] = FILES
    ) -> ModelVersion:
        return register(
            engine,
            artifacts,
            name=name,
            run_id=run_id,
            files=files,
            weights=WEIGHTS,
            metrics={"auc": 0.7},
            clock=clock,
        )

    return one


def test_a_version_names_exactly_its_artifacts(
    registering: Callable[..., ModelVersion], engine: Engine, artifacts: ArtifactStore
) -> None:
    first = registering()
    assert (first.ref, first.stage, first.run_id) == ("lending-default@1", "candidate", RUN)
    assert first.artifacts == {name: sha256_hex(data) for name, data in FILES.items()}
    assert first.digest == digest_of(dict(first.artifacts))
    assert {name: artifacts.get(digest) for name, digest in first.artifacts.items()} == FILES
    assert get_version(engine, "lending-default", 1) == first


def test_numbers_go_up_by_one_for_each_name(registering: Callable[..., ModelVersion], engine: Engine) -> None:
    registering()
    registering(files={"model.onnx": b"better"})
    registering(name="cards")
    assert [each.ref for each in list_versions(engine)] == [
        "cards@1",
        "lending-default@1",
        "lending-default@2",
    ]
    assert [each.version for each in list_versions(engine, "lending-default")] == [1, 2]
    assert list_versions(engine, "absent") == ()


def test_a_restarted_run_adds_no_twin(registering: Callable[..., ModelVersion], engine: Engine) -> None:
    assert registering() == registering()
    assert len(list_versions(engine)) == 1


def test_the_same_artifacts_of_another_run_are_another_version(
    registering: Callable[..., ModelVersion], engine: Engine
) -> None:
    other = RunId("run-" + "f" * 16)
    with writing(engine, "submitting") as session:
        session.add(submitted(other))
    assert (registering().version, registering(run_id=other).version) == (1, 2)


def test_registrations_at_once_get_different_numbers(
    opened: Callable[..., Engine], artifacts: ArtifactStore, engine: Engine, run: RunId
) -> None:
    def one(place: int) -> None:
        files = {"model.onnx": f"model {place}".encode()}
        register(
            opened(),
            artifacts,
            name="m",
            run_id=run,
            files=files,
            weights=WEIGHTS,
            metrics=None,
            clock=Clock(),
        )

    threads = [threading.Thread(target=one, args=(place,)) for place in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [each.version for each in list_versions(engine, "m")] == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"name": "Bad Name"}, "is not a model name"),
        ({"name": "m" * 64}, "is not a model name"),
        ({"files": {"../model.onnx": b""}}, "is not an artifact's file name"),
        ({"files": {"x" * 101: b""}}, "is not an artifact's file name"),
        ({"files": {}}, "has no files"),
        ({"run_id": RunId("run-" + "e" * 16)}, "is not in this database"),
    ],
)
def test_what_cannot_be_registered_is_refused_and_leaves_no_version(
    registering: Callable[..., ModelVersion], engine: Engine, change: dict[str, object], sentence: str
) -> None:
    with pytest.raises(UsageError, match=sentence):
        registering(**change)
    assert list_versions(engine) == ()


def test_an_absent_version_is_refused_with_what_exists(
    registering: Callable[..., ModelVersion], engine: Engine
) -> None:
    registering()
    with pytest.raises(
        UsageError, match="lending-default@7 is not registered; the latest is lending-default@1"
    ):
        get_version(engine, "lending-default", 7)
    with pytest.raises(UsageError, match="there is no model called cards"):
        get_version(engine, "cards", 1)
