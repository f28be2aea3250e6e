"""Who acts: an officer whom the control API has recognised, or whoever types on the coordinator's own machine.

1. Only `Identity.actor_of` (`coordinator.api.identity`) makes an officer's `Actor`, for one call; `here` makes the local one.
2. The local one has every role: whoever has the coordinator's database needs none. No approval is made that way, because those are signed.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from protos.membership import Officer, Role
from strategies.errors import Refused


class Forbidden(Refused):
    """An officer without the role for it."""


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, in which roles. `officer` is None on the coordinator's own machine."""

    officer: Officer | None

    @property
    def name(self) -> str:
        """How the log calls whoever acts."""
        return "an operator" if self.officer is None else self.officer.name

    def require(self, roles: Collection[Role], what: str) -> None:
        """Check that this actor has one of `roles`, which `what` takes. Raises Forbidden."""
        if self.officer is None or set(roles) & set(self.officer.roles):
            return
        raise Forbidden(
            f"{self.officer.name} is {', '.join(self.officer.roles)}, and {what} takes {' or '.join(sorted(roles))}; ask somebody who is, or have"
            " the officers certify the role"
        )

    def require_own(self, officer: str, what: str) -> None:
        """Check that `what` is this actor's own. Raises Forbidden."""
        if self.officer is not None and self.officer.name != officer:
            raise Forbidden(f"{what} is by {officer}, and {self.officer.name} hands it in; {officer} must")


def here() -> Actor:
    """Whoever types on the coordinator's own machine."""
    return Actor(None)
