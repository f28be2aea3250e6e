"""After a gap in the log: what a site has charged and this centre has lost is charged here again, by the site's own signed statement.

1. After a gap every account is unsettled: nothing is reserved at a site before its statement, made after the gap was declared, was adopted.
2. All that the site charged to this federation and the ledger has not settled is adopted, and counts as opened: what was opened is not known any more.
   Reservations of runs from before the gap stay charged beside it until a person gives them up.
3. What a gap does not explain stays an alarm, and then nothing is adopted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from datetime import datetime

from sqlalchemy import func, insert, select, text
from sqlalchemy.orm import Session

from coordinator.db.log_schema import LoggedEntry
from coordinator.db.recovery_schema import AdoptedCharge as AdoptedRow
from coordinator.db.recovery_schema import AdoptedSite
from coordinator.ledger.books import count_up, open_books
from coordinator.ledger.entries import keep_releases
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.reconcile import Kind, Reconciliation
from protos.account_statement import AccountStatement
from protos.gaps import SignedGap
from protos.log_entries import AccountsAdopted, AdoptedCharge, GapLogged, LogEntry
from strategies.dp.budget import BudgetRefused
from strategies.dp.events import Release
from strategies.errors import CovenantError, Refused
from strategies.ids import Digest, SiteName

_LOST = frozenset({Kind.UNKNOWN_RUN, Kind.NEVER_RESERVED})
"""Alarms that a gap explains."""
_ADOPTED = _LOST | {Kind.NEVER_OPENED}


def newest_gap(session: Session) -> int | None:
    """The last entry of the log that declares a gap; None where there is none."""
    return session.scalar(select(func.max(LoggedEntry.seq)).where(LoggedEntry.kind == "gap"))


def require_adopted(session: Session, sites: Collection[SiteName]) -> None:
    """Check that no account of `sites` is unsettled. Raises BudgetRefused."""
    gap = newest_gap(session)
    if gap is None:
        return
    query = select(AdoptedSite.site).where(AdoptedSite.gap_entry == gap)
    missing = sorted(set(sites) - set(session.scalars(query)))
    if missing:
        raise BudgetRefused(
            f"entries of the log are lost (the gap at entry {gap}), and with them charges: the accounts of {', '.join(missing)} are unsettled. Have each"
            " site run `covenant-agent budget --export`, and read its statement with `covenant ledger reconcile`"
        )


def lock_adoption(session: Session) -> None:
    """Have two that adopt at once take turns, as SQLite's writers do anyway."""
    if session.get_bind().dialect.name == "postgresql":
        session.execute(text("LOCK TABLE adopted_sites IN SHARE ROW EXCLUSIVE MODE"))


def adoption(
    session: Session, statement: AccountStatement, digest: Digest, found: Reconciliation
) -> AccountsAdopted | None:
    """The entry that adopts what `statement` has and the ledger lacks; None where no gap asks for it, or it was done after the last one.

    Raises Refused for a statement from before the gap, an alarm that a gap does not explain, and a charge to an account that has no ceiling here.
    """
    gap = newest_gap(session)
    if gap is None or session.get(AdoptedSite, (gap, statement.site)) is not None:
        return None
    _require_after(session, gap, statement)
    left = [each for each in found.alarms if each.kind not in _LOST]
    if left:
        raise Refused(
            f"{statement.site}: {len(left)} attempts are not told alike by site and centre, and the gap does not explain it ({left[0].kind}); nothing"
            " was adopted"
        )
    releases = _stated(statement)
    times: Counter[tuple[str, Digest]] = Counter()
    for account in found.accounts:
        mine = [Digest(each.at.release) for each in account.differences if each.kind in _ADOPTED]
        if mine and account.ceiling is None:
            raise Refused(
                f"{account.key.words} has charges and no ceiling here, which was lost too: its officers set one with `covenant ledger set-ceiling`, then"
                " read the statement again"
            )
        times.update((account.key.population, each) for each in mine)
    return AccountsAdopted(
        site=statement.site,
        statement=digest,
        made_at=statement.made_at,
        releases={release: releases[release].facts() for _, release in times},
        adopted=tuple(
            AdoptedCharge(population=population, release=release, times=count)
            for (population, release), count in sorted(times.items())
        ),
    )


def write_adopted(session: Session, what: AccountsAdopted, now: datetime) -> None:
    """The effect of the entry: charges for good, and accounts that may be charged again."""
    gap = newest_gap(session)
    if gap is None:
        raise CovenantError(f"accounts of {what.site} are adopted, and the log has no gap")
    releases = {digest: Release.from_facts(dict(facts)) for digest, facts in what.releases.items()}
    keys = {
        (each.population, each.release): AccountKey.of(
            what.site, each.population, releases[each.release].unit
        )
        for each in what.adopted
    }
    books = open_books(session, set(keys.values()), lock=True)
    if not count_up(session, books.values()):
        raise CovenantError(f"accounts of {what.site} were decided about at this moment; try again")
    keep_releases(session, set(releases.values()))
    rows = [
        {
            "account_id": books[keys[each.population, each.release]].id,
            "release_digest": each.release,
            "times": each.times,
            "statement": what.statement,
            "at": now,
        }
        for each in what.adopted
    ]
    if rows:
        session.execute(insert(AdoptedRow), rows)
    session.add(AdoptedSite(gap_entry=gap, site=what.site, statement=what.statement, at=now))
    session.flush()


def _require_after(session: Session, gap: int, statement: AccountStatement) -> None:
    what = LogEntry.from_canonical(bytes(session.get_one(LoggedEntry, gap).body)).what
    if not isinstance(what, GapLogged):
        raise CovenantError(f"entry {gap} of the log is no gap: the database was changed by somebody")
    declared = what.gap.read_as(SignedGap).gap.declared
    if statement.made_at < declared:
        raise Refused(
            f"the statement of {statement.site} was made at {statement.made_at:%Y-%m-%d %H:%M}, before the gap was declared ({declared:%Y-%m-%d %H:%M});"
            " ask for a new one"
        )


def _stated(statement: AccountStatement) -> Mapping[Digest, Release]:
    return {
        Digest(digest): Release.from_facts(facts)
        for account in statement.accounts
        for digest, facts in account.releases.items()
    }
