"""What one run has cost each account, by itself: read by the run, whatever else the accounts hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy.orm import Session

from coordinator.ledger.books import all_in_force, known_releases
from coordinator.ledger.entries import held_by
from coordinator.ledger.needs import AccountKey
from strategies.dp.budget import cost_of, exempted, merged
from strategies.dp.events import Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee
from strategies.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class RunCost:
    """A run's part of one account: `settled` releases were opened, `reserved` may still be; `alone` is their cost if nothing else were ever released,
    `fraction` their part of the ceiling; `exempt` releases are without noise, and in no figure."""

    key: AccountKey
    settled: int
    reserved: int
    alone: Guarantee
    fraction: float
    exempt: tuple[str, ...]


def run_costs(session: Session, run: RunId) -> tuple[RunCost, ...]:
    """The costs of `run`, by account; empty for a run without privacy."""
    held = held_by(session, run)
    if not held:
        return ()
    in_force, releases = all_in_force(session), known_releases(session, {each.digest for each in held})
    charges: dict[AccountKey, dict[Release, int]] = {}
    opened: dict[AccountKey, int] = {}
    for each in held:
        mine = charges.setdefault(each.key, {})
        charges[each.key] = merged(mine, {releases[each.digest]: each.charged})
        opened[each.key] = opened.get(each.key, 0) + each.settled
    costs: dict[tuple[frozenset[tuple[Release, int]], Ceiling], tuple[Guarantee, float]] = {}
    return tuple(
        _cost(key, charges[key], opened[key], in_force[key].ceiling, costs)
        for key in sorted(charges, key=lambda each: each.stored)
    )


def _cost(
    key: AccountKey,
    charges: Mapping[Release, int],
    settled: int,
    ceiling: Ceiling,
    costs: dict[tuple[frozenset[tuple[Release, int]], Ceiling], tuple[Guarantee, float]],
) -> RunCost:
    """One account's part; sites that are asked the same under equal ceilings are computed once."""
    at = frozenset(charges.items()), ceiling
    if at not in costs:
        cost = cost_of(charges, ceiling.order)
        costs[at] = ceiling.guarantee(cost), ceiling.fraction(cost)
    alone, fraction = costs[at]
    return RunCost(
        key=key,
        settled=settled,
        reserved=sum(charges.values()) - settled,
        alone=alone,
        fraction=fraction,
        exempt=tuple(sorted({each.what for each in exempted(charges)})),
    )
