"""Decisions of privacy officers on an account: its first ceiling, which opens it, and every later one.

1. The order of the Rényi filter is fixed with the first ceiling. Choosing it again would be choosing it by results.
2. One officer may open an account or tighten it. Whatever loosens it in any respect takes two different ones.
3. A ceiling that does not hold what is charged already is refused, reservations included.
4. A decision is drafted from what holds, signed by officers, and carried out if nothing was decided in between. Its signatures are in the log.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy import insert
from sqlalchemy.dialects import postgresql
from sqlalchemy.orm import Session

from coordinator.db.ledger_schema import LedgerAccount, LedgerCeiling
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from coordinator.ledger.alerts import Crossing, record_crossings
from coordinator.ledger.books import Book, InForce, LedgerConflict, count_up, open_books
from coordinator.ledger.needs import AccountKey
from protos.ceilings import CeilingDecision, DecidedCeiling, SignedCeiling
from protos.documents import make_document
from protos.log_budgets import QUORUM
from protos.log_entries import CeilingSet, LoggedDocument, What
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, site_name

_LONGEST_NAME: Final = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A ceiling as somebody proposes it, for `reason`; `alert_at` and `overlaps` stay as they were where they are None.

    Without an `order`, the first ceiling takes the one that suits it, and later ones keep it.
    """

    epsilon: float
    delta: float
    unit: PrivacyUnit
    reason: str
    alert_at: Sequence[float] | None = None
    overlaps: Sequence[str] | None = None
    order: int | None = None

    def ceiling(self, order: int | None) -> Ceiling:
        """The ceiling at `order`. Raises UsageError for NaN and for what is out of bounds."""
        return Ceiling.fixed(epsilon=self.epsilon, delta=self.delta, unit=self.unit, order=order)


@dataclass(frozen=True, slots=True, kw_only=True)
class Drafted:
    """A decision that nobody has signed, and how many officers must; `loosens` says why more than one."""

    decision: CeilingDecision
    officers: int
    loosens: str


def draft(
    session: Session, key: AccountKey, proposal: Proposal, federation: Digest, now: datetime
) -> Drafted:
    """The next decision on the account `key`, as `proposal` would have it. Raises UsageError for values out of bounds and another order, and
    BudgetRefused for a ceiling below what is charged already."""
    _check_key(key)
    book = open_books(session, [key]).get(key)
    before = None if book is None else book.in_force
    if before is not None and proposal.order not in {None, before.ceiling.order}:
        raise UsageError(
            f"{key.words}: the filter's order is {before.ceiling.order} since the first ceiling and never changes; leave --order out"
        )
    ceiling = proposal.ceiling(proposal.order if before is None else before.ceiling.order)
    decision = make_document(
        CeilingDecision,
        f"the decision on {key.words}",
        federation=federation,
        site=key.site,
        population=key.population,
        number=1 if before is None else before.seq + 1,
        ceiling=ceiling.facts(),
        alert_at=_kept(proposal.alert_at, () if before is None else before.alert_at),
        overlaps=_kept(proposal.overlaps, () if before is None else before.overlaps),
        reason=proposal.reason,
        at=now,
    )
    if book is None or before is None:
        return Drafted(decision=decision, officers=1, loosens="")
    changed = _changed(book, decision)
    changed.account.require_held()
    loosens = loosened(before, changed.in_force)
    return Drafted(decision=decision, officers=QUORUM if loosens else 1, loosens=loosens)


def _kept(proposed: Sequence[object] | None, before: tuple[object, ...]) -> tuple[object, ...]:
    return before if proposed is None else tuple(sorted(set(proposed), key=str))


def decide(session: Session, signed: SignedCeiling, listed: Listed, now: datetime) -> tuple[Crossing, ...]:
    """Carry out a decision that officers on the list `listed` have signed; returns the alerts that it reaches at once.

    Raises Refused for signatures that do not count, without a second officer where one is needed, and where something was decided since it
    was drafted; BudgetRefused for a ceiling below what is charged already. The ledger is then as it was.
    """
    crossed = carry_out(session, signed.require(listed.trusted, now), now)
    append(session, now, _logged(session, signed, listed))
    return crossed


def carry_out(session: Session, decided: DecidedCeiling, now: datetime) -> tuple[Crossing, ...]:
    """`decide` without telling the log, which has the entry already when it is replayed."""
    decision = decided.decision
    key = AccountKey.of(decision.site, decision.population, decision.terms.unit)
    book = open_books(session, [key], lock=True).get(key)
    changed = _opened(session, key, decision, now) if book is None else _decided(session, book, decided)
    session.execute(insert(LedgerCeiling), [_row(changed, decided.officers, decision.reason, now)])
    return record_crossings(session, [changed], None, now)


