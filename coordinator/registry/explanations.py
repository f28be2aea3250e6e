"""What can be said of why a version scores as it does, in figures and in words: from the sums that its evaluations have released.

Nothing here asks a site for anything, so it costs no budget however often it is looked at.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from sqlalchemy import Engine, select

from coordinator.db import reading
from coordinator.db.schema import Round, RoundState, Run
from coordinator.registry.versions import ModelVersion
from protos.plan import Plan
from strategies.analytics.agreement import Agreement, agreement
from strategies.analytics.explanations import (
    Attributed,
    Explanation,
    Sums,
    explanation_of,
    listed,
    parts_of,
    whole_of,
)
from strategies.analytics.panels import Panels, released_panels
from strategies.analytics.shares import Interval

NONE_RELEASED: Final = "no contributions of features were released with this version's evaluation: name `evaluation.explanations` in the plan"
_TOLD: Final = 3
_LABELS: Final = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """Of one version: its last evaluation, how far parts of that agree, and each evaluated round with the one before. Where nothing was released there is only
    `cannot`."""

    explanation: Explanation | None = None
    parts: Agreement | None = None
    rounds: tuple[Agreement, ...] = ()
    cannot: str = ""


def explained(last: Panels | None, rounds: Mapping[int, Panels], score_bins: int) -> Explained:
    """From the panels of a version's weights, and of all evaluated `rounds` of its run by number; the plan counts scores in `score_bins`."""
    sums = _sums(last, score_bins)
    if last is None or last.attributions is None or sums is None:
        return Explained(cannot=NONE_RELEASED)
    panel = last.attributions
    parts = parts_of(panel)
    known = {
        number: one for number, each in sorted(rounds.items()) if (one := _sums(each, score_bins)) is not None
    }
    numbers = list(known)
    return Explained(
        explanation=explanation_of(sums),
        parts=agreement((panel.parts[0], panel.parts[1]), parts[0], parts[1], sampled=True)
        if parts
        else None,
        rounds=tuple(
            agreement((f"round {one}", f"round {other}"), known[one], known[other], sampled=False)
            for one, other in pairwise(numbers)
        ),
    )


def _sums(panels: Panels | None, score_bins: int) -> Sums | None:
    if panels is None or panels.attributions is None:
        return None
    # Rows without parts are counted by label and score.
    return whole_of(panels.attributions, panels.noise_std * math.sqrt(_LABELS * score_bins))


def explained_version(engine: Engine, version: ModelVersion) -> Explained:
    """Of a registered version, with the evaluated rounds of its run that are kept."""
    query = select(Round.number, Round.metrics, Round.panels).where(
        Round.run_id == version.run_id, Round.state == RoundState.COMMITTED
    )
    with reading(engine, "the evaluated rounds of a version") as session:
        told = {number: released_panels(*kept) for number, *kept in session.execute(query)}
        plan = session.scalar(select(Run.plan).where(Run.id == version.run_id)) or ""
    kept = {number: panels for number, panels in told.items() if panels is not None}
    return explained(version.released, kept, Plan.from_canonical(plan.encode()).evaluation.score_bins)


# --- in words -------------------------------------------------------------------------------------------------------------


def sentences(found: Explained) -> Iterator[str]:
    """What a reader who looks at no table must know, what cannot be said included."""
    if found.explanation is None:
        yield found.cannot
        return
    if found.explanation.cannot:
        yield f"what moves scores cannot be said: {found.explanation.cannot}"
    else:
        yield from _of_features(found.explanation)
    if found.parts is not None:
        yield agreement_words(found.parts)
    if found.rounds:
        yield agreement_words(found.rounds[-1])


