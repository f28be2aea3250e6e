"""A plan on its way from one that was approved to one that could be launched today, with the reason of each change."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Final

from coordinator.deploy.monitoring.retraining.advice import least_minimum
from protos.plan import Plan
from strategies.errors import CovenantError, Refused
from strategies.ids import SiteName

MEMBERS: Final = "sites.members"
WITNESSES: Final = "sites.witnesses"
ROUNDS: Final = "training.rounds"
NOISE: Final = "privacy.noise"
CHAMPION: Final = "evaluation.champion"
_FEWEST: Final = 2


class NothingFits(Refused):
    """No plan could be drafted; the sentence is for whoever asked."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """A plan, and why its values are as they are, by path."""

    plan: Plan
    why: dict[str, str]

    def changed(self, plan: Plan, path: str, says: str) -> Fitted:
        """With another plan, and the reason at `path`."""
        return replace(self, plan=plan, why={**self.why, path: says})


def with_sites(base: Plan, kept: Collection[SiteName], members: str) -> Plan | None:
    """`base` with those sites; None where it would protect nobody. The minimum stays, as far as so many sites allow."""
    if len(kept) < _FEWEST:
        return None
    sites = base.sites
    trial = sites.model_copy(
        update={
            "members": members,
            "invite": tuple(kept),
            "weights": {site: weight for site, weight in sites.weights.items() if site in kept},
            "populations": None
            if sites.populations is None
            else {site: name for site, name in sites.populations.items() if site in kept} or None,
            "witnesses": None if sites.witnesses is None else min(sites.witnesses, len(kept)),
        }
    )
    plan = base.model_copy(update={"sites": trial})
    least = max(least_minimum(plan), min(base.sites.minimum, len(kept)))
    return read_changed(plan.model_copy(update={"sites": trial.model_copy(update={"minimum": least})}))


def read_changed(plan: Plan) -> Plan | None:
    """A changed copy, checked as if it had been read; None where it is no plan."""
    try:
        return Plan.from_canonical(plan.canonical)
    except CovenantError:
        return None
