"""Why an application was declined: the columns that count most against it, in the words that the contract has for them.

1. A column counts by its contribution to the logit (`strategies.analytics.contributions`), its indicator and one-hot group included.
2. Only what raises the score is a reason; at most four are told, as the commentary on 12 CFR 1002.9(b)(2) advises. Two columns with the same
   words are one reason.
3. Everything is computed from the ONNX file and the contract: no other model, no rows of anybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import numpy as np
import numpy.typing as npt

from coordinator.deploy.scoring.columns import Rules
from coordinator.deploy.scoring.operators import Judged
from protos.contract import Contract
from strategies.analytics.contributions import Rows, by_feature, contributions, reference_of
from strategies.encoding import Vector
from strategies.errors import Refused
from strategies.features import FeatureSpec
from strategies.models import Parameters

MOST_REASONS: Final = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Explainer:
    """A model's layers with what its encoded columns mean; `words` has one reason a feature."""

    features: FeatureSpec
    layers: tuple[Parameters, ...]
    reference: Vector
    words: tuple[str, ...]

    @classmethod
    def of(cls, judged: Judged, contract: Contract, rules: Rules, source: str) -> Self:
        """The explainer of a model. Raises Refused when its first layer takes other columns than the contract encodes to."""
        features = contract.feature_spec([each.name for each in rules.inputs])
        width = judged.layers[0][0].shape[1]
        if width != features.width:
            raise Refused(f"{source} has {width} encoded columns; {contract.ref} encodes to {features.width}")
        return cls(
            features=features,
            layers=judged.layers,
            reference=reference_of(features),
            words=tuple(each.column.reason or each.name for each in rules.inputs),
        )

    def contributions(self, encoded: npt.NDArray[np.float32]) -> Rows:
        """Of each feature to the logit, (n, features) float64, for encoded rows, (n, width)."""
        return by_feature(self.features, contributions(self.layers, encoded, self.reference))

    def reasons(self, encoded: npt.NDArray[np.float32]) -> list[tuple[str, ...]]:
        """Up to four reasons a row, the strongest first."""
        found = self.contributions(encoded)
        order = np.argsort(-found, axis=1, kind="stable").tolist()
        positive = (found > 0.0).sum(axis=1).tolist()
        return [self._told(places[:count]) for places, count in zip(order, positive, strict=True)]

    def _told(self, places: Sequence[int]) -> tuple[str, ...]:
        told: dict[str, None] = {}
        for place in places:
            told[self.words[place]] = None
            if len(told) == MOST_REASONS:
                break
        return tuple(told)
