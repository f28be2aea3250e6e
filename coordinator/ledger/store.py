"""The privacy ledger of record: reserves before a run is launched, settles before anything is opened, voids what never was.

1. Default deny: without a ceiling for the plan's own unit nothing is reserved. All accounts of a run are reserved, or none.
2. A reservation is judged on what was read, and written only if nobody decided about its accounts meanwhile; else it is judged again,
   this time under locks. Launches at the same moment therefore never overspend an account together.
3. Reserved counts as spent. Only what no attempt settled is voided: when a run completes, or when a person gives it up. A run that failed
   or was stopped keeps its reservation, because it can be resumed.
4. Settling charges nothing anew. It is in the transaction that fixes the survivors (T1), so shares are never asked for what is not settled.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import datetime
from typing import Final

from sqlalchemy import Engine
from sqlalchemy.orm import Session

from coordinator.db.engine import reading, writing
from coordinator.db.schema import RunState
from coordinator.governance.log import append
from coordinator.governance.members import Listed
from coordinator.ledger.adoption import adoption, lock_adoption, require_adopted, write_adopted
from coordinator.ledger.alerts import Crossing, record_crossings
from coordinator.ledger.books import Book, LedgerConflict, count_up, open_books
from coordinator.ledger.ceilings import Drafted, Proposal, decide, draft
from coordinator.ledger.entries import held_by, lock_run, write_reserved, write_settled, write_voided
from coordinator.ledger.needs import STAGES, AccountKey, Need, Stages, by_account, charges_of
from coordinator.ledger.reconcile import Reconciliation, compare, read_statement, reconcile
from coordinator.ledger.views import AccountSummary, AccountView, summaries, view
from protos.ceilings import SignedCeiling
from protos.log_entries import AccountsAdopted
from protos.log_run_events import ReservationGivenUp, reason_of
from protos.plan_releases import TRAIN
from strategies.dp.budget import BudgetRefused, most_rounds
from strategies.dp.units import PrivacyUnit
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName

_MOST_REFUSALS: Final = 10
_LONGEST_REASON: Final = 1000


class Ledger:
    """The accounts of all sites in one database.

    Methods that take a session are part of its transaction, which `coordinator.db.writing` opened; the others are one of their own. All
    raise CovenantError when the database fails.
    """

    def __init__(self, engine: Engine, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock

    # --- what runs do -------------------------------------------------------------------------------------------------

    def reserve(self, session: Session, run: RunId, needs: Sequence[Need]) -> tuple[Crossing, ...]:
        """Reserve all `needs` for `run`, whose row is in the database or was added in `session`; returns the alerts that this reaches.

        Raises BudgetRefused, and reserves nothing at all, where an account has no ceiling, is about another unit or would pass its ceiling;
        UsageError for no needs; LedgerConflict for a run that has completed or holds a reservation already.
        """
        asked = by_account(needs)
        self._require_unreserved(session, run)
        require_adopted(session, {key.site for key in asked})
        for lock in (False, True):
            with session.begin_nested() as savepoint:
                books = open_books(session, asked.keys(), lock=lock)
                _require_room(session, asked, books)
                if count_up(session, books.values()):
                    return self._reserved(session, run, asked, books)
                savepoint.rollback()
        raise LedgerConflict(
            f"reserving for {run}: its accounts were decided about at this moment; launch it again"
        )

    def reserve_now(self, run: RunId, needs: Sequence[Need]) -> tuple[Crossing, ...]:
        """`reserve` in a transaction of its own."""
        with writing(self._engine, f"reserving the releases of {run}") as session:
            return self.reserve(session, run, needs)

    def settle(
        self, session: Session, run: RunId, stage: str, number: int, attempt: int, sites: Collection[SiteName]
    ) -> tuple[Digest, ...]:
        """Settle what attempt `attempt` of `stage` at round `number` opens of `sites`: those whose input is in the sum. Returns what each of
        them releases, by digest.

        Call it in the transaction that records the survivors, before any share is asked for. Saying the same again changes nothing. Raises
        BudgetRefused, and then nothing may be opened, for a site with nothing reserved left.
        """
        if stage not in STAGES or number < 0 or attempt < 1 or not sites:
            raise UsageError(
                f"attempt {attempt} of stage {stage!r} at round {number} of {len(sites)} sites is none; settle a real one"
            )
        lock_run(session, run)
        return write_settled(session, run, (stage, number, attempt), sites, self._clock())

    def close_run(self, session: Session, run: RunId, reason: str) -> int:
        """Void what `run` still has reserved; returns how many releases that were.

        For a run that completed, in the transaction that says so. One that failed or was stopped is left alone: a person may resume it, or
        give it up with `release_run`.
        """
        lock_run(session, run)
        return self._voided(session, run, reason)

    def release_run(self, run: RunId, reason: str) -> int:
        """Give up what a failed or stopped `run` still has reserved, and return how many releases that were. It can then not be resumed
        without another reservation.

        Raises Refused for a run that may still open something.
        """
        if not reason.strip() or len(reason) > _LONGEST_REASON:
            raise UsageError(f"a run is given up for a reason; write 1 to {_LONGEST_REASON} characters")
        with writing(self._engine, f"giving up the reservation of {run}") as session:
            state = lock_run(session, run)
            if state not in {RunState.FAILED, RunState.STOPPED, RunState.COMPLETED}:
                raise Refused(
                    f"{run} is {state}, and its reservation is what it may still open; stop it first, with `covenant run stop {run}`"
                )
            return self._voided(session, run, reason)

    def left(self, session: Session, run: RunId) -> Mapping[AccountKey, Mapping[str, int]]:
        """How many attempts at each stage `run` has reserved and not used, by account; accounts without any are left out."""
        found: dict[AccountKey, dict[str, int]] = {}
        for held in held_by(session, run):
            if held.left:
                stages = found.setdefault(held.key, {})
                stages[held.stage] = min(held.left, stages.get(held.stage, held.left))
        return found

    def attempts(self, session: Session, run: RunId) -> Mapping[str, int]:
        """How many attempts at each stage `run` has settled, at the site that has settled the most."""
        found: dict[str, int] = {}
        for held in held_by(session, run):
            found[held.stage] = max(held.settled, found.get(held.stage, 0))
        return found

    # --- what people do -----------------------------------------------------------------------------------------------

    def draft_ceiling(
        self, site: SiteName, population: str, proposal: Proposal, federation: Digest
    ) -> Drafted:
        """The next decision on the account of `population` at `site` for the proposal's unit, which nobody has signed; raises as `draft`."""
        key = AccountKey.of(site, population, proposal.unit)
        with reading(self._engine, f"drafting a decision on {key.words}") as session:
            return draft(session, key, proposal, federation, self._clock())

    def set_ceiling(
        self, signed: SignedCeiling, listed: Listed, first: Callable[[Session], None] | None = None
    ) -> tuple[Crossing, ...]:
        """Carry out a decision that officers have signed; `first` is the first thing that the transaction does. Raises as `decide`."""
        with writing(self._engine, f"carrying out {signed.decision.words}") as session:
            if first is not None:
                first(session)
            return decide(session, signed, listed, self._clock())

    def accounts(self) -> tuple[AccountSummary, ...]:
        """All accounts, by site and population."""
        with reading(self._engine, "listing the privacy accounts") as session:
            return summaries(session)

    def show(self, site: SiteName, population: str, unit: PrivacyUnit | None = None) -> AccountView:
        """One account in full; `unit` may be left out where the population has one account. Raises UsageError where there is none."""
        with reading(self._engine, f"reading the account of {site}/{population}") as session:
            return view(session, site, population, unit)

    def reconcile(self, statement: bytes) -> Reconciliation:
        """Compare a site's signed statement of its own accounts with the ledger. Raises Refused for one that it did not sign."""
        with reading(self._engine, "reconciling a site's accounts") as session:
            return reconcile(session, statement)

    def adopt(self, statement: bytes) -> AccountsAdopted | None:
        """After a gap in the log: charge what a site's signed statement has and the ledger lost, and so settle its accounts; returns what was
        adopted. None where no gap asks for it, or it was done already. Raises Refused as `adoption`, and then nothing was adopted."""
        with writing(self._engine, "adopting a site's accounts after a gap") as session:
            lock_adoption(session)
            read = read_statement(session, statement)
            what = adoption(session, read, sha256_hex(read.canonical), compare(session, read))
            if what is not None:
                now = self._clock()
                write_adopted(session, what, now)
                append(session, now, [what])
            return what

    # --- helpers ------------------------------------------------------------------------------------------------------

    def _voided(self, session: Session, run: RunId, reason: str) -> int:
        now = self._clock()
        releases = write_voided(session, run, reason, now)
        if releases:
            append(session, now, [ReservationGivenUp(run=run, releases=releases, reason=reason_of(reason))])
        return releases

    def _require_unreserved(self, session: Session, run: RunId) -> None:
        if lock_run(session, run) is RunState.COMPLETED:
            raise LedgerConflict(f"{run} has completed; nothing is reserved for it any more")
        if self.left(session, run):
            raise LedgerConflict(
                f"{run} holds a reservation already; it is used up or given up before another one"
            )

    def _reserved(
        self,
        session: Session,
        run: RunId,
        asked: Mapping[AccountKey, Stages],
        books: Mapping[AccountKey, Book],
    ) -> tuple[Crossing, ...]:
        now = self._clock()
        write_reserved(session, run, [(books[key], stages) for key, stages in asked.items()], now)
        after = [book.charged(charges_of(asked[key])) for key, book in books.items()]
        return record_crossings(session, after, run, now)


