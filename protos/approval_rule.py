"""How many people of which role must approve a plan before a run of it begins.

A plan says it, and so does every site's policy: what either asks for must be there. Who says nothing asks for one of each role.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field

from protos.documents import Part
from protos.quantities import Duration

_MONTH_S: Final = 30 * 86400.0

Count = Annotated[int, Field(ge=0, le=10)]


class ApprovalRule(Part):
    """Approvals by role, and the most that a statement may have left (seconds, at most 366 days): older ones are made again."""

    privacy_officer: Count = 1
    model_risk: Count = 1
    valid_for: Duration = _MONTH_S

    @property
    def asks(self) -> bool:
        """Whether this rule asks for anybody's approval."""
        return self.privacy_officer > 0 or self.model_risk > 0
