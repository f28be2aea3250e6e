"""What runs have charged, summed up by the database: a ledger of many settled releases has few different ones.

One query answers for any number of entries. It reads an index only, and gives one row for each run, stage, release and outcome.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerEntry, Outcome
from coordinator.ledger.books import releases_of
from coordinator.ledger.needs import STAGES
from strategies.dp.budget import merged
from strategies.dp.events import Release
from strategies.ids import RunId


@dataclass(frozen=True, slots=True, kw_only=True)
class StageTotals:
    """How often a stage's release was `settled` by a run, is still `reserved`, and was `voided`."""

    stage: str
    release: Release
    settled: int
    reserved: int
    voided: int

    @property
    def charged(self) -> int:
        """How many of them are spent: opened, or still to be."""
        return self.settled + self.reserved


Totals = Mapping[RunId, tuple[StageTotals, ...]]
"""The totals of one account, by run, in the order of the runs' first entries."""


def totals_of(
    session: Session, ids: Collection[int], runs: Collection[RunId] | None = None
) -> Mapping[int, Totals]:
    """The totals of each of the accounts `ids`; one without entries has none. With `runs`, of these only."""
    entry = LedgerEntry
    told = entry.account_id, entry.run_id, entry.stage, entry.release_digest, entry.outcome
    query = select(*told, func.sum(entry.times), func.min(entry.at)).where(entry.account_id.in_(ids))
    if runs is not None:
        query = query.where(entry.run_id.in_(runs))
    rows = sorted(session.execute(query.group_by(*told)), key=lambda row: row[6])
    counts: dict[tuple[int, str, str, str], dict[str, int]] = {}
    for account, run, stage, digest, outcome, times, _ in rows:
        counts.setdefault((account, run, stage, digest), {})[outcome] = int(times)
    releases = releases_of(session, ids)
    found: dict[int, dict[RunId, list[StageTotals]]] = {}
    for (account, run, stage, digest), by in counts.items():
        stages = found.setdefault(account, {}).setdefault(RunId(run), [])
        stages.append(_stage(stage, releases[digest], by))
    return {
        account: {run: tuple(sorted(stages, key=_by_stage)) for run, stages in runs.items()}
        for account, runs in found.items()
    }


def opened_of(session: Session, ids: Collection[int]) -> Mapping[int, Mapping[Release, int]]:
    """What each of the accounts `ids` has opened, whatever the run; one that has opened nothing is left out. Adopted charges are not in it."""
    entry = LedgerEntry
    # In the index's own order, so that nothing is sorted.
    told = entry.account_id, entry.run_id, entry.stage, entry.release_digest
    query = select(*told, func.sum(entry.times)).where(
        entry.account_id.in_(ids), entry.outcome == Outcome.SETTLED
    )
    counts: dict[int, dict[str, int]] = {}
    for account, _, _, digest, times in session.execute(query.group_by(*told)):
        mine = counts.setdefault(account, {})
        mine[digest] = mine.get(digest, 0) + int(times)
    releases = releases_of(session, ids)
    return {
        account: {releases[digest]: times for digest, times in mine.items()}
        for account, mine in counts.items()
    }


@dataclass(frozen=True, slots=True)
class FirstCharge:
    """When a run first charged an account: the place of the run among the account's."""

    run: RunId
    at: datetime


def runs_charged(
    session: Session, account: int, before: FirstCharge | None, limit: int
) -> Sequence[FirstCharge]:
    """At most `limit` runs that charged an account, the latest first; with `before`, those that charged it earlier than that."""
    first, run = func.min(LedgerEntry.at), LedgerEntry.run_id
    query = select(run, first).where(LedgerEntry.account_id == account).group_by(run)
    if before is not None:
        query = query.having(or_(first < before.at, (first == before.at) & (run < before.run)))
    rows = session.execute(query.order_by(first.desc(), run.desc()).limit(limit)).all()
    return [FirstCharge(RunId(row[0]), row[1]) for row in rows]


def _stage(stage: str, release: Release, by: Mapping[str, int]) -> StageTotals:
    settled, voided = by.get(Outcome.SETTLED, 0), by.get(Outcome.VOIDED, 0)
    left = by.get(Outcome.RESERVED, 0) - voided - settled
    return StageTotals(stage=stage, release=release, settled=settled, reserved=left, voided=voided)


def _by_stage(totals: StageTotals) -> tuple[int, str]:
    return STAGES.index(totals.stage), totals.release.what


def charges_in(stages: Iterable[StageTotals]) -> Mapping[Release, int]:
    """How often each release is charged."""
    return merged(*({each.release: each.charged} for each in stages))


def settled_in(stages: Iterable[StageTotals]) -> Mapping[Release, int]:
    """How often each release was opened."""
    return merged(*({each.release: each.settled} for each in stages))