def _require_room(
    session: Session, asked: Mapping[AccountKey, Stages], books: Mapping[AccountKey, Book]
) -> None:
    """Raise BudgetRefused, one sentence an account, unless every account bears what it is asked to."""
    refusals = []
    for key, stages in asked.items():
        if key not in books:
            refusals.append(_no_ceiling(session, key))
            continue
        try:
            books[key].account.require(charges_of(stages))
        except BudgetRefused as refused:
            refusals.append(str(refused) + _what_fits(books[key], stages))
    if len(refusals) > _MOST_REFUSALS:
        refusals[_MOST_REFUSALS:] = [f"and {len(refusals) - _MOST_REFUSALS} more accounts refuse"]
    if refusals:
        raise BudgetRefused("\n".join(refusals))


def _no_ceiling(session: Session, key: AccountKey) -> str:
    same_rows = (key.site, key.population)
    others = [each for each in open_books(session) if (each.site, each.population) == same_rows]
    there_are = f" (it has one for {', '.join(each.unit_option for each in others)} only)" if others else ""
    return (
        f"{key.words} has no ceiling{there_are}, so nothing may be released; its privacy officer signs one, drafted with "
        f"`covenant ledger ceiling draft {key.site} {key.population} --unit {key.unit_option} --epsilon E --delta D --reason TEXT --out FILE`"
    )


def _what_fits(book: Book, stages: Stages) -> str:
    """How many attempts at training would fit, beside the other stages; empty where that is not what stands in the way."""
    training = {release: times for (stage, release), times in stages.items() if stage == TRAIN}
    others = charges_of({at: times for at, times in stages.items() if at[0] != TRAIN})
    if len(training) != 1:
        return ""
    ((release, times),) = training.items()
    try:
        fits = most_rounds(book.account, others, release, times)
    except BudgetRefused:  # about another unit: no number of rounds would do
        return ""
    return f". Of {times} rounds and retries, {fits} would fit"
