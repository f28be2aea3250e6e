"""The officers of a simulated federation, as many as its plan asks for, and what they sign.

UNSAFE KEYS, as all of a simulation: they follow from its seed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

from protos.approvals import APPROVING, PlanEvidence, approve, author
from protos.ceilings import CeilingDecision, SignedCeiling
from protos.contract import Contract
from protos.keys import SigningKey
from protos.membership import Officer, Role
from protos.plan import Plan
from simulation.world.clock import VirtualClock
from strategies.ids import Digest

FOR_EVER = datetime(2999, 12, 31, tzinfo=UTC)
LEDGER_OFFICERS: Final = ("ledger-1", "ledger-2")


@dataclass(frozen=True)
class SimulatedOfficers:
    """An author and those who approve, by name; nobody where the plan asks for nobody. The `ledger` officers decide about accounts."""

    roles: Mapping[str, Role]
    keys: Mapping[str, SigningKey]
    ledger: Mapping[str, SigningKey]

    @classmethod
    def of(cls, plan: Plan, make_key: Callable[[], SigningKey]) -> Self:
        """As many as `plan` asks for."""
        roles = dict(_roles(plan)) if plan.approval_rule.asks else {}
        keys = {name: make_key() for name in roles}
        return cls(roles, keys, {name: make_key() for name in LEDGER_OFFICERS})

    @property
    def listed(self) -> tuple[Officer, ...]:
        """As the member list has them."""
        return tuple(
            Officer(name=name, roles=(role,), key=self.keys[name].public, expires=FOR_EVER)
            for name, role in self.roles.items()
        ) + tuple(
            Officer(name=name, roles=(Role.PRIVACY_OFFICER,), key=key.public, expires=FOR_EVER)
            for name, key in self.ledger.items()
        )

    def decided(self, decision: CeilingDecision) -> SignedCeiling:
        """A decision on an account, signed by as many as it takes for any."""
        signed = SignedCeiling(decision=decision)
        for name, key in self.ledger.items():
            signed = signed.signed_with(name, key)
        return signed

    def save(self, folder: Path) -> None:
        """Write the ledger officers' keys, not encrypted, for whoever lets them decide again."""
        folder.mkdir()
        for name, key in self.ledger.items():
            key.save(folder / f"{name}.key")

    def evidence(self, plan: Plan, contract: Contract, federation: Digest) -> PlanEvidence:
        """What all of them sign at the beginning of a simulation, by its clock, in the federation of that root version 1."""
        # Not as long as the rule admits: clocks of a simulation go wrong.
        expires = VirtualClock().wall() + timedelta(seconds=plan.approval_rule.valid_for) / 2
        good: dict[str, Any] = {"federation": federation, "expires": expires}
        statements = []
        for name, role in self.roles.items():
            if role is Role.ML_ENGINEER:
                statements.append(author(plan, contract, name, self.keys[name], **good))
            else:
                statements.append(approve(plan, contract, name, role, self.keys[name], **good))
        return PlanEvidence(statements=tuple(statements))


def _roles(plan: Plan) -> Iterator[tuple[str, Role]]:
    yield "author", Role.ML_ENGINEER
    for role in APPROVING:
        for number in range(getattr(plan.approval_rule, role.value)):
            yield f"{role.value.replace('_', '-')}-{number + 1}", role
