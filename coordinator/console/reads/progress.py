"""How one run goes on: its rounds and its exchanges with sites, in bounded queries.

What sites sent and took is noted while the driver waits (`coordinator.rounds.progress`); a run of before that was noted has none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import load_only

from coordinator.db.engine import reading
from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import Model, Round, RoundState
from strategies.ids import RunId

MOST_ROUNDS: Final = 50
MOST_POINTS: Final = 1000
MOST_SITES: Final = 1000
MOST_DRAWN: Final = 200
MOST_LINES: Final = 6
"""Lines in one chart."""
_STAGES: Final = ("prepare", "train", "evaluate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt at a round. `metrics` are those of the round's model, `exchange_s` and `seconds` are absent until it is committed."""

    number: int
    attempt: int
    state: RoundState
    roster: Sequence[str]
    survivors: Sequence[str] | None
    exchange_s: float | None
    seconds: float | None
    metrics: dict[str, Any] | None
    reason: str | None
    opened_at: datetime
    closed_at: datetime | None

    @property
    def left_out(self) -> Sequence[str]:
        """Who was asked and is not in what came of it; nobody as long as that is not known."""
        return [] if self.survivors is None else sorted(set(self.roster) - set(self.survivors))


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A committed round in the charts: seconds, bytes that all sites sent and took, and the metrics of its model."""

    number: int
    exchange_s: float | None
    seconds: float | None
    sent: int
    received: int
    metrics: dict[str, Any] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteTotals:
    """What one site sent and took over a whole run. `seconds` is how long it took to answer, `words` why its last exchange brought nothing of use."""

    site: str
    asked: int
    answered: int
    sent: int
    received: int
    seconds: float
    words: str | None
    changed_at: datetime


def attempts(
    engine: Engine, run: RunId, *, below: int | None = None, limit: int = MOST_ROUNDS
) -> Sequence[Attempt]:
    """The attempts of at most `limit` rounds, the newest first; only those `below` a round's number if one is named."""
    here = select(Round.number).where(Round.run_id == run)
    if below is not None:
        here = here.where(Round.number < below)
    numbers = here.distinct().order_by(Round.number.desc()).limit(limit)
    query = select(Round).options(
        load_only(
            Round.number,
            Round.attempt,
            Round.state,
            Round.roster,
            Round.survivors,
            Round.exchange_s,
            Round.seconds,
            Round.metrics,
            Round.reason,
            Round.opened_at,
            Round.closed_at,
        )
    )
    with reading(engine, f"reading the rounds of {run}") as session:
        newest = list(session.scalars(numbers))
        rows = session.scalars(
            query.where(Round.run_id == run, Round.number.in_(newest))
            .order_by(Round.number.desc(), Round.attempt.desc())
            .limit(limit * 20)
        ).all()
    return [
        Attempt(
            number=row.number,
            attempt=row.attempt,
            state=RoundState(row.state),
            roster=row.roster,
            survivors=row.survivors,
            exchange_s=row.exchange_s,
            seconds=row.seconds,
            metrics=row.metrics,
            reason=row.reason,
            opened_at=row.opened_at,
            closed_at=row.closed_at,
        )
        for row in rows
    ]


def course(engine: Engine, run: RunId) -> Sequence[Point]:
    """The latest `MOST_POINTS` committed rounds, in order."""
    rounds = (
        select(Round.number, Round.exchange_s, Round.seconds, Round.metrics)
        .where(Round.run_id == run, Round.state == RoundState.COMMITTED)
        .order_by(Round.number.desc())
        .limit(MOST_POINTS)
    )
    with reading(engine, f"reading the course of {run}") as session:
        rows = session.execute(rounds).all()[::-1]
        if not rows:
            return []
        # Stage by stage, as the rows lie: so they are summed up without being sorted first.
        told = (
            select(SiteExchange.round, func.sum(SiteExchange.sent), func.sum(SiteExchange.received))
            .where(
                SiteExchange.run_id == run,
                SiteExchange.stage.in_(_STAGES),
                SiteExchange.round >= rows[0].number,
            )
            .group_by(SiteExchange.stage, SiteExchange.round)
        )
        sent: Counter[int] = Counter()
        received: Counter[int] = Counter()
        for number, out, back in session.execute(told):
            sent[number] += int(out)
            received[number] += int(back)
    return [
        Point(
            number=row.number,
            exchange_s=row.exchange_s,
            seconds=row.seconds,
            sent=sent[row.number],
            received=received[row.number],
            metrics=row.metrics,
        )
        for row in rows
    ]


