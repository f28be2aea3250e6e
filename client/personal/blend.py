"""A personal model: the site's own parameters beside the shared ones, and how much each counts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from strategies.encoding import Vector, digest_of, vector_digest
from strategies.errors import Refused
from strategies.ids import Digest
from strategies.models import DenseModel, sigmoid


@dataclass(frozen=True, slots=True, kw_only=True)
class Blend:
    """Logits `(1 - alpha)` shared + `alpha` own, with `alpha` in [0, 1]; `shared` and `own` are (d,) float64.

    0 is the shared model and 1 the site's own. Of logistic models this is the model with the parameters mixed.
    """

    shape: DenseModel
    shared: Vector
    own: Vector
    alpha: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.alpha <= 1.0:
            raise Refused(f"a model is mixed by {self.alpha}; use a weight from 0 to 1")
        if not (np.isfinite(self.shared).all() and np.isfinite(self.own).all()):
            raise Refused("a parameter of the model is not finite")

    def scores(self, x: npt.NDArray[np.float32]) -> Vector:
        """Probability of the positive class for rows `x`, (n, inputs), as (n,) float64."""
        logits = np.zeros(len(x))
        for weight, vector in ((1.0 - self.alpha, self.shared), (self.alpha, self.own)):
            if weight:
                logits = logits + weight * self.shape.logits(vector, x)
        return sigmoid(logits)

    @property
    def digest(self) -> Digest:
        """Of all that a score depends on."""
        return digest_of([vector_digest(self.shared), vector_digest(self.own), self.alpha])
