"""Explanations apart from the service: the same applications and the same model, by captum's integrated gradients in torch.

An independent library computes what the service computes from the ONNX file by its own arithmetic. For logistic regression both are exact; for
networks captum adds up steps along the line, so the two agree up to those.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.arms import load
from coordinator.deploy.scoring.columns import ProtocolError
from coordinator.deploy.scoring.decisions import SiteKey
from coordinator.deploy.scoring.protocol import asked_of
from coordinator.deploy.scoring.serving import Opened
from strategies.analytics.contributions import Rows, by_feature
from strategies.encoding import Vector
from strategies.errors import UsageError
from strategies.models import Parameters

_STEPS: Final = 2_000
_INTERNAL_ROWS: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainedRows:
    """Of N rows: scores (N,), contributions of each feature to the logit (N, features), reasons, and the largest difference from the service's; `digests` are what the
    decision log has in place of the rows, where its key was given."""

    features: tuple[str, ...]
    scores: npt.NDArray[np.float32]
    contributions: Rows
    reasons: Sequence[tuple[str, ...]]
    difference: float
    digests: tuple[str, ...] = ()


def explain(opened: Opened, request: bytes, key: SiteKey | None = None) -> ExplainedRows:
    """Explain the applications of an inference request in JSON, as the service takes it. Raises UsageError for what it would refuse."""
    loaded = load(opened)
    try:
        batch = loaded.rules.batch(asked_of(request).inputs)
    except ProtocolError as error:
        raise UsageError(str(error)) from error
    scores, encoded = loaded.model.score_and_encode(loaded.rules.feed(batch))
    explainer = loaded.explainer
    found = by_feature(
        explainer.features, integrated_gradients(explainer.layers, encoded, explainer.reference)
    )
    return ExplainedRows(
        features=tuple(each.name for each in loaded.rules.inputs),
        scores=scores[:, 0],
        contributions=found,
        reasons=explainer.reasons(encoded),
        difference=float(np.abs(found - explainer.contributions(encoded)).max()),
        digests=() if key is None else tuple(key.of_rows(batch)),
    )


def integrated_gradients(
    layers: Sequence[Parameters], encoded: npt.NDArray[np.float32], reference: Vector, steps: int = _STEPS
) -> Rows:
    """Captum's integrated gradients of the logit, (n, width) float64, by the middle of `steps` steps from `reference`."""
    import torch
    from captum.attr import IntegratedGradients

    tensors = [(torch.from_numpy(weight), torch.from_numpy(bias)) for weight, bias in layers]

    def logits(rows: torch.Tensor) -> torch.Tensor:
        for weight, bias in tensors[:-1]:
            rows = torch.relu(rows @ weight.T + bias)
        weight, bias = tensors[-1]
        return (rows @ weight.T + bias)[:, 0]

    found = IntegratedGradients(logits).attribute(
        torch.from_numpy(encoded.astype(np.float64)),
        baselines=torch.from_numpy(reference)[None],
        n_steps=steps,
        method="riemann_middle",
        internal_batch_size=_INTERNAL_ROWS,
    )
    return np.asarray(found.numpy())