def latest_stage(engine: Engine, run: RunId) -> Sequence[SiteExchange]:
    """The exchanges of the stage that a run has come to, one a site. A run never goes back, whatever its sites witness at its end."""
    each = SiteExchange
    with reading(engine, f"reading where {run} stands") as session:
        furthest = {
            stage: session.scalar(select(func.max(each.round)).where(each.run_id == run, each.stage == stage))
            for stage in _STAGES
        }
        known = [
            (number, place, stage)
            for place, (stage, number) in enumerate(furthest.items())
            if number is not None
        ]
        if not known:
            return []
        number, _, stage = max(known)
        here = each.run_id == run, each.stage == stage, each.round == number
        return session.scalars(select(each).where(*here).order_by(each.site).limit(MOST_SITES)).all()


def by_site(engine: Engine, run: RunId) -> Sequence[SiteTotals]:
    """The totals of each site."""
    each = SiteExchange
    totals = (
        select(
            each.site,
            func.sum(each.asked),
            func.sum(each.answered),
            func.sum(each.sent),
            func.sum(each.received),
            func.sum(each.seconds),
            func.max(each.changed_at),
        )
        .where(each.run_id == run)
        .group_by(each.site)
        .order_by(each.site)
        .limit(MOST_SITES)
    )
    words = {row.site: row.trouble for row in reversed(troubles(engine, run, limit=MOST_SITES))}
    with reading(engine, f"reading the sites of {run}") as session:
        rows = session.execute(totals).all()
    return [
        SiteTotals(
            site=site,
            asked=int(asked),
            answered=int(answered),
            sent=int(sent),
            received=int(received),
            seconds=float(seconds),
            words=words.get(site),
            changed_at=at,
        )
        for site, asked, answered, sent, received, seconds, at in rows
    ]


def troubles(engine: Engine, run: RunId, *, limit: int = MOST_ROUNDS) -> Sequence[SiteExchange]:
    """Exchanges that brought nothing of use, the latest first."""
    query = (
        select(SiteExchange)
        .where(SiteExchange.run_id == run, SiteExchange.trouble.is_not(None))
        .order_by(SiteExchange.changed_at.desc(), SiteExchange.site)
        .limit(limit)
    )
    with reading(engine, f"reading the refusals of {run}") as session:
        return session.scalars(query).all()


def slowest(engine: Engine, run: RunId) -> Sequence[tuple[str, Sequence[tuple[int, float]]]]:
    """The sites that took longest in the training stage, and their seconds by round, of the latest `MOST_DRAWN` rounds."""
    each = SiteExchange
    mine = each.run_id == run, each.stage == "train"
    with reading(engine, f"reading how long the sites of {run} took") as session:
        newest = session.scalar(select(func.max(each.round)).where(*mine))
        if newest is None:
            return []
        late = (*mine, each.round > newest - MOST_DRAWN, each.answered > 0)
        total = select(each.site).where(*late).group_by(each.site)
        sites = session.scalars(
            total.order_by(func.sum(each.seconds).desc(), each.site).limit(MOST_LINES)
        ).all()
        # Rounds by name, so that the few rows are looked up and the many not read.
        named = each.round.in_(range(max(0, newest - MOST_DRAWN + 1), newest + 1))
        rows = session.execute(
            select(each.site, each.round, each.seconds)
            .where(*mine, named, each.answered > 0, each.site.in_(sites))
            .order_by(each.round)
        ).all()
    return [(site, [(row.round, row.seconds) for row in rows if row.site == site]) for site in sites]


def exchanges(
    engine: Engine, run: RunId, *, below: int | None = None, limit: int
) -> tuple[Sequence[Any], int | None]:
    """Every stage of every round with every site, the newest first, at most `limit` in whole rounds, one at least; and the round below which the next ones are."""
    each = SiteExchange
    query = (
        select(
            each.round, each.stage, each.site, each.asked, each.answered, each.sent, each.received, each.seconds, each.trouble
        )
        .where(each.run_id == run)
        .order_by(each.round.desc(), each.stage.desc(), each.site)
        .limit(limit + 1)
    )  # fmt: skip
    if below is not None:
        query = query.where(each.round < below)
    with reading(engine, f"reading the exchanges of {run}") as session:
        found = session.execute(query).all()
        if len(found) <= limit:
            return found, None
        whole = [row for row in found if row.round > found[-1].round]
        if not whole:  # one round of more sites than a file has rows
            whole = list(session.execute(query.where(each.round == found[0].round).limit(None)).all())
    return whole, whole[-1].round


def models_of(engine: Engine, run: RunId) -> Sequence[tuple[str, int]]:
    """The versions that came of a run."""
    query = select(Model.name, Model.version).where(Model.run_id == run).order_by(Model.name, Model.version)
    with reading(engine, f"looking for the models of {run}") as session:
        return [(name, version) for name, version in session.execute(query.limit(MOST_ROUNDS))]