def _logged(session: Session, signed: SignedCeiling, listed: Listed) -> Iterator[What]:
    """Whoever reads the log judges the signatures by the list that it has."""
    yield from members_signed(session, listed)
    yield CeilingSet(decision=LoggedDocument.of(signed))


def _opened(session: Session, key: AccountKey, decision: CeilingDecision, now: datetime) -> Book:
    _check_key(key)
    _require_next(key, decision, 1)
    account = _make_account(session, key, decision.terms.order, now)
    if account is None:
        raise _conflict(key)
    return Book(id=account, key=key, version=0, in_force=decided_by(decision), charges={})


def _decided(session: Session, book: Book, decided: DecidedCeiling) -> Book:
    _require_next(book.key, decided.decision, book.in_force.seq + 1)
    changed = _changed(book, decided.decision)
    if changed.in_force.ceiling.order != book.in_force.ceiling.order:
        raise Refused(
            f"{book.key.words}: the filter's order is {book.in_force.ceiling.order} since the first ceiling and never changes"
        )
    changed.account.require_held()
    _require_quorum(book, changed, decided.officers)
    if not count_up(session, [book]):
        raise _conflict(book.key)
    return changed


def _conflict(key: AccountKey) -> LedgerConflict:
    return LedgerConflict(
        f"{key.words} was decided about at this moment by somebody else; look, then draft another decision"
    )


def _require_next(key: AccountKey, decision: CeilingDecision, due: int) -> None:
    if decision.number != due:
        raise Refused(
            f"{key.words}: this is decision {decision.number}, and decision {due} is next: it was carried out before, or another one was in"
            " between. Look with `covenant ledger show`, then draft another with `covenant ledger ceiling draft`"
        )


def decided_by(decision: CeilingDecision) -> InForce:
    """What holds once a decision is carried out."""
    return InForce(
        seq=decision.number,
        ceiling=decision.terms,
        alert_at=decision.alert_at,
        overlaps=tuple(decision.overlaps),
    )


def _changed(book: Book, decision: CeilingDecision) -> Book:
    return replace(book, in_force=decided_by(decision))


def _require_quorum(book: Book, changed: Book, officers: tuple[str, ...]) -> None:
    """Raise Refused for a loosened account that fewer than two officers decided."""
    if len(officers) >= QUORUM or not (looser := loosened(book.in_force, changed.in_force)):
        return
    raise Refused(
        f"{book.key.words}: {looser} is for {QUORUM} officers, and {officers[0]} is one; another must sign it too. "
        f"The ceiling is {book.in_force.ceiling.words}"
    )


def loosened(old: InForce, new: InForce) -> str:
    """In which respect `new` allows more, or tells less, than `old`; empty if in none."""
    if looser := new.ceiling.loosens(old.ceiling):
        return looser
    if set(old.alert_at) - set(new.alert_at):
        return "taking an alert away"
    if set(old.overlaps) - set(new.overlaps):
        return "taking an overlap away"
    return ""


def _make_account(session: Session, key: AccountKey, order: int, now: datetime) -> int | None:
    """Make the account and return its id; None if somebody else has just made it."""
    _check_key(key)
    site, population, kind, column = key.stored
    row = {
        "site": site,
        "population": population,
        "unit_kind": kind,
        "unit_column": column,
        "renyi_order": order,
        "version": 0,
        "opened_at": now,
    }
    if session.get_bind().dialect.name == "postgresql":
        made = postgresql.insert(LedgerAccount).values(**row).on_conflict_do_nothing()
        return session.scalar(made.returning(LedgerAccount.id))
    return session.scalar(insert(LedgerAccount).values(**row).returning(LedgerAccount.id))  # one writer


def _row(changed: Book, officers: tuple[str, ...], reason: str, now: datetime) -> dict[str, object]:
    ceiling = changed.in_force.ceiling
    return {
        "account_id": changed.id,
        "seq": changed.in_force.seq,
        "epsilon": ceiling.epsilon,
        "delta": ceiling.delta,
        "max_rows": ceiling.unit.max_rows,
        "max_sites": ceiling.unit.max_sites,
        "alert_at": list(changed.in_force.alert_at),
        "overlaps": list(changed.in_force.overlaps),
        "officers": list(officers),
        "reason": reason,
        "set_at": now,
    }


def _check_key(key: AccountKey) -> None:
    """Raise UsageError unless the account can be named."""
    site_name(key.site)
    if key.column is not None:
        _text(key.column, "the customers' column", _LONGEST_NAME)


def _text(text: str, what: str, longest: int) -> str:
    if not text or len(text) > longest or not text.isprintable() or text != text.strip():
        raise UsageError(
            f"{what} is {text[:longest]!r}; use 1 to {longest} printable characters without spaces around them"
        )
    return text
