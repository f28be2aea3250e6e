"""Privacy accounts: what each population at each site may lose, has lost, and has promised to lose."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from coordinator.console.charts import Bound, Chart, Series
from coordinator.console.reads import accounts
from coordinator.console.reads.accounts import AccountRow
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.visit import Visit
from coordinator.ledger.needs import AccountKey
from strategies.dp.units import Guarantee

LIST: Final = "covenant.governance.v1.Ledger/ListAccounts"
_MOST_IN_FILE: Final = 2000
_LONGEST_SEARCH: Final = 63
_ALL: Final = 1.0
_NEARLY: Final = 0.8
_COLUMNS: Final = (
    Column("Account"),
    Column("Unit"),
    Column("Ceiling", number=True),
    Column("Delta", number=True),
    Column("Opened", number=True),
    Column("Spent, with reservations", number=True),
    Column("Reserved", number=True),
    Column("Left", number=True),
    Column("Alerts reached"),
)


def show(visit: Visit) -> Response:
    """All accounts, a page at a time."""
    text, alerts = visit.query.get("q", "").strip()[:_LONGEST_SEARCH], "alerts" in visit.query
    if visit.query.get("format") == "csv":
        every = accounts.page(
            visit.centre.engine,
            after=visit.query.get("after"),
            text=text,
            alerts=alerts,
            limit=_MOST_IN_FILE,
        )
        return visit.table(_table(every.rows, older=every.older and visit.with_query(after=every.older)))
    found = accounts.page(
        visit.centre.engine,
        after=visit.query.get("after"),
        before=visit.query.get("before"),
        text=text,
        alerts=alerts,
    )
    table = _table(
        found.rows,
        newer=found.newer and visit.with_query(before=found.newer, after=None),
        older=found.older and visit.with_query(after=found.older, before=None),
        chosen=bool(text or alerts),
    )
    return visit.page(
        "budgets.html",
        accounts=table,
        csv=visit.with_query(format="csv", after=None, before=None),
        shares=_shares(found.rows),
        text=text,
        alerts=alerts,
    )


def path_of(key: AccountKey) -> str:
    """Where an account's own page is."""
    return f"/budgets/{quote(key.site, safe='')}/{quote(key.population, safe='')}?unit={quote(key.unit_option, safe='')}"


def epsilon(guarantee: Guarantee) -> Cell:
    """An epsilon among others of the same column, whose heading or neighbour says its delta and unit."""
    if not math.isfinite(guarantee.epsilon):
        return Cell("unbounded", tone="bad")
    return Cell(guarantee.epsilon, text=f"{guarantee.epsilon:.3f}")


def share(fraction: float) -> Cell:
    """A part of a filter's budget."""
    if not math.isfinite(fraction):
        return Cell("more than all", tone="bad")
    return Cell(round(fraction, 6), text=f"{fraction:.1%}")


def left(fraction: float) -> Cell:
    """What of a filter's budget is left, where `fraction` is charged."""
    rest = max(0.0, 1.0 - fraction)
    return Cell(round(rest, 6), text=f"{rest:.1%}", tone=_tone(fraction))


def _tone(fraction: float) -> Tone:
    if not fraction < _ALL - 1e-3:  # phrased so that NaN warns
        return "bad"
    return "warn" if fraction >= _NEARLY else "good"


def labels(keys: Sequence[AccountKey]) -> Sequence[str]:
    """Short words for accounts, with units only where there are several of one population."""
    names = Counter(each.name for each in keys)
    return [each.name if names[each.name] == 1 else each.words for each in keys]


def whole(fractions: Iterable[float]) -> float | None:
    """How far an axis of per cents goes: to the whole ceiling, unless something is above it."""
    return 100.0 if all(each <= 1.0 for each in fractions) else None


def _table(
    rows: Sequence[AccountRow], *, newer: str | None = None, older: str | None = None, chosen: bool = False
) -> Table:
    empty = (
        "No account is like that; take the filter away to see all."
        if chosen
        else "No account has a ceiling yet, so nothing private can be released. A privacy officer drafts the first one with `covenant ledger ceiling draft SITE"
        " POPULATION --epsilon E --delta D --unit UNIT --reason TEXT --out FILE`."
    )
    return Table(
        name="budgets",
        caption="Accounts",
        columns=_COLUMNS,
        rows=[_row(each) for each in rows],
        empty=empty,
        newer=newer,
        older=older,
        file_rows=_MOST_IN_FILE,
    )


def _row(each: AccountRow) -> Sequence[Cell]:
    ceiling = each.book.in_force.ceiling
    highest = max(each.crossed, default=0.0)
    reached = ", ".join(f"{at:.0%}" for at in each.crossed)
    return (
        Cell(each.key.name, href=path_of(each.key)),
        Cell(ceiling.unit.words),
        Cell(ceiling.epsilon, text=f"{ceiling.epsilon:g}"),
        Cell(ceiling.delta, text=f"{ceiling.delta:g}"),
        epsilon(each.opened),
        epsilon(each.charged),
        share(max(0.0, each.fraction - each.opened_fraction)),
        left(each.fraction),
        Cell(reached, tone="bad" if highest >= _NEARLY else "warn")
        if reached
        else Cell("none", tone="quiet"),
    )


def _shares(rows: Sequence[AccountRow]) -> Chart:
    """The accounts of a page as parts of their filters' budgets, which add up; epsilons do not."""

    def percent(fraction: float) -> float | None:
        return round(100.0 * fraction, 3) if math.isfinite(fraction) else None

    names = labels([each.key for each in rows])
    opened = [percent(each.opened_fraction) for each in rows]
    reserved = [percent(max(0.0, each.fraction - each.opened_fraction)) for each in rows]
    return Chart(
        name="shares",
        title="How much of each ceiling is used",
        x="account",
        y="% of the filter's budget",
        axis="category",
        y_from=0.0,
        y_to=whole([each.fraction for each in rows]),
        series=[
            Series(name="opened", points=list(zip(names, opened, strict=True)), kind="bar", stack="spent"),
            Series(
                name="reserved", points=list(zip(names, reserved, strict=True)), kind="bar", stack="spent"
            ),
        ],
        bounds=[Bound(name="ceiling", at=100.0)],
        empty="Nothing to draw.",
    )


ROUTES: Final = (Route("/budgets", show, LIST),)
