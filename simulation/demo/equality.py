"""Holds the exported ONNX model against the torch model, row by row."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import safe_open

from client.data import Table
from client.training.network import DenseNetwork, tensor
from coordinator.deploy.scoring.model import ScoringModel
from protos.contract import Contract
from protos.plan import Plan
from strategies.analytics.histograms import metrics_from, score_counts
from strategies.encoding import sha256_hex
from strategies.features import Coded, Scaling

_SCORE_BINS = 100_000


def largest_difference(
    onnx_file: Path, weights_file: Path, plan: Plan, contract: Contract, rows: Table
) -> float:
    """The largest difference between the probabilities of the ONNX model and of torch with the same weights, over `rows`."""
    features = contract.feature_spec(plan.features)
    with safe_open(weights_file, framework="numpy") as weights:
        kept = json.loads(weights.metadata()["scaling"])
        named = {name: weights.get_tensor(name) for name in weights.keys()}  # noqa: SIM118 (not a mapping)
    shape = plan.dense_model(features.width)
    vector = np.concatenate([named[name].ravel() for name in shape.named(np.zeros(shape.size))]).astype(
        np.float64
    )
    encoded = features.encode(rows.columns, Scaling(mean=tuple(kept["mean"]), std=tuple(kept["std"])))
    with torch.no_grad():
        expected = torch.sigmoid(DenseNetwork(shape, vector).logits(tensor(encoded))).numpy()
    columns = {name: _raw(rows.columns[name]) for name in plan.features}
    scored = (
        ScoringModel.load(onnx_file, expected_digest=sha256_hex(onnx_file.read_bytes()))
        .score(columns)
        .ravel()
    )
    return float(np.abs(expected - scored).max())


def exact_auc(onnx_file: Path, plan: Plan, rows: Table) -> float:
    """The area under the ROC curve of the ONNX model on `rows`, to the fineness of 100,000 score bins."""
    scored = scores_of(onnx_file.read_bytes(), plan.features, rows)
    return metrics_from(score_counts(scored, rows.target, _SCORE_BINS)).auc


def scores_of(onnx: bytes, features: Sequence[str], rows: Table) -> npt.NDArray[np.float64]:
    """What an ONNX model says of each of the n `rows`: (n,) probabilities."""
    model = ScoringModel.from_bytes(onnx, "the model")
    scored = model.score({name: _raw(rows.columns[name]) for name in features}).ravel()
    return scored.astype(np.float64)


def _raw(values: npt.NDArray[Any] | Coded) -> npt.NDArray[Any]:
    """A column as a caller of the model sends it: (n, 1), the empty string for a missing word."""
    if not isinstance(values, Coded) and values.dtype == np.float64:
        return values.reshape(-1, 1)
    return np.asarray([word or "" for word in values], dtype=object).reshape(-1, 1)
