"""An account's epsilon over time, as a chart: what was opened, what is charged, and what plans would add."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy.orm import Session

from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.reads.approved import Waiting
from coordinator.ledger.books import Book
from coordinator.ledger.curves import Spent, added, over_time
from coordinator.ledger.views import CeilingChange
from strategies.dp.curves import UnsupportedRelease
from strategies.dp.events import Release

_SOON: Final = timedelta(days=30)
"""When a plan is drawn to be launched of which nobody has said until when it may be."""
_EARLIER: Final = timedelta(seconds=1)
_Point = tuple[float | str, float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Would:
    """A plan that may be launched, what it would release here, and the last moment at which it may."""

    name: str
    digest: str
    charges: Mapping[Release, int]
    until: datetime | None


def would_of(book: Book, plans: Sequence[Waiting]) -> Sequence[Would]:
    """Which of the approved plans would charge an account, the first to end first."""
    found = []
    for each in plans:
        planned = each.planned
        if planned is None or not each.standing.approved or book.key.site not in each.plan.sites.invite:
            continue
        unit = planned.train.unit
        same = (unit.kind, unit.column) == (book.key.kind, book.key.column)
        if same and each.plan.population_of(book.key.site) == book.key.population:
            found.append(
                Would(
                    name=each.plan.name, digest=each.plan.digest, charges=planned.planned(), until=each.ends
                )
            )
    return sorted(found, key=lambda each: (each.until is None, each.until))


def epsilon_over_time(
    session: Session,
    book: Book,
    history: Sequence[CeilingChange],
    approved: Sequence[Would],
    now: datetime,
    what_if: Would | None = None,
) -> Chart:
    """The chart of an account. Reservations, and what plans would add, are dashed."""
    curve, ceiling = over_time(session, book), book.in_force.ceiling
    began = history[0].set_at if history else now
    drawn = [
        Series(name="opened", points=_points(curve.opened, curve.charged, began, now), kind="step"),
        Series(
            name="with reservations",
            points=_points(curve.charged, curve.opened, began, now),
            kind="step",
            dashed=True,
        ),
    ]
    if approved:
        drawn.append(_forecast("approved plans, if launched by their last day", book, approved, now))
    if what_if is not None:
        drawn.append(_forecast(f"with all of {what_if.name}", book, [what_if], now))
    if len({each.decided.ceiling.epsilon for each in history}) > 1:
        drawn.append(Series(name="ceiling as decided", points=_ceilings(history, now), kind="step"))
    values = [y for each in drawn for _, y in each.points if y is not None]
    return Chart(
        name="epsilon",
        title=f"Epsilon over time, at delta {ceiling.delta:g} per {ceiling.unit.words}",
        x="time (UTC)",
        y="epsilon",
        axis="time",
        y_from=0.0,
        y_to=_above(max(ceiling.epsilon, *values)),
        series=drawn,
        bounds=[Bound(name=f"ceiling {ceiling.epsilon:g}", at=ceiling.epsilon)],
    )


def _points(mine: Sequence[Spent], others: Sequence[Spent], began: datetime, now: datetime) -> list[_Point]:
    """A value at every moment that either curve has, so that the table of figures has no holes."""
    moments = [each.at for each in mine]
    every = sorted({began - _EARLIER, *moments, *(each.at for each in others), now})
    found: list[_Point] = []
    for at in every:
        place = bisect_right(moments, at)
        found.append((at.isoformat(), _finite(mine[place - 1].guarantee.epsilon) if place else 0.0))
    return found


def _forecast(name: str, book: Book, plans: Sequence[Would], now: datetime) -> Series:
    """From what is charged now. A plan whose cost nobody knows is left out: it would be refused."""
    moments = [(max(each.until or now + _SOON, now + _EARLIER), each.charges) for each in plans]
    points: list[_Point] = [(now.isoformat(), _finite(book.account.guarantee().epsilon))]
    with suppress(UnsupportedRelease):
        spent = added(book.in_force.ceiling, book.charges, moments)
        points += [(each.at.isoformat(), _finite(each.guarantee.epsilon)) for each in spent]
    if points[-1][1] is None:
        name = f"{name}: unbounded, so not drawn"
    return Series(name=name, points=points, kind="step", dashed=True)


def _ceilings(history: Sequence[CeilingChange], now: datetime) -> list[_Point]:
    points: list[_Point] = [(each.set_at.isoformat(), each.decided.ceiling.epsilon) for each in history]
    return [*points, (now.isoformat(), history[-1].decided.ceiling.epsilon)]


def _above(value: float) -> float:
    """A round number a little above `value`, so that the ceiling is in the picture."""
    step = 10.0 ** math.floor(math.log10(value)) / 2.0
    return round(step * math.ceil(1.02 * value / step), 12)


def _finite(value: float) -> float | None:
    return round(value, 6) if math.isfinite(value) else None
