"""What a plan says about privacy: the mode, whom a figure is about, the noise of each stage, and the most that the plan may cost.

1. `none` is a mode that is written down. The others state unit, limit and noise: nothing has a default that protects less than it seems.
2. Noise is stated as a multiplier, the standard deviation over the sensitivity to one unit, because that is what a release is. `limit` is checked
   against the composition of all that the plan releases, attempts that come to nothing included.
3. A stage that is released without noise is named in `exempt`, where every report and every site's policy finds it.
"""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import FieldError, Part
from protos.names import ColumnName, distinct
from strategies.dp.units import MOST_ROWS, MOST_SITES, PrivacyUnit, UnitKind

Multiplier = Annotated[float, Field(gt=0, le=1e6)]
# Beyond, no figure means anything in practice.
Epsilon = Annotated[float, Field(gt=0, le=50)]
Delta = Annotated[float, Field(gt=0, lt=1)]
ExemptStage = Literal["preparation", "evaluation"]


class RecordUnit(Part):
    """One row."""

    kind: Literal["record"]

    @property
    def unit(self) -> PrivacyUnit:
        """As the mathematics has it."""
        return PrivacyUnit(kind=UnitKind.RECORD)


class CustomerUnit(Part):
    """All rows with one value of `column`, of which at most `max_rows` count at a site, of somebody at up to `max_sites` sites."""

    kind: Literal["customer"]
    column: ColumnName
    max_rows: Annotated[int, Field(ge=1, le=MOST_ROWS)]
    max_sites: Annotated[int, Field(ge=1, le=MOST_SITES)] = 1

    @property
    def unit(self) -> PrivacyUnit:
        """As the mathematics has it."""
        return PrivacyUnit(
            kind=UnitKind.CUSTOMER, column=self.column, max_rows=self.max_rows, max_sites=self.max_sites
        )


class SiteUnit(Part):
    """All rows of one site, of which at most `max_rows` count in moments and evaluation."""

    kind: Literal["site"]
    max_rows: Annotated[int, Field(ge=1, le=MOST_ROWS)]

    @property
    def unit(self) -> PrivacyUnit:
        """As the mathematics has it."""
        return PrivacyUnit(kind=UnitKind.SITE, max_rows=self.max_rows)


Unit = Annotated[RecordUnit | CustomerUnit | SiteUnit, Field(discriminator="kind")]


class Limit(Part):
    """The most that the whole plan may cost one unit at one site, everything included."""

    epsilon: Epsilon
    delta: Delta


class Noise(Part):
    """Noise multipliers. A stage that is exempt has none."""

    training: Multiplier
    preparation: Multiplier | None = None
    evaluation: Multiplier | None = None


class NoPrivacy(Part):
    """Nothing protects a person's rows in what is released, and every report says so."""

    mode: Literal["none"]


class Privacy(Part):
    """Noise on everything that is released. `retries` is how many attempts that come to nothing are paid for in advance."""

    mode: Literal["distributed", "local", "central"]
    unit: Unit
    neighbours: Literal["add-or-remove-one"] = "add-or-remove-one"
    limit: Limit
    noise: Noise
    retries: Annotated[int, Field(ge=0, le=10_000)] = 5
    exempt: Annotated[tuple[ExemptStage, ...], AfterValidator(distinct)] = ()

    @model_validator(mode="after")
    def _every_stage_is_noisy_or_exempt(self) -> Self:
        stages: tuple[tuple[ExemptStage, float | None], ...] = (
            ("preparation", self.noise.preparation),
            ("evaluation", self.noise.evaluation),
        )
        for stage, multiplier in stages:
            if (multiplier is None) != (stage in self.exempt):
                raise FieldError(
                    "noise",
                    f"{stage} is exempt and has a noise multiplier; remove one of the two"
                    if multiplier is not None
                    else f"{stage} has no noise multiplier; add it, such as {stage}: 8.0, or name it in `exempt`",
                )
        return self


AnyPrivacy = Annotated[NoPrivacy | Privacy, Field(discriminator="mode")]
