"""What a plan says about evaluation: which rows score, how often, on how many bins, and which champion scores the same rows."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import AfterValidator, Field

from protos.documents import Part
from protos.names import ColumnName, Reference, Sha256, distinct, matching
from protos.plan_model import AnyModel, dense
from strategies.models import DenseModel

MAX_FEATURES: Final = 1000


class Holdout(Part):
    """Rows that no site trains on, told apart by a public hash of the column `by`."""

    by: ColumnName
    share: Annotated[float, Field(gt=0, lt=1)]
    salt: Annotated[str, matching(r"[!-~]{1,64}", "1 to 64 printable ASCII characters without spaces")]


class Champion(Part):
    """A registered model that scores the same held-out rows, in the same release, as the model that the plan trains.

    Everything about it is approved with the plan: `weights` is the digest of its float64 vector and `scaling` that of its scaling, which are what the
    sites are sent, `contract` the digest of the contract that it was trained under, which must be the plan's, `features` the columns that it reads,
    and `shape` what its weights make up.
    """

    model: Reference
    weights: Sha256
    scaling: Sha256
    contract: Sha256
    features: Annotated[
        tuple[ColumnName, ...], Field(min_length=1, max_length=MAX_FEATURES), AfterValidator(distinct)
    ]
    shape: AnyModel

    def dense_model(self, inputs: int) -> DenseModel:
        """Its shape over `inputs` encoded features."""
        return dense(self.shape, inputs)


class Evaluation(Part):
    """When the model is scored on held-out rows, and on how many equal bins of [0, 1]; with a champion, beside it."""

    every: Annotated[int, Field(ge=1, le=10_000)]
    score_bins: Annotated[int, Field(ge=2, le=100_000)]
    holdout: Holdout
    champion: Champion | None = None

    @property
    def models(self) -> int:
        """How many models score each held-out row."""
        return 1 if self.champion is None else 2
