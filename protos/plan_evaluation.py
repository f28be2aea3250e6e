"""What a plan says about evaluation: which rows score, how often, on how many bins, which champion scores the same rows, and which panels go with that.

Panels are further blocks of the one vector that evaluation releases (docs/adr/0035): counts by protected group, attributions by feature, and a profile of the
inputs. Each is left out unless the plan has its key.
"""

from __future__ import annotations

from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from protos.documents import Part
from protos.names import ColumnName, Reference, Sha256, distinct, matching
from protos.plan_model import AnyModel, dense
from strategies.models import DenseModel

MOST_PRIVATE_BINS: Final = 32
"""Of a private plan: more would hold more noise than rows."""
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


def _even(bins: int) -> int:
    if bins % 2:
        raise ValueError(f"{bins} bins have no half at or above decline_at; use an even number")
    return bins


class Fairness(Part):
    """Held-out rows by protected group, class and score. Half of the `bins` are of scores from `decline_at` on, half below, even in the logit on either side.

    Groups of fewer than `minimum_group` rows are told to nobody.
    """

    decline_at: Annotated[float, Field(ge=0.005, le=0.995)]
    minimum_group: Annotated[int, Field(ge=10, le=1_000_000)] = 100
    bins: Annotated[int, Field(ge=2, le=100), AfterValidator(_even)] = 8


class Explanations(Part):
    """Sums of each row's contributions to the logit by feature, all of a row's together clipped to an L2 norm of `clip`, in logits.

    `parts`: one sum, or one for each half of the `rows` by a public hash of the unit's key, or one for each of two public groups of `sites`.
    """

    clip: Annotated[float, Field(gt=0, le=1000)]
    parts: Literal["none", "rows", "sites"] = "none"


class Profile(Part):
    """Held-out rows by feature: numbers by `bins` equal bins of their unit values, categories and booleans by value."""

    bins: Annotated[int, Field(ge=2, le=100)]


class Evaluation(Part):
    """When the model is scored on held-out rows, and on how many equal bins of [0, 1]; with a champion, beside it, and with panels."""

    every: Annotated[int, Field(ge=1, le=10_000)]
    score_bins: Annotated[int, Field(ge=2, le=100_000)]
    holdout: Holdout
    champion: Champion | None = None
    fairness: Fairness | None = None
    explanations: Explanations | None = None
    profile: Profile | None = None

    @property
    def models(self) -> int:
        """How many models score each held-out row."""
        return 1 if self.champion is None else 2
