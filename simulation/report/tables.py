"""The tables of a report as text by row and column, so that Markdown and HTML show the same figures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

from simulation.report.gates import Verdict, dropouts_survived
from simulation.report.words import NONE, byte_unit, counted, decimals, epsilon, percent, spent
from simulation.result import RoundResult, SimulationResult, SiteResult

ROUNDS_SHOWN: Final = 20
SITES_SHOWN: Final = 60

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Column:
    """A column's heading; numbers are aligned to the right."""

    name: str
    number: bool = True


@dataclass(frozen=True, slots=True)
class Table:
    """Cells by row, as many in each as there are columns. `note` says what was left out, if anything was."""

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def thin_out(items: Sequence[T], most: int) -> tuple[T, ...]:
    """At most `most` (2 or more) of `items` at even distances, always the first and the last."""
    if len(items) <= most:
        return tuple(items)
    return tuple(items[round(place * (len(items) - 1) / (most - 1))] for place in range(most))


def gates_table(verdicts: Sequence[Verdict]) -> Table:
    """One row a gate, its verdict in words."""
    columns = (Column("Gate", number=False), Column("Verdict", number=False), Column("Why", number=False))
    rows = tuple((str(each.gate), "passed" if each.passed else "FAILED", each.sentence) for each in verdicts)
    return Table(columns, rows)


def lowest_sites(sites: Sequence[SiteResult], most: int = SITES_SHOWN) -> tuple[SiteResult, ...]:
    """All of `sites` in their order if at most `most`, or else those with the lowest AUC, lowest first, the unscored last."""
    if len(sites) <= most:
        return tuple(sites)
    return tuple(sorted(sites, key=_from_the_lowest)[:most])


def _from_the_lowest(site: SiteResult) -> tuple[bool, float]:
    auc = 0.0 if site.auc is None else site.auc
    return site.auc is None, -math.inf if math.isnan(auc) else auc


def sites_note(result: SimulationResult) -> str:
    """What `lowest_sites` left out; empty if nothing."""
    left_out = len(result.sites) - SITES_SHOWN
    if left_out <= 0:
        return ""
    return f"The {SITES_SHOWN} sites with the lowest AUC; {left_out:,} more are in the JSON result."


def sites_table(result: SimulationResult) -> Table:
    """One row a site, or the worst ones of many: a comment on a merge request has a limit of characters."""
    shown = lowest_sites(result.sites)
    unit = byte_unit(max((max(site.sent, site.received) for site in shown), default=0))
    columns = (
        Column("Site", number=False),
        Column("Training rows"),
        Column("Held-out rows"),
        Column("Positives"),
        Column("AUC"),
        Column("Answered"),
        Column("Missed"),
        Column(f"Sent, {unit.name}"),
        Column(f"Received, {unit.name}"),
        Column("Computing, s"),
    )
    rows = tuple(
        (
            site.site,
            f"{site.training_rows:,}",
            f"{site.held_out_rows:,}",
            percent(site.positives),
            decimals(site.auc),
            f"{site.answered:,}",
            f"{site.missed:,}",
            unit.show(site.sent),
            unit.show(site.received),
            decimals(site.compute_s, 3),
        )
        for site in shown
    )
    return Table(columns, rows, sites_note(result))


def rounds_table(result: SimulationResult) -> Table:
    """One row a committed round, thinned out evenly beyond `ROUNDS_SHOWN`."""
    shown = thin_out(result.rounds, ROUNDS_SHOWN)
    unit = byte_unit(max((each.traffic for each in shown), default=0))
    columns = (
        *map(Column, ("Round", "Attempts", "Survivors", "Roster", "AUC", "Log loss", "Epsilon")),
        Column(f"Traffic, {unit.name}"),
        Column("Computing, s"),
    )
    rows = tuple(_round_cells(each, unit.show(each.traffic)) for each in shown)
    note = (
        f"{len(shown)} of {len(result.rounds):,} rounds at even distances; all are in the JSON result."
        if len(shown) < len(result.rounds)
        else ""
    )
    return Table(columns, rows, note)


def _round_cells(each: RoundResult, traffic: str) -> tuple[str, ...]:
    return (
        f"{each.number:,}",
        f"{each.attempts:,}",
        f"{each.survivors:,}",
        f"{each.roster:,}",
        decimals(each.auc),
        decimals(each.log_loss),
        epsilon(each.epsilon),
        traffic,
        decimals(each.compute_s, 3),
    )


def figures(result: SimulationResult) -> tuple[tuple[str, str], ...]:
    """What a reader looks for first: the model's quality, what it cost and whom it reached."""
    scores = result.metrics
    traffic = sum(each.traffic for each in result.rounds)
    unit = byte_unit(traffic)
    total, lost = spent(result), dropouts_survived(result)
    return (
        ("AUC", decimals(scores.auc if scores else None)),
        ("Log loss", decimals(scores.log_loss if scores else None)),
        ("KS distance", decimals(scores.ks if scores else None)),
        ("Brier score", decimals(scores.brier if scores else None)),
        ("Epsilon", NONE if total is None else epsilon(total)),
        ("Rounds", f"{len(result.rounds):,} of {result.planned_rounds:,}"),
        ("Lost per round", NONE if lost is None else percent(lost)),
        (f"Traffic, {unit.name}", unit.show(traffic)),
    )


def facts(result: SimulationResult) -> tuple[tuple[str, str], ...]:
    """What the run was, for those who want to make it again."""
    scores = result.metrics
    held_out = (
        f"{counted(scores.rows, 'row')}, of which {scores.positives:,} positive" if scores else "none scored"
    )
    return (
        ("Plan", result.plan),
        ("Plan digest", result.plan_digest),
        ("Run", result.run),
        ("Seed", str(result.seed)),
        ("Partition", result.partition),
        ("Sites", f"{len(result.sites):,}"),
        ("Parameters", f"{result.parameters:,}"),
        ("Aggregation", result.aggregation),
        ("Privacy", result.privacy),
        ("Epsilon is", result.whose or "infinite: nothing bounds what the model tells of a person"),
        ("Held out", held_out),
        ("Model digest", result.model_digest or "none, the run made no model"),
        ("Elapsed", f"{decimals(result.elapsed_s, 1)} s"),
    )
