"""The ledger's desk over the control API: the same views, from another machine."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from coordinator.api.client import ControlClient
from coordinator.ledger.ceilings import Drafted, Proposal
from coordinator.ledger.units import unit_text
from coordinator.office.ceilings import AppliedCeiling
from protos import governance_pb2 as governance
from protos.ceilings import CeilingDecision, SignedCeiling
from strategies.ids import SiteName

_PAGE: Final = 500
_LEDGER: Final = "covenant.governance.v1.Ledger/"


@dataclass(frozen=True, slots=True)
class RemoteLedger:
    """See `coordinator.ledger_desk.LedgerDesk`."""

    client: ControlClient

    def accounts(self) -> Iterable[dict[str, Any]]:
        """See `LedgerDesk.accounts`."""
        for page in self.client.pages(
            f"{_LEDGER}ListAccounts",
            lambda token: governance.ListAccountsRequest(page_size=_PAGE, page_token=token),
            governance.ListAccountsResponse,
        ):
            yield from (json.loads(each.facts) for each in page.accounts)

    def account(self, site: str, population: str, unit: str | None) -> dict[str, Any]:
        """See `LedgerDesk.account`."""
        request = governance.GetAccountRequest(site=site, population=population, unit=unit or "")
        found = self.client.ask(f"{_LEDGER}GetAccount", request, governance.Account)
        facts: dict[str, Any] = json.loads(found.facts)
        return facts

    def draft_ceiling(self, site: SiteName, population: str, proposal: Proposal) -> Drafted:
        """See `LedgerDesk.draft_ceiling`. Whoever signs it reads what it says, and `ceiling sign` compares its federation with the root."""
        request = governance.DraftCeilingRequest(
            site=site,
            population=population,
            unit=unit_text(proposal.unit),
            epsilon=proposal.epsilon,
            delta=proposal.delta,
            reason=proposal.reason,
            alert_at=None if proposal.alert_at is None else governance.Fractions(values=proposal.alert_at),
            overlaps=None if proposal.overlaps is None else governance.Names(values=proposal.overlaps),
            order=proposal.order,
        )
        found = self.client.ask(f"{_LEDGER}DraftCeiling", request, governance.DraftedCeiling)
        decision = CeilingDecision.from_canonical(found.decision)
        return Drafted(decision=decision, officers=found.officers, loosens=found.loosens)

    def apply_ceiling(self, signed: SignedCeiling) -> AppliedCeiling:
        """See `LedgerDesk.apply_ceiling`."""
        done = self.client.change(
            f"{_LEDGER}ApplyCeiling",
            lambda id_: governance.ApplyCeilingRequest(request_id=id_, decision=signed.canonical),
            governance.AppliedCeiling,
        )
        return AppliedCeiling(json.loads(done.account.facts), tuple(map(json.loads, done.alerts_reached_now)))
