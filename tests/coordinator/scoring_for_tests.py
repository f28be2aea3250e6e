"""A model, its contract and its package for the tests of the scoring service."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from fastapi.testclient import TestClient

from coordinator.deploy.scoring.access import Buckets, Door, Limits
from coordinator.deploy.scoring.app import create_app
from coordinator.deploy.scoring.decisions import DecisionLog, SiteKey
from coordinator.deploy.scoring.exports import opened_from
from coordinator.deploy.scoring.reload import serve_one
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.serving import Opened, PackageRef
from coordinator.registry.export import Exportable, onnx_bytes
from protos.contract import Contract
from protos.documents import read_document
from simulation.bench.releases import Releases
from strategies.features import Scaling
from strategies.ids import Digest
from strategies.models import DenseModel

CONTRACT = """
covenant: contract/v1
name: loans
version: 1
key: loan_id
target: {column: outcome, positive: bad, negative: good}
columns:
  amount: {type: number, unit: USD, range: [0, 1000], reason: Too much was asked for}
  income: {type: number, unit: USD a year, range: [0, 1000000], transform: log1p, missing: indicator, reason: Income too low for the amount asked for}
  term: {type: category, vocabulary: ["36", "60"]}
"""
FEATURES = ("amount", "income", "term")
INFER = "/v2/models/lending/infer"
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC)


def contract(text: str = CONTRACT) -> Contract:
    return read_document(text, Contract, "contract.yaml")


def exportable(
    agreed: Contract | None = None,
    features: tuple[str, ...] = FEATURES,
    *,
    hidden: tuple[int, ...] = (5,),
    seed: int = 3,
) -> Exportable:
    agreed = agreed or contract()
    spec = agreed.feature_spec(features)
    model = DenseModel(inputs=spec.width, hidden=hidden)
    count = len(spec.numeric)
    return Exportable(
        features=spec,
        scaling=Scaling(mean=(0.4, 0.8, 0.5, 0.5)[:count], std=(0.2, 0.1, 0.5, 0.5)[:count]),
        model=model,
        vector=np.random.default_rng(seed).normal(0.0, 0.6, model.size),
        plan_digest=Digest("ab" * 32),
        contract=agreed.ref,
    )


def files(source: Exportable, agreed: Contract | None = None) -> dict[str, bytes]:
    return {
        "model.onnx": onnx_bytes(source),
        "contract.json": (agreed or contract()).canonical,
        "plan.json": b"{}",
    }


_begun = cache(Releases.begun)


def releases_in(folder: Path, at: datetime = NOW) -> Releases:
    """The federation whose packages lie in `folder`, all released at `at`."""
    return _begun(folder, at)


def package(
    folder: Path,
    version: int,
    source: Exportable | None = None,
    agreed: Contract | None = None,
    *,
    at: datetime = NOW,
    **more: Any,
) -> PackageRef:
    """An approved and released model in a folder of its own below `folder`."""
    made = files(source or exportable(seed=version), agreed)
    return releases_in(folder, at).package("lending", version, made, **more)


def opened(version: int = 3, source: Exportable | None = None, agreed: Contract | None = None) -> Opened:
    return opened_from("lending", version, files(source or exportable(agreed), agreed))


def door(limits: Limits | None = None) -> Door:
    return Door.open_to_anybody(Buckets(limits or Limits(), lambda: 0.0))


def log_in(folder: Path, **kept: int) -> DecisionLog:
    folder.mkdir(exist_ok=True)
    return DecisionLog(folder / "decisions", SiteKey.at(folder / "decisions.key"), **kept)


@contextmanager
def serving(
    what: Opened, *, decline_at: float | None = None, decisions: DecisionLog | None = None
) -> Iterator[TestClient]:
    scorer = Scorer(decisions, clock=lambda: NOW)
    serve_one(scorer, what, decline_at)
    with TestClient(create_app(scorer, door())) as client:
        yield client
        client.portal.call(scorer.close)


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data), 1], "data": data}


def question(**replaced: dict[str, Any] | None) -> dict[str, Any]:
    """Three rows; an input is replaced by name, or left out with None."""
    inputs: dict[str, dict[str, Any] | None] = {
        "amount": tensor("amount", "FP64", [100.0, 250, 5000.0]),
        "income": tensor("income", "FP64", [50_000.5, None, 0]),
        "term": tensor("term", "BYTES", ["36", "61", None]),
        **replaced,
    }
    return {"inputs": [each for each in inputs.values() if each is not None]}


TABLE = {
    "amount": np.array([100.0, 250.0, 5000.0]),
    "income": np.array([50_000.5, np.nan, 0.0]),
    "term": np.array(["36", "61", None], dtype=object),
}


def reference(source: Exportable | None = None) -> np.ndarray:
    """What the model says about the three rows of `question`."""
    source = source or exportable()
    return source.model.probabilities(source.vector, source.features.encode(TABLE, source.scaling))


def output(answer: Mapping[str, Any], name: str = "probability") -> dict[str, Any]:
    (found,) = [each for each in answer["outputs"] if each["name"] == name]
    return found
