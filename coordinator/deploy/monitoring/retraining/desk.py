"""What commands about the loop need of a coordinator, wherever it is."""

from __future__ import annotations

from typing import Any, Protocol

from coordinator.deploy.desk import Facts
from protos.plan import Plan


class LoopDesk(Protocol):
    """A coordinator as the commands of `covenant loop` see it. Everything raises `CovenantError`; facts are as `--json` prints them."""

    def status(self, model: str | None = None) -> Facts:
        """Where every model is, or one."""
        ...

    def drafts(self, *, only_open: bool) -> Facts:
        """Drafts, the latest first."""
        ...

    def draft_facts(self, draft: str) -> dict[str, Any]:
        """A draft with its text."""
        ...

    def advice(self, plan: Plan) -> dict[str, Any]:
        """What history advises about a plan."""
        ...

    def draft(self, model: str) -> str:
        """Have a plan drafted; the draft's id."""
        ...

    def adopt(self, draft: str, why: str) -> dict[str, Any]:
        """Take a draft over, with its contract."""
        ...

    def dismiss(self, draft: str, why: str) -> dict[str, Any]:
        """Throw a draft away."""
        ...
