"""The ledger's desk on the coordinator's own machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coordinator.bootstrap import Centre
from coordinator.ledger.ceilings import Drafted, Proposal
from coordinator.ledger.facts import summary_facts, view_facts
from coordinator.ledger.store import Ledger
from coordinator.ledger.units import parse_unit
from coordinator.office import ceilings
from coordinator.office.actors import here
from coordinator.office.ceilings import AppliedCeiling
from protos.ceilings import SignedCeiling
from strategies.ids import SiteName, site_name


@dataclass(frozen=True, slots=True)
class LocalLedger:
    """See `coordinator.ledger_desk.LedgerDesk`."""

    centre: Centre

    def accounts(self) -> Iterable[dict[str, Any]]:
        """See `LedgerDesk.accounts`."""
        return map(summary_facts, self._ledger().accounts())

    def account(self, site: str, population: str, unit: str | None) -> dict[str, Any]:
        """See `LedgerDesk.account`."""
        return view_facts(
            self._ledger().show(site_name(site), population, None if unit is None else parse_unit(unit))
        )

    def draft_ceiling(self, site: SiteName, population: str, proposal: Proposal) -> Drafted:
        """See `LedgerDesk.draft_ceiling`."""
        return ceilings.draft(self.centre, site, population, proposal)

    def apply_ceiling(self, signed: SignedCeiling) -> AppliedCeiling:
        """See `LedgerDesk.apply_ceiling`."""
        return ceilings.apply(self.centre, here(), signed)

    def _ledger(self) -> Ledger:
        return Ledger(self.centre.engine, self.centre.clock)