def _of_features(found: Explanation) -> Iterator[str]:
    first, *others = found.features
    if first.worst == 1:
        yield f"{first.feature} moves scores most: {_moves(first)}"
    else:
        rivals = [each.feature for each in found.features if each.best == 1]
        yield f"which of {listed(rivals)} moves scores most is open; the largest figure is {first.feature}'s, {_moves(first)}"
    for each in [each for each in others if each.seen][: _TOLD - 1]:
        yield f"{each.feature}: {_moves(each)}"
    yield from _balance(found)
    yield from found.cautions


def _moves(found: Attributed) -> str:
    """The mean of an absolute change of the logit is a mean factor on the odds (geometric), up or down."""
    share = found.share
    told = (
        ""
        if share is None
        else f", {share.value:.0%} of all that features do ({share.low:.0%} to {share.high:.0%})"
    )
    one = found.absolute
    return f"by {one.value:.3g} logits a row on average (95 %: {one.low:.3g} to {one.high:.3g}), a factor of {math.exp(one.value):.3g} on the odds{told}"


def _balance(found: Explanation) -> Iterator[str]:
    up = [each.feature for each in found.features if each.on_balance > 0]
    down = [each.feature for each in found.features if each.on_balance < 0]
    told = [f"{way} by {listed(names)}" for names, way in ((up, "up"), (down, "down")) if names]
    if told:
        yield f"on balance over these rows, against the reference applicant, scores are moved {', and '.join(told)}"
    else:
        yield "whether any feature raises or lowers scores on balance, against the reference applicant, is open"


def agreement_words(found: Agreement) -> str:
    """One sentence."""
    names = f"{found.between[0]} and {found.between[1]}"
    one = found.correlation
    if one is None:
        return f"whether {names} agree cannot be said: {found.cannot}"
    how = "exact" if found.deviations is None else f"{found.deviations:.2g} standard deviations"
    return (
        f"{names} order {len(found.compared)} features with a rank correlation of {one.value:.2f} (95 %: {one.low:.2f} to {one.high:.2f});"
        f" {found.moved} differs most, by {found.by:+.3g} logits a row ({how})"
    )


def on_balance(found: Attributed) -> str:
    """A word for a table."""
    return {1: "raises", -1: "lowers", 0: "open"}[found.on_balance]


def ranks(found: Attributed) -> str:
    """`2`, or `2 to 4` where the order is open."""
    return f"{found.best}" if found.best == found.worst else f"{found.best} to {found.worst}"


def between(found: Interval | None, *, percent: bool = False) -> str:
    """Where a figure lies."""
    if found is None:
        return "hidden by noise"
    return f"{found.low:.1%} to {found.high:.1%}" if percent else f"{found.low:.4g} to {found.high:.4g}"


# --- as JSON --------------------------------------------------------------------------------------------------------------


def facts_of(found: Explained) -> dict[str, Any]:
    """All of it."""
    one = found.explanation
    return {
        "cannot": found.cannot or (one and one.cannot) or None,
        "rows": None if one is None else _interval(one.rows),
        "clip": None if one is None else one.clip,
        "noise_std": None if one is None else one.noise_std,
        "features": [
            {
                "feature": each.feature,
                "absolute": _interval(each.absolute),
                "signed": _interval(each.signed),
                "share": None if each.share is None else _interval(each.share),
                "ranks": [each.best, each.worst],
                "seen": each.seen,
                "on_balance": on_balance(each),
            }
            for each in ((one and one.features) or ())
        ],
        "cautions": list((one and one.cautions) or ()),
        "parts": None if found.parts is None else _agreement(found.parts),
        "rounds": [_agreement(each) for each in found.rounds],
    }


def _agreement(found: Agreement) -> dict[str, Any]:
    return {
        "between": list(found.between),
        "compared": list(found.compared),
        "hidden": list(found.hidden),
        "covered": found.covered,
        "correlation": None if found.correlation is None else _interval(found.correlation),
        "moved": found.moved or None,
        "by": found.by,
        "deviations": found.deviations,
        "cannot": found.cannot or None,
    }


def _interval(found: Interval) -> dict[str, float]:
    return {"value": found.value, "low": found.low, "high": found.high}
