"""What a person's commands need of a coordinator's ledger, wherever it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from coordinator.ledger.ceilings import Drafted, Proposal
from coordinator.office.ceilings import AppliedCeiling
from protos.ceilings import SignedCeiling
from strategies.ids import SiteName


class LedgerDesk(Protocol):
    """The sites' privacy accounts as commands see them. Everything raises `CovenantError`."""

    def accounts(self) -> Iterable[dict[str, Any]]:
        """The facts of all accounts."""
        ...

    def account(self, site: str, population: str, unit: str | None) -> dict[str, Any]:
        """The facts of one account."""
        ...

    def draft_ceiling(self, site: SiteName, population: str, proposal: Proposal) -> Drafted:
        """What officers would sign for a ceiling."""
        ...

    def apply_ceiling(self, signed: SignedCeiling) -> AppliedCeiling:
        """Carry out a decision on a ceiling."""
        ...
