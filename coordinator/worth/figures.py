"""A version's value at thresholds: each figure with its interval, for a decision and for a year, beside the champion and beside deciding without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from coordinator.bootstrap import Centre
from coordinator.registry.versions import ModelVersion
from coordinator.worth.sources import Source, sources_of
from coordinator.worth.spent import Spent, spent_on
from protos.costs import MOST_THRESHOLDS, Costs, Volume
from strategies.analytics.estimates import Estimate
from strategies.analytics.value import (
    Amounts,
    Best,
    Line,
    ReviewAmounts,
    Rule,
    ScoreTable,
    arithmetic,
    best_threshold,
    cells_of,
    mean_of,
    over_thresholds,
    share_of,
)
from strategies.analytics.value_difference import difference
from strategies.errors import UsageError

APPROVE_ALL, DECLINE_ALL = "approving everybody", "declining everybody"


@dataclass(frozen=True, slots=True, kw_only=True)
class AtThreshold:
    """What decisions come to with declining from `at` on, the bound of score bins that is nearest to what was `asked`; review from `reviews_from` on, if anybody.

    `decision` and `saved` are a decision, in the currency; `saved` is how much cheaper it is than each other way of deciding.
    """

    asked: float
    at: float
    reviews_from: float | None
    lines: tuple[Line, ...]
    rows: float
    decision: Estimate
    approved: Estimate
    reviewed: Estimate
    declined: Estimate
    saved: dict[str, Estimate]


@dataclass(frozen=True, slots=True, kw_only=True)
class Valued:
    """One source: at each threshold, over all of them, and the best; or `cannot`."""

    title: str
    noise_std: float = 0.0
    thresholds: tuple[AtThreshold, ...] = ()
    curve: tuple[tuple[float, Estimate], ...] = ()
    best: Best | None = None
    best_at: float = 0.0
    champion: str = ""
    cannot: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Value:
    """A version's value by source, the evaluation first, and what it cost."""

    version: ModelVersion
    costs: Costs
    sources: tuple[Valued, ...]
    spent: Spent


def value_of(centre: Centre, version: ModelVersion, costs: Costs, thresholds: Sequence[float] = ()) -> Value:
    """What a version is worth at `thresholds`, else at the costs' `decline_at`. Raises UsageError for thresholds that are none."""
    asked = list(dict.fromkeys(thresholds)) or [costs.decline_at]
    if len(asked) > MOST_THRESHOLDS:
        raise UsageError(f"{len(asked)} thresholds are asked about; at most {MOST_THRESHOLDS} at once")
    for each in asked:
        if not 0.0 < each < 1.0:
            raise UsageError(f"the threshold {each:g} is no score between 0 and 1; use one such as 0.3")
    seed = int(version.digest[:16], 16)
    return Value(
        version=version,
        costs=costs,
        sources=tuple(valued(each, costs, asked, seed) for each in sources_of(centre, version)),
        spent=spent_on(centre, version),
    )


def amounts_of(costs: Costs) -> Amounts:
    """The matrix of a document."""
    looked = costs.review
    return Amounts(
        approve=(costs.approve.good, costs.approve.bad),
        decline=(costs.decline.good, costs.decline.bad),
        review=None
        if looked is None
        else ReviewAmounts(cost=looked.cost, finds=looked.finds, turns_away=looked.turns_away),
    )


def a_year(each: Estimate, volume: Volume) -> tuple[float, float, float, float]:
    """A year's amount at the least and the most volume, and the least and the most that it can be with the interval."""
    ends = [end * number for end in (each.low, each.high) for number in (volume.least, volume.most)]
    return each.value * volume.least, each.value * volume.most, min(ends), max(ends)


def valued(source: Source, costs: Costs, asked: Sequence[float], seed: int) -> Valued:
    """What one source says; `seed` is of the draws that tell how far the best threshold is flattered."""
    table, amounts = source.table, amounts_of(costs)
    if table is None:
        return Valued(title=source.title, cannot=source.cannot)
    reviews = None if costs.review is None else table.nearest(costs.review.from_score)
    best = best_threshold(table, amounts, reviews, rng=np.random.default_rng(seed))
    curve = zip(table.bounds.tolist(), over_thresholds(table, amounts, reviews), strict=True)
    return Valued(
        title=source.title,
        noise_std=table.noise_std,
        thresholds=tuple(_at(source, table, amounts, each, reviews) for each in asked),
        curve=tuple(curve),
        best=best,
        best_at=float(table.bounds[best.declines]),
        champion=source.champion_ref,
    )


def _at(
    source: Source, table: ScoreTable, amounts: Amounts, asked: float, reviews: int | None
) -> AtThreshold:
    rule = Rule(table.nearest(asked), reviews)
    own = cells_of(amounts, rule, table.bins)
    others = {
        APPROVE_ALL: np.broadcast_to(np.array(amounts.approve)[:, None], own.shape),
        DECLINE_ALL: np.broadcast_to(np.array(amounts.decline)[:, None], own.shape),
    }
    saved = {name: mean_of(table, cells - own) for name, cells in others.items()}
    if source.champion is not None:
        saved[source.champion_ref] = difference(source.champion, own, table, own)
    approved, reviewed, declined = (share_of(table, part) for part in rule.parts(table.bins))
    looks = reviews is not None and reviews < rule.declines
    return AtThreshold(
        asked=asked,
        at=float(table.bounds[rule.declines]),
        reviews_from=float(table.bounds[reviews]) if reviews is not None and looks else None,
        lines=arithmetic(table, amounts, rule),
        rows=table.rows,
        decision=mean_of(table, own),
        approved=approved,
        reviewed=reviewed,
        declined=declined,
        saved=saved,
    )


def facts_of(value: Value) -> dict[str, Any]:
    """As JSON."""
    return {
        "model": value.version.ref,
        "currency": value.costs.currency,
        "costs": value.costs.digest,
        "sources": [_source_facts(each, value.costs) for each in value.sources],
        "spent": value.spent.facts(value.costs.rates),
    }


def _source_facts(found: Valued, costs: Costs) -> dict[str, Any]:
    if found.best is None:
        return {"source": found.title, "cannot": found.cannot}
    return {
        "source": found.title,
        "noise_std": found.noise_std,
        "thresholds": [_threshold_facts(each, costs) for each in found.thresholds],
        "over_thresholds": [{"at": at, **_facts(each)} for at, each in found.curve],
        "best": {
            "at": found.best_at,
            "decision": _facts(found.best.cost),
            "flattered_by": found.best.flattered,
            "expected": found.best.expected,
        },
        "champion": found.champion or None,
    }


def _threshold_facts(found: AtThreshold, costs: Costs) -> dict[str, Any]:
    least, most, low, high = a_year(found.decision, costs.volume_per_year)
    return {
        "asked": found.asked,
        "declines_from": found.at,
        "reviews_from": found.reviews_from,
        "rows": found.rows,
        "lines": [
            {
                "part": str(each.part),
                "rows": each.rows,
                "share": each.share,
                "each": each.each,
                "amount": each.amount,
            }
            for each in found.lines
        ],
        "amount": sum(each.amount for each in found.lines),
        "decision": _facts(found.decision),
        "year": {"at_least_volume": least, "at_most_volume": most, "low": low, "high": high},
        **{name: _facts(getattr(found, name)) for name in ("approved", "reviewed", "declined")},
        "saved_beside": {name: _facts(each) for name, each in found.saved.items()},
    }


def _facts(each: Estimate) -> dict[str, float]:
    return {"value": each.value, "low": each.low, "high": each.high}
