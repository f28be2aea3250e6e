"""Facts written to the ledger: reserved, settled by an attempt, voided. Nothing is ever taken back, so a void is a fact of its own.

1. Who writes about a run holds the lock on its row, so that what is left of its reservation is known until the commit.
2. One attempt at a stage opens each release that the site's accounts reserved for that stage, once.
3. What is not reserved is not settled.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import case, func, insert, select
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerAccount, LedgerEntry, LedgerRelease, Outcome
from coordinator.db.schema import Run, RunState
from coordinator.ledger.books import Book, LedgerConflict
from coordinator.ledger.needs import AccountKey, Stages
from strategies.dp.budget import BudgetRefused
from strategies.dp.events import Release
from strategies.encoding import canonical_json
from strategies.ids import Digest, RunId, SiteName


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a run holds of one release for one stage at one account: reserved, less voided (`charged`), of which `settled`."""

    account: int
    key: AccountKey
    stage: str
    digest: str
    charged: int
    settled: int

    @property
    def left(self) -> int:
        """How many of them no attempt has opened yet."""
        return self.charged - self.settled


def lock_run(session: Session, run: RunId) -> RunState:
    """Lock the row of `run`, which may be one added in this session, and return its state. Raises LedgerConflict where there is none."""
    session.flush()
    state = session.scalar(select(Run.state).where(Run.id == run).with_for_update())
    if state is None:
        raise LedgerConflict(f"{run} is not in this database; covenant run list names those that are")
    return RunState(state)


def held_by(session: Session, run: RunId) -> list[Held]:
    """What `run` holds at every account, sorted by account and stage."""
    entry, account = LedgerEntry, LedgerAccount
    counted = {
        Outcome.RESERVED: case((entry.outcome == Outcome.RESERVED, entry.times), else_=0),
        Outcome.VOIDED: case((entry.outcome == Outcome.VOIDED, entry.times), else_=0),
        Outcome.SETTLED: case((entry.outcome == Outcome.SETTLED, entry.times), else_=0),
    }
    told = entry.account_id, entry.stage, entry.release_digest
    # Summed up before the accounts are looked up: a run of many rounds has a row a round and site.
    sums = (
        select(*told, *(func.sum(each).label(outcome) for outcome, each in counted.items()))
        .where(entry.run_id == run)
        .group_by(*told)
        .subquery()
    )
    stored = account.site, account.population, account.unit_kind, account.unit_column
    by_stage = sums.c.stage, sums.c.release_digest
    figures = sums.c[Outcome.RESERVED], sums.c[Outcome.VOIDED], sums.c[Outcome.SETTLED]
    query = (
        select(account.id, *stored, *by_stage, *figures)
        .join(account, account.id == sums.c.account_id)
        .order_by(account.id, *by_stage)
    )
    return [
        Held(
            account=row[0],
            key=AccountKey.from_stored(*row[1:5]),
            stage=row[5],
            digest=row[6],
            charged=int(row[7] - row[8]),
            settled=int(row[9]),
        )
        for row in session.execute(query)
    ]


def write_reserved(session: Session, run: RunId, asked: Iterable[tuple[Book, Stages]], now: datetime) -> None:
    """Reserve for `run` what each account was asked to bear."""
    asked = list(asked)
    keep_releases(session, {release for _, stages in asked for _, release in stages})
    rows = [
        _row(book.id, run, stage, release.digest, Outcome.RESERVED, now, times=times)
        for book, stages in asked
        for (stage, release), times in stages.items()
    ]
    session.execute(insert(LedgerEntry), rows)


def write_settled(
    session: Session, run: RunId, at: tuple[str, int, int], sites: Collection[SiteName], now: datetime
) -> tuple[Digest, ...]:
    """Settle one attempt `at` (stage, round, attempt) for each of `sites`, and return what each of them releases, by digest; what is settled
    already stays as it is.

    Raises BudgetRefused, and settles for no site, if one of them has nothing left to settle with.
    """
    stage, number, attempt = at
    mine = [held for held in held_by(session, run) if held.stage == stage and held.key.site in sites]
    unknown = sorted(set(sites) - {held.key.site for held in mine})
    if unknown:
        raise BudgetRefused(
            f"{run} reserved nothing for stage {stage} at {', '.join(unknown)}; nothing may be opened there"
        )
    done = _settled_by(session, run, at)
    open_ = [held for held in mine if (held.account, held.digest) not in done]
    for held in open_:
        if held.left < 1:
            raise BudgetRefused(
                f"{held.key.words}: {run} has nothing reserved left for stage {stage}: all {held.charged} attempts that it planned are "
                f"settled, retries included. Attempt {attempt} at round {number} may not be opened; launch a new run"
            )
    rows = [
        _row(held.account, run, stage, held.digest, Outcome.SETTLED, now, number=number, attempt=attempt)
        for held in open_
    ]
    if rows:
        session.execute(insert(LedgerEntry), rows)
    return tuple(sorted({Digest(held.digest) for held in mine}))


def write_voided(session: Session, run: RunId, reason: str, now: datetime) -> int:
    """Void all that `run` still has reserved, and return how many releases that were."""
    left = [held for held in held_by(session, run) if held.left]
    rows = [
        _row(held.account, run, held.stage, held.digest, Outcome.VOIDED, now, times=held.left, reason=reason)
        for held in left
    ]
    if rows:
        session.execute(insert(LedgerEntry), rows)
    return sum(held.left for held in left)


def _settled_by(session: Session, run: RunId, at: tuple[str, int, int]) -> set[tuple[int, str]]:
    stage, number, attempt = at
    entry = LedgerEntry
    query = select(entry.account_id, entry.release_digest).where(
        entry.run_id == run,
        entry.outcome == Outcome.SETTLED,
        entry.stage == stage,
        entry.round == number,
        entry.attempt == attempt,
    )
    return {(account, digest) for account, digest in session.execute(query)}


def keep_releases(session: Session, releases: set[Release]) -> None:
    """Write the releases that no entry has named before; sorted, so that two who write the same ones do not wait for each other."""
    facts = {release.digest: canonical_json(release.facts()).decode() for release in releases}
    known = set(session.scalars(select(LedgerRelease.digest).where(LedgerRelease.digest.in_(facts))))
    rows = [{"digest": digest, "facts": facts[digest]} for digest in sorted(facts) if digest not in known]
    if not rows:
        return
    if session.get_bind().dialect.name == "postgresql":
        # Another transaction may be writing the same release at this moment; on SQLite there is one writer.
        session.execute(postgresql.insert(LedgerRelease).on_conflict_do_nothing(), rows)
    else:
        session.execute(insert(LedgerRelease), rows)


def _row(
    account: int,
    run: RunId,
    stage: str,
    digest: str,
    outcome: Outcome,
    now: datetime,
    *,
    times: int = 1,
    number: int | None = None,
    attempt: int | None = None,
    reason: str | None = None,
) -> Mapping[str, object]:
    return {
        "account_id": account,
        "run_id": run,
        "stage": stage,
        "release_digest": digest,
        "outcome": str(outcome),
        "times": times,
        "round": number,
        "attempt": attempt,
        "reason": reason,
        "at": now,
    }
