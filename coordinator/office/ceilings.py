"""Decisions on ceilings as officers draft them and have them carried out, each request once. Their signatures are judged again by auditors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed
from coordinator.ledger.alerts import Crossing
from coordinator.ledger.ceilings import Drafted, Proposal
from coordinator.ledger.facts import crossing_facts, view_facts
from coordinator.ledger.store import Ledger
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from protos.ceilings import SignedCeiling
from strategies.ids import SiteName


@dataclass(frozen=True, slots=True)
class AppliedCeiling:
    """The facts of an account after a decision, and of the alerts that the decision reached at once."""

    account: dict[str, Any]
    alerts: tuple[dict[str, Any], ...]


def draft(centre: Centre, site: SiteName, population: str, proposal: Proposal) -> Drafted:
    """What officers would sign for `proposal`. Raises `CovenantError`."""
    federation = read_listed(centre.settings).trusted.federation
    return _ledger(centre).draft_ceiling(site, population, proposal, federation)


def apply(centre: Centre, actor: Actor, signed: SignedCeiling, asked: Asked | None = None) -> AppliedCeiling:
    """Carry out a decision, whoever hands it in: those who signed it decide. Raises `CovenantError`.

    A request that comes again gets the account as it is then; the alerts were told the first time.
    """
    del actor
    ledger = _ledger(centre)
    crossed: list[Crossing] = []

    def act(remember: Remember) -> str:
        listed = read_listed(centre.settings)
        crossed.extend(ledger.set_ceiling(signed, listed, first=lambda session: remember(session, "")))
        return ""

    once(centre, asked, centre.clock(), act)
    said = signed.decision
    found = ledger.show(said.site, said.population, said.terms.unit)
    return AppliedCeiling(view_facts(found), tuple(map(crossing_facts, crossed)))


def _ledger(centre: Centre) -> Ledger:
    return Ledger(centre.engine, centre.clock)
