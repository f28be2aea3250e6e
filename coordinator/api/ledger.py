"""`Ledger` and `Members` of the governance API."""

from __future__ import annotations

import json
from collections.abc import Mapping

from coordinator.api.door import Call, Function
from coordinator.api.pages import limit_of, page_of, start_of
from coordinator.bootstrap import Centre
from coordinator.documents import read_members
from coordinator.ledger.ceilings import Proposal
from coordinator.ledger.facts import summary_facts, view_facts
from coordinator.ledger.store import Ledger
from coordinator.ledger.units import parse_unit
from coordinator.office import ceilings
from protos import governance_pb2 as governance
from protos.ceilings import SignedCeiling
from strategies.ids import site_name


class Accounts:
    """Answers for accounts and members."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.governance.v1.Ledger/ListAccounts": self.list,
            "covenant.governance.v1.Ledger/GetAccount": self.get,
            "covenant.governance.v1.Ledger/DraftCeiling": self.draft,
            "covenant.governance.v1.Ledger/ApplyCeiling": self.apply,
            "covenant.governance.v1.Members/GetMembers": self.members,
        }

    def list(self, request: governance.ListAccountsRequest, call: Call) -> governance.ListAccountsResponse:
        """All accounts in short."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = self._ledger().accounts()[start : start + limit + 1]
        accounts, token = page_of(
            start, limit, (governance.Account(facts=json.dumps(summary_facts(each))) for each in found)
        )
        return governance.ListAccountsResponse(accounts=accounts, next_page_token=token)

    def get(self, request: governance.GetAccountRequest, call: Call) -> governance.Account:
        """One account in full."""
        del call
        unit = parse_unit(request.unit) if request.unit else None
        found = self._ledger().show(site_name(request.site), request.population, unit)
        return governance.Account(facts=json.dumps(view_facts(found)))

    def draft(self, request: governance.DraftCeilingRequest, call: Call) -> governance.DraftedCeiling:
        """What officers would sign."""
        del call
        proposal = Proposal(
            epsilon=request.epsilon,
            delta=request.delta,
            unit=parse_unit(request.unit),
            reason=request.reason,
            alert_at=list(request.alert_at.values) if request.HasField("alert_at") else None,
            overlaps=list(request.overlaps.values) if request.HasField("overlaps") else None,
            order=request.order if request.HasField("order") else None,
        )
        drafted = ceilings.draft(self._centre, site_name(request.site), request.population, proposal)
        return governance.DraftedCeiling(
            decision=drafted.decision.canonical, officers=drafted.officers, loosens=drafted.loosens
        )

    def apply(self, request: governance.ApplyCeilingRequest, call: Call) -> governance.AppliedCeiling:
        """Carry a decision out."""
        signed = SignedCeiling.from_canonical(request.decision)
        done = ceilings.apply(self._centre, call.actor, signed, call.asked)
        return governance.AppliedCeiling(
            account=governance.Account(facts=json.dumps(done.account)),
            alerts_reached_now=[json.dumps(each) for each in done.alerts],
        )

    def members(self, request: governance.GetMembersRequest, call: Call) -> governance.MemberListInUse:
        """The member list in use, and the root that it leads from."""
        del request, call
        membership, trusted = read_members(self._centre.settings)
        return governance.MemberListInUse(
            ref=trusted.members.ref,
            membership=membership.canonical,
            root=self._centre.settings.root_file.read_bytes(),
        )

    def _ledger(self) -> Ledger:
        return Ledger(self._centre.engine, self._centre.clock)
