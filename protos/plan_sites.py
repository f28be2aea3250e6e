"""Who is asked to take part in a run, how many must come, and what each one counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import AfterValidator, Field, model_validator

from protos.documents import FROZEN, FROZEN_OR_NONE, FieldError, Part
from protos.names import Name, Reference, Site, distinct
from protos.quantities import Duration

MAX_SITES: Final = 1000
MAX_WEIGHT: Final = 1_000_000


class Sites(Part):
    """Who is asked, how many must come, and what each one counts."""

    members: Reference
    invite: Annotated[tuple[Site, ...], Field(min_length=1, max_length=MAX_SITES), AfterValidator(distinct)]
    minimum: Annotated[int, Field(ge=1)]
    join_within: Duration
    weights: Annotated[Mapping[Site, Annotated[int, Field(ge=1, le=MAX_WEIGHT)]], *FROZEN] = {}
    populations: Annotated[Mapping[Site, Name] | None, *FROZEN_OR_NONE] = None
    """What a site calls the population that the plan is about, where that is not the contract's name: its account goes by it."""
    witnesses: Annotated[int, Field(ge=1)] | None = None
    """How many of the sites must have witnessed the run in the log before anything of it is settled: the minimum, unless it is written down."""

    @model_validator(mode="after")
    def _fits_the_invitation(self) -> Self:
        if self.minimum > len(self.invite):
            raise FieldError(
                "minimum",
                f"{self.minimum} sites must take part but {len(self.invite)} are invited; lower it or invite more",
            )
        if self.witnesses is not None and self.witnesses > len(self.invite):
            raise FieldError(
                "witnesses",
                f"{self.witnesses} sites must be witnesses but {len(self.invite)} are invited; lower it or invite more",
            )
        for name, what, given in (
            ("weights", "weight", self.weights),
            ("populations", "population", self.populations or {}),
        ):
            strangers = sorted(set(given) - set(self.invite))
            if strangers:
                raise FieldError(
                    name, f"{strangers[0]} has a {what} but is not invited; invite it or remove the {what}"
                )
        return self
