"""The desk's pages of ceilings: accounts, a draft, a decision beside what holds, and its signature."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from starlette.responses import Response

from coordinator.console.desk import ceilings
from coordinator.console.desk.looking import Looked
from coordinator.console.desk.parts import checks_table, require_typed
from coordinator.console.desk.plans import TYPED
from coordinator.console.desk.visit import DeskVisit, changed
from coordinator.console.tables import Cell, Column, Table
from coordinator.ledger.books import InForce
from coordinator.ledger.ceilings import Proposal, decided_by
from coordinator.ledger.needs import AccountKey
from coordinator.ledger.units import parse_unit, unit_text
from protos.ceilings import SignedCeiling
from strategies.dp.units import UnitKind
from strategies.errors import Refused, UsageError
from strategies.ids import site_name

_MOST: Final = 500
_FIELDS: Final = ("site", "population", "unit", "epsilon", "delta", "alerts", "overlaps", "reason")


def ceilings_page(visit: DeskVisit) -> Response:
    """The accounts, a form for a draft, and one for a decision that another officer has signed."""
    looked = visit.session.look()
    return visit.page(
        "ceilings.html",
        checks=checks_table(looked.checks),
        failed=looked.checks.failed,
        accounts=_accounts(visit),
        filled=_filled(visit) if looked.checks.hold_all else {},
    )


def look(visit: DeskVisit) -> Response:
    """A decision as it would be signed: from the form of a draft, or as it came from another officer. Nothing is signed by looking."""
    looked = visit.session.look()
    signed = _given(visit) if visit.form.get("document") else _drafted(visit, looked)
    return _decision_page(visit, ceilings.ceiling_at_desk(visit.session, looked, signed))


def sign(visit: DeskVisit) -> Response:
    """Sign what was shown; hand it in if that is enough, else give it back to be sent on."""
    session, before = visit.session, visit.shown()
    looked = session.look()
    view = ceilings.ceiling_at_desk(session, looked, _given(visit))
    if not view.checks.hold_all:
        return _decision_page(visit, view, status=409)
    if differs := changed(before, view.shown):
        return _decision_page(visit, view, status=409, differs=differs)
    require_typed(visit, view.signed.decision.digest[:TYPED])
    signed = ceilings.sign(view, session, looked)
    if not view.last:
        after = ceilings.ceiling_at_desk(session, session.look(), signed)
        return _decision_page(visit, after)
    done = session.desk.ledger.apply_ceiling(signed)
    said = signed.decision
    return visit.go(
        "/ceilings",
        f"You signed {said.words}, and the coordinator carried it out: the ceiling is {done.account['ceiling']['words']}",
    )


def _given(visit: DeskVisit) -> SignedCeiling:
    """The decision in the form. Raises Refused for what is none."""
    return SignedCeiling.from_canonical(visit.form.get("document", "").strip().encode())


def _drafted(visit: DeskVisit, looked: Looked) -> SignedCeiling:
    form = {name: visit.form.get(name, "").strip() for name in _FIELDS}
    unit = parse_unit(form["unit"])
    proposal = Proposal(
        epsilon=_number("epsilon", form["epsilon"]),
        delta=_number("delta", form["delta"]),
        unit=unit,
        reason=form["reason"],
        alert_at=[_number("an alert", each) for each in form["alerts"].replace(",", " ").split()],
        overlaps=form["overlaps"].replace(",", " ").split(),
    )
    key = AccountKey.of(site_name(form["site"]), form["population"], unit)
    return ceilings.draft(visit.session, looked, key, proposal)


def _number(what: str, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{what} is {text[:40]!r}; write a number, such as 8 or 1e-5") from error


def _filled(visit: DeskVisit) -> Mapping[str, str]:
    """What the form of a draft begins with: what holds of the account that a link names, by the log."""
    query = visit.query
    none = dict.fromkeys(_FIELDS, "")
    if "site" not in query:
        return none
    unit = query.get("unit", "")
    kind, _, column = unit.partition(":")
    if kind not in set(UnitKind):
        raise UsageError(f"{unit[:40]!r} is no unit of an account; open it from the list")
    key = AccountKey(
        site=site_name(query["site"]),
        population=query.get("population", ""),
        kind=UnitKind(kind),
        column=column or None,
    )
    found = ceilings.in_force(visit.session, key)
    told = {**none, "site": key.site, "population": key.population, "unit": unit}
    if found is None:
        return told
    return {
        **told,
        "unit": unit_text(found.ceiling.unit),
        "epsilon": f"{found.ceiling.epsilon!r}",
        "delta": f"{found.ceiling.delta!r}",
        "alerts": ", ".join(f"{each!r}" for each in found.alert_at),
        "overlaps": ", ".join(found.overlaps),
    }


def _accounts(visit: DeskVisit) -> Table:
    try:
        found = list(islice(visit.session.desk.ledger.accounts(), _MOST))
    except Refused:
        found = []
    return Table(
        name="accounts",
        caption="Accounts",
        columns=[Column("Account"), Column("Ceiling"), Column("Spent, with reservations")],
        rows=[
            (
                Cell(f"{each['site']}/{each['population']}", href=_link(visit, each)),
                Cell(each["ceiling"]["words"]),
                Cell(each["spent"]["words"]),
            )
            for each in found
        ],
        empty="There is no account yet that you may see. The first ceiling opens one.",
        cut="`covenant ledger list` has them all" if len(found) == _MOST else "",
    )


def _link(visit: DeskVisit, account: Mapping[str, Any]) -> str:
    unit = account["unit"]
    text = unit["kind"] if unit["column"] is None else f"{unit['kind']}:{unit['column']}"
    query = urlencode({"site": account["site"], "population": account["population"], "unit": text})
    return f"{visit.session.home}/ceilings?{query}#draft"


def _decision_page(
    visit: DeskVisit, view: ceilings.CeilingAtDesk, *, status: int = 200, differs: Sequence[str] = ()
) -> Response:
    decision = view.signed.decision
    told = view.told
    return visit.page(
        "ceiling.html",
        status=status,
        title=decision.words,
        checks=checks_table(view.checks),
        failed=view.checks.failed,
        differs=differs,
        view=view,
        reason=decision.reason,
        difference=_difference(view),
        spent=None if told is None else told.account.guarantee().words,
        short=told is not None and told.short,
        document=view.signed.canonical.decode(),
        canonical=decision.canonical.decode(),
        digest=decision.digest,
        shown=json.dumps(view.shown),
        typed_digits=decision.digest[:TYPED],
        signed_by=", ".join(each.officer for each in view.signed.statements),
    )


def _difference(view: ceilings.CeilingAtDesk) -> Table:
    """What holds, and what would hold."""
    new = _terms(decided_by(view.signed.decision))
    old = {} if view.before is None else _terms(view.before)
    return Table(
        name="difference",
        caption="What changes",
        columns=[Column("What"), Column("By the log"), Column("By this decision"), Column("Changed")],
        rows=[
            (
                Cell(what),
                Cell(old.get(what, "none")),
                Cell(value),
                Cell("changed", tone="warn") if old.get(what) != value else Cell("as before", tone="quiet"),
            )
            for what, value in new.items()
        ],
    )


def _terms(terms: InForce) -> Mapping[str, str]:
    return {
        "Ceiling": terms.ceiling.words,
        "Epsilon": f"{terms.ceiling.epsilon!r}",
        "Delta": f"{terms.ceiling.delta!r}",
        "Unit": terms.ceiling.unit.words,
        "Order of the filter": str(terms.ceiling.order),
        "Alerts at": ", ".join(f"{each!r}" for each in terms.alert_at) or "none",
        "The same persons may be at": ", ".join(terms.overlaps) or "no other site",
    }


ROUTES: Final = (
    ("GET", "/ceilings", ceilings_page),
    ("POST", "/ceilings/look", look),
    ("POST", "/ceilings/sign", sign),
)
