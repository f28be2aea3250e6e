"""Results of simulated runs, made by hand: whole ones unless a test says otherwise."""

from __future__ import annotations

import math
from dataclasses import replace

from simulation.result import RoundResult, SimulationResult, SiteResult
from strategies.analytics.histograms import ScoreMetrics
from strategies.dp.units import Guarantee, PrivacyUnit, UnitKind
from strategies.ids import Digest, RunId, SiteName

SCORES = ScoreMetrics(
    rows=2000, positives=310, auc=0.7125, log_loss=0.4387, ks=0.3071, brier=0.1203, calibration=()
)


def a_site(number: int, **changes: object) -> SiteResult:
    site = SiteResult(
        site=SiteName(f"bank-{number:02}"),
        training_rows=1500 + 731 * (number % 7),
        held_out_rows=400 + 90 * (number % 5),
        positives=0.12 + 0.01 * (number % 6),
        answered=9,
        missed=1,
        auc=0.68 + 0.011 * (number % 8),
        sent=412_345,
        received=398_765,
        compute_s=1.25 + 0.1 * (number % 3),
    )
    return replace(site, **changes)


def a_round(number: int, *, of: int = 10, sites: int = 4, **changes: object) -> RoundResult:
    made = RoundResult(
        number=number,
        attempts=2 if number % 9 == 5 else 1,
        roster=sites,
        survivors=sites - (sites > 1 and number % 3 == 1),
        auc=SCORES.auc - 0.2 * (1 / math.sqrt(number) - 1 / math.sqrt(of)),
        log_loss=SCORES.log_loss + 0.2 * (1 / number - 1 / of),
        epsilon=math.inf,
        traffic=402_113 + 1_000 * (number % 4),
        compute_s=0.12 + 0.02 * (number % 5),
    )
    return replace(made, **changes)


def a_result(*, sites: int = 4, rounds: int = 10, **changes: object) -> SimulationResult:
    """A run that completed without privacy, with so many sites and rounds."""
    made = SimulationResult(
        plan="retail-default",
        plan_digest=Digest("ab" * 32),
        run=RunId("run-0123456789abcdef"),
        seed=7,
        partition="by region, as the rows came",
        completed=True,
        reason=None,
        aggregation="plain",
        privacy="none",
        planned_rounds=rounds,
        parameters=2881,
        sites=tuple(a_site(number) for number in range(1, sites + 1)),
        rounds=tuple(a_round(number, of=rounds, sites=sites) for number in range(1, rounds + 1)),
        metrics=SCORES,
        model_digest=Digest("cd" * 32),
        elapsed_s=12.5,
    )
    return replace(made, **changes)


def a_private_result(*, rounds: int = 10) -> SimulationResult:
    """A run whose epsilon grows to 3.2."""
    spent = tuple(a_round(n, of=rounds, epsilon=3.2 * math.sqrt(n / rounds)) for n in range(1, rounds + 1))
    record = PrivacyUnit(kind=UnitKind.RECORD)
    total = Guarantee(epsilon=3.2, delta=1e-6, unit=record)
    return replace(a_result(rounds=rounds, privacy="central", guarantee=total), rounds=spent)


def a_failed_result(
    *, rounds: int = 3, reason: str | None = "2 of 4 sites survived; 3 are needed"
) -> SimulationResult:
    """A run that committed `rounds` of 10 and then no more."""
    sites = tuple(a_site(number, auc=None) for number in range(1, 5))
    made = a_result(rounds=rounds, planned_rounds=10, completed=False, reason=reason)
    return replace(made, sites=sites, metrics=None, model_digest=None)
