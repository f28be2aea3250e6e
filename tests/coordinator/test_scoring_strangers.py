"""Whoever has no token learns that the service lives and is ready, and nothing of what it serves."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import grpc
import pytest
from fastapi.testclient import TestClient

from coordinator.deploy.scoring.access import Buckets, Door, Limits, add_caller
from coordinator.deploy.scoring.app import create_app
from coordinator.deploy.scoring.grpc_service import InferenceService
from coordinator.deploy.scoring.reload import serve_one
from coordinator.deploy.scoring.scorer import Scorer
from protos import inference_pb2 as pb
from tests.coordinator.scoring_for_tests import NOW, opened


@pytest.fixture
def scorer() -> Scorer:
    scorer = Scorer(None, clock=lambda: NOW)
    serve_one(scorer, opened(), None)
    return scorer


@pytest.fixture
def door(tmp_path: Path) -> Door:
    add_caller(tmp_path / "callers", "loan-desk")
    return Door(tmp_path / "callers", Buckets(Limits(), lambda: 0.0), certificates=False)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/lending",
        "/v2/models/lending/ready",
        "/v2/models/lending/versions/3/ready",
        "/v2/models/another/ready",
        "/covenant/v1/status",
        "/metrics",
        "/v2",
    ],
)
def test_a_stranger_is_not_told_which_models_there_are(scorer: Scorer, door: Door, path: str) -> None:
    answer = TestClient(create_app(scorer, door)).get(path)
    assert answer.status_code == 401
    assert "lending" not in answer.text


def test_readiness_names_no_model(scorer: Scorer, door: Door) -> None:
    scorer.failed = None
    scorer.in_force = type(scorer.in_force)()
    answer = TestClient(create_app(scorer, door)).get("/v2/health/ready")
    assert (answer.status_code, answer.json()) == (503, {"ready": False})


def test_a_stranger_is_not_told_over_grpc(scorer: Scorer, door: Door) -> None:
    told: list[str] = []

    def abort(code: grpc.StatusCode, words: str) -> None:
        told.append(words)
        raise PermissionError(code)

    context = SimpleNamespace(invocation_metadata=tuple, auth_context=dict, abort=abort)
    service = InferenceService(scorer, door)
    with pytest.raises(PermissionError, match="UNAUTHENTICATED"):
        service._answering(service._model_ready)(pb.ModelReadyRequest(name="another"), context)
    assert "lending" not in told[0]
