"""How far a version of a model has come, and the moves that there are: the one table that coordinator and auditor go by.

1. A version begins as a candidate. Only a candidate is validated, only a validated version approved, only an approved one deployed.
2. A version that is taken out of service is approved again; one that is retired does not come back.
3. Anything may be quarantined, from every stage. What leaves quarantine is a candidate: it is validated and approved anew, or retired.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from strategies.errors import Refused


class Stage(StrEnum):
    """How far a model version has come."""

    CANDIDATE = "candidate"
    VALIDATED = "validated"
    APPROVED = "approved"
    DEPLOYED = "deployed"
    RETIRED = "retired"
    QUARANTINED = "quarantined"


MOVES: Final[Mapping[Stage, tuple[Stage, ...]]] = MappingProxyType(
    {
        Stage.CANDIDATE: (Stage.VALIDATED, Stage.RETIRED, Stage.QUARANTINED),
        Stage.VALIDATED: (Stage.APPROVED, Stage.RETIRED, Stage.QUARANTINED),
        Stage.APPROVED: (Stage.DEPLOYED, Stage.RETIRED, Stage.QUARANTINED),
        Stage.DEPLOYED: (Stage.APPROVED, Stage.RETIRED, Stage.QUARANTINED),
        Stage.RETIRED: (Stage.QUARANTINED,),
        Stage.QUARANTINED: (Stage.CANDIDATE, Stage.RETIRED),
    }
)
"""By the stage before."""

CHAMPION: Final = "champion"
"""The alias that follows deployment: nobody sets it by hand."""


def require_move(ref: str, before: Stage, to: Stage) -> None:
    """Check that there is such a move of the version `ref`. Raises Refused, naming those that there are."""
    if to not in MOVES[before]:
        allowed = " or ".join(MOVES[before])
        raise Refused(f"{ref} is {before} and cannot become {to}; from {before} it can become {allowed}")
