"""What the progress of earlier runs says about those that would follow: round times, and how often sites brought nothing of use.

1. Runs count that are like the plan: of the same contract by name, and of the same algorithm. Times a unit of batch are those of the same model and
   features as well.
2. A round's time is that of its slowest site: all exchanges of the round together, more than any one of them, which is what a deadline holds for.
3. A site missed a stage of a round if its last exchange brought nothing of use. What a site said is not repeated here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import Integer, case, cast, func, or_, select
from sqlalchemy.orm import Session

from coordinator.db.progress_schema import SiteExchange
from coordinator.db.schema import Run
from protos.plan import Plan
from protos.plan_training import GradientSums, PrivateSteps
from strategies.analytics.learnt import Absence

MOST_RUNS: Final = 200
"""Runs that are looked at, the latest first."""
_REFUSED: Final = "refused%"


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteHistory:
    """What is known of a site: how often it was away, how often that was a refusal, and the longest that a round took it, in seconds."""

    site: str
    absence: Absence
    refusals: int
    longest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What `runs` say: seconds of each round's slowest site, and of training seconds a unit of batch; sites by name."""

    runs: tuple[str, ...]
    round_s: tuple[float, ...]
    per_unit_s: tuple[float, ...]
    sites: Mapping[str, SiteHistory]

    @property
    def often_away(self) -> tuple[SiteHistory, ...]:
        """Sites that stay away often, beyond chance."""
        return tuple(each for each in self.sites.values() if each.absence.is_often)


class _Like(NamedTuple):
    run: str
    batch: int | None
    """Where rounds of this run do the same work as the plan's, but for the batch."""


def history_of(session: Session, plan: Plan) -> History:
    """What runs like `plan` have left."""
    like = list(_like(session, plan))
    runs = [each.run for each in like]
    if not runs:
        return History(runs=(), round_s=(), per_unit_s=(), sites={})
    slowest = _slowest(session, runs)
    batches = {each.run: each.batch for each in like}
    return History(
        runs=tuple(runs),
        round_s=tuple(seconds for _, _, seconds in slowest),
        per_unit_s=tuple(
            seconds / batch
            for run, stage, seconds in slowest
            if stage == "train" and (batch := batches[run]) is not None
        ),
        sites={each.site: each for each in _sites(session, runs)},
    )


def batch_of(plan: Plan) -> int | None:
    """Units a round takes of a site, all its steps together; None where an algorithm passes over all rows whatever its batch is."""
    rule = plan.training
    if isinstance(rule, PrivateSteps):
        return rule.expected_batch * rule.local_steps
    return rule.expected_batch if isinstance(rule, GradientSums) else None


def _like(session: Session, plan: Plan) -> Iterator[_Like]:
    query = select(Run.id, Run.plan).order_by(Run.submitted_at.desc(), Run.id).limit(MOST_RUNS)
    ours = plan.model_dump(mode="json")
    for run, text in session.execute(query):
        theirs: Mapping[str, Any] = json.loads(text)
        training = theirs.get("training", {})
        named = str(theirs.get("contract", "")).partition("@")[0]
        if (named, training.get("algorithm")) != (plan.contract.partition("@")[0], plan.training.algorithm):
            continue
        same = all(theirs.get(key) == ours[key] for key in ("contract", "features", "model"))
        batch = training.get("expected_batch")
        yield _Like(
            run, None if batch is None or not same else int(batch) * int(training.get("local_steps", 1))
        )


def _slowest(session: Session, runs: list[str]) -> list[tuple[str, str, float]]:
    """Run, stage and seconds of each round of each stage that somebody answered in."""
    row = SiteExchange
    query = (
        select(row.run_id, row.stage, func.max(row.seconds))
        .where(row.run_id.in_(runs), row.answered > 0, row.trouble.is_(None), row.waiting.is_(False))
        .group_by(row.run_id, row.stage, row.round)
    )
    return [(run, stage, float(seconds)) for run, stage, seconds in session.execute(query)]


def _sites(session: Session, runs: list[str]) -> Iterator[SiteHistory]:
    row = SiteExchange
    missed = or_(row.trouble.is_not(None), row.answered == 0)
    query = (
        select(
            row.site,
            func.count(),
            func.sum(cast(case((missed, 1), else_=0), Integer)),
            func.sum(cast(case((row.trouble.like(_REFUSED), 1), else_=0), Integer)),
            func.max(row.seconds),
        )
        .where(row.run_id.in_(runs), row.waiting.is_(False))
        .group_by(row.site)
        .order_by(row.site)
    )
    for site, asked, away, refusals, longest in session.execute(query):
        yield SiteHistory(
            site=site,
            absence=Absence(int(asked), int(away)),
            refusals=int(refusals or 0),
            longest_s=float(longest),
        )
