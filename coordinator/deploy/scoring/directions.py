"""Which way each feature moves a version's scores, read off its ONNX file, in words and as JSON."""

from __future__ import annotations

from typing import Any

from coordinator.deploy.scoring.columns import Rules
from coordinator.deploy.scoring.operators import judge
from coordinator.deploy.scoring.reasons import Explainer
from protos.contract import Contract
from strategies.analytics.directions import Direction, FeatureDirection, directions


def directions_of(onnx: bytes, contract: Contract, source: str) -> tuple[FeatureDirection, ...]:
    """Of each feature of a scoring model, which `source` names in errors. Raises Refused for a file that is no such model, or does not fit its contract."""
    judged = judge(onnx, source)
    explainer = Explainer.of(judged, contract, Rules.of(judged, contract, source), source)
    return directions(explainer.layers, explainer.features, explainer.reference)


def direction_words(found: FeatureDirection) -> str:
    """What a feature does to the score of the reference applicant."""
    if found.direction is None:
        return f"of {found.feature}, {found.highest!r} has the highest score and {found.lowest!r} the lowest, {found.by:.3g} logits apart, all else at the reference"
    how = {
        Direction.RAISES: "raises the score",
        Direction.LOWERS: "lowers the score",
        Direction.BOTH: "raises the score at some values and lowers it at others",
        Direction.NEITHER: "does not move the score",
    }[found.direction]
    return f"a higher {found.feature} {how}, by {found.by:+.3g} logits from two deviations below its mean to two above, all else at the reference"


def direction_facts(found: FeatureDirection) -> dict[str, Any]:
    """As JSON."""
    return {
        "feature": found.feature,
        "by": found.by,
        "direction": found.direction,
        "lowest": found.lowest or None,
        "highest": found.highest or None,
    }
