"""The place's monitoring account: what the windows of one period may cost a person with one decision in each of them, and what they have.

1. Facts are kept, not a balance: each charge is the release itself (`strategies.dp.events`). A charge belongs to the period in which it is made; periods
   are multiples of their duration since 1970 in UTC.
2. The filter's order is fixed by the first charge of a period. A monitor that replaces another within a period inherits its charges and its order; a
   charge counts until its own monitor's period is over as well, so that a monitor of a shorter one forgets nothing.
3. Each window is charged once, before any noise is drawn. One that the limit does not admit is marked as unspent, and nothing of it leaves.
4. A decision is counted by one version, so what all versions tell of one window is one release.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final, Literal

from coordinator.deploy.scoring.windows.store import Turn
from protos.windows import Monitor
from strategies.dp.budget import Account, BudgetRefused, most_rounds
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling
from strategies.dp.noise import total_variation
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import canonical_json

Kind = Literal["decisions", "outcomes"]
_UNIT: Final = PrivacyUnit(kind=UnitKind.RECORD)


def release_of(monitor: Monitor, kind: Kind, *, cells_of_one: int, dimension: int) -> Release:
    """Counts in which one decision is in `cells_of_one` of `dimension` cells, with the monitor's noise, all of it the place's own."""
    # Adding or removing one decision moves the counts by exactly this, L2; rounded up.
    sensitivity = math.nextafter(math.sqrt(cells_of_one), math.inf)
    variance = (monitor.privacy.noise * sensitivity) ** 2
    return Release(
        what=f"a window's {kind}",
        mechanism=Mechanism.LOCAL,
        unit=_UNIT,
        sampling_rate=1.0,
        steps=1,
        sensitivity=sensitivity,
        variance=variance,
        shares=1,
        dimension=dimension,
        total_variation=total_variation(variance, dimension),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Charged:
    """A charge that is on disk once its turn has ended; without a `release` the period had nothing left, and nothing leaves. `spent` is the period's epsilon."""

    id: int
    release: Release | None
    spent: float


def charge(
    turn: Turn,
    monitor: Monitor,
    number: int,
    release: Release,
    kind: Kind,
    *,
    now: float,
    used: Collection[str] = (),
) -> Charged:
    """Charge a release of what the window with that `number` tells, and mark the decisions `used` in it."""
    account = account_of(turn, monitor, now)
    try:
        account.require({release: 1})
    except BudgetRefused:
        # Decisions are done with; outcomes may come again.
        made = (
            _add(turn, monitor, number, kind, now, account.ceiling.order, None) if kind == "decisions" else 0
        )
        return Charged(id=made, release=None, spent=account.guarantee().epsilon)
    made = _add(turn, monitor, number, kind, now, account.ceiling.order, release)
    turn.each("INSERT INTO used VALUES (?, ?)", ((each, made) for each in used))
    return Charged(id=made, release=release, spent=account.charged({release: 1}).guarantee().epsilon)


def account_of(turn: Turn, monitor: Monitor, now: float) -> Account:
    """The account of the period that `now`, in seconds since 1970, is in."""
    periods = {
        str(digest): _monitor(document).privacy.period
        for digest, document in turn.rows("SELECT digest, document FROM monitors")
    }
    charges = turn.rows(
        "SELECT filter_order, release, at, monitor FROM charges WHERE release IS NOT NULL ORDER BY id"
    )
    rows = [
        (order, facts)
        for order, facts, at, digest in charges
        if any(
            math.floor(float(str(at)) / period) == math.floor(now / period)
            for period in (monitor.privacy.period, periods[str(digest)])
        )
    ]
    releases = [Release.from_facts(json.loads(str(facts))) for _, facts in rows]
    limit = monitor.privacy.limit
    ceiling = Ceiling.fixed(
        epsilon=limit.epsilon,
        delta=limit.delta,
        unit=_UNIT,
        order=int(str(rows[0][0])) if rows else None,
    )
    return Account(name=f"{monitor.model}'s windows", ceiling=ceiling, charges=Counter(releases))


def windows_that_fit(monitor: Monitor) -> tuple[int, int]:
    """How many windows an empty account bears, and how many a period has. Raises UsageError for a limit that leaves nothing to spend."""
    limit = monitor.privacy.limit
    ceiling = Ceiling.fixed(epsilon=limit.epsilon, delta=limit.delta, unit=_UNIT)
    return more_that_fit(monitor, Account(name=monitor.model, ceiling=ceiling)), _windows_of_a_period(monitor)


def more_that_fit(monitor: Monitor, account: Account) -> int:
    """How many windows an account still bears, of those that a period has."""
    one = release_of(monitor, "decisions", cells_of_one=1, dimension=1)
    return most_rounds(account, {}, one, _windows_of_a_period(monitor))


def _windows_of_a_period(monitor: Monitor) -> int:
    return math.ceil(monitor.privacy.period / monitor.window)


def _add(
    turn: Turn, monitor: Monitor, number: int, kind: Kind, now: float, order: int, release: Release | None
) -> int:
    return turn.run(
        "INSERT INTO charges (at, monitor, number, kind, filter_order, release) VALUES (?, ?, ?, ?, ?, ?)",
        now,
        monitor.digest,
        number,
        kind,
        order,
        None if release is None else canonical_json(release.facts()).decode(),
    )


def _monitor(document: object) -> Monitor:
    assert isinstance(document, bytes)  # noqa: S101  (the table is STRICT)
    return Monitor.from_canonical(document)
