"""Accounts, releases and runs for the tests of the privacy ledger: noise is chosen so that a stated number of releases fits a ceiling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine, func, select

from coordinator.db import reading, writing
from coordinator.db.ledger_schema import LedgerAccount, LedgerAlert, LedgerCeiling, LedgerEntry, LedgerRelease
from coordinator.ledger import Ledger, Need, Planned
from coordinator.ledger.ceilings import Proposal
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.ids import RunId, SiteName
from tests.ceilings_for_tests import ONE, Decision, set_ceiling
from tests.coordinator.conftest import submitted

NORTH, SOUTH, WEST = SiteName("north"), SiteName("south"), SiteName("west")
LOANS = "retail-loans"
CUSTOMER = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4)
RECORD = PrivacyUnit(kind=UnitKind.RECORD)
CEILING = Ceiling.fixed(epsilon=8.0, delta=1e-6, unit=CUSTOMER)
ON_SQLITE = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
"""For rules that the database has no part in: one kind of it will do."""
TABLES = (LedgerAccount, LedgerCeiling, LedgerRelease, LedgerEntry, LedgerAlert)


def filling(share: float, ceiling: Ceiling = CEILING, **facts: Any) -> Release:
    """A release of which one takes `share` of the ceiling's budget, or a rounding error less: ten tenths fit."""
    variance = (1.0 + 1e-9) * ceiling.order / (2.0 * ceiling.renyi_budget * share)
    release = Release(
        what="gradient sum",
        mechanism=Mechanism.GAUSSIAN,
        unit=ceiling.unit,
        sampling_rate=1.0,
        steps=1,
        sensitivity=1.0,
        variance=variance,
        shares=1,
        dimension=10,
    )
    return replace(release, **facts)


def shared(share: float, sites: int = 3) -> Release:
    """The same, as one sum over several sites, each of which adds a share of the noise."""
    one = filling(share)
    scale = 1e4  # grid steps in the sensitivity: shares are then wide
    return replace(
        one,
        mechanism=Mechanism.DISTRIBUTED,
        sensitivity=scale,
        variance=one.variance * scale * scale,
        shares=sites,
    )


MOMENTS = filling(0.05, what="scaling moments")
GRADIENT = filling(0.1)
COUNTS = filling(0.05, what="evaluation counts")
BARE_MOMENTS = filling(0.05, what="scaling moments", mechanism=Mechanism.NONE, variance=0.0)


def decision(**changes: Any) -> Decision:
    facts: dict[str, Any] = {
        "epsilon": 8.0,
        "delta": 1e-6,
        "unit": CUSTOMER,
        "reason": "as the board decided",
        **changes,
    }
    officers = facts.pop("officers", ONE)
    return Decision(proposal=Proposal(**facts), officers=officers)


def with_ceiling(ledger: Ledger, *sites: SiteName, **changes: Any) -> None:
    """Set the ceiling of the loans of `sites`, north if none is named."""
    for site in sites or (NORTH,):
        set_ceiling(ledger, site, LOANS, decision(**changes))


def need(
    site: SiteName = NORTH, *planned: Planned, unit: PrivacyUnit = CUSTOMER, population: str = LOANS
) -> Need:
    return Need(site=site, population=population, unit=unit, planned=planned or (rounds(3),))


def rounds(times: int, release: Release = GRADIENT) -> Planned:
    return Planned(stage="train", release=release, times=times)


def numbered(number: int) -> RunId:
    return RunId(f"run-{number:016x}")


def launched(engine: Engine, *numbers: int) -> list[RunId]:
    """Runs that were submitted."""
    runs = [numbered(number) for number in numbers]
    with writing(engine, "submitting") as session:
        session.add_all([submitted(run) for run in runs])
    return runs


def settle(
    ledger: Ledger, engine: Engine, run: RunId, number: int, attempt: int = 1, *sites: SiteName
) -> None:
    with writing(engine, "settling") as session:
        ledger.settle(session, run, "train", number, attempt, sites or (NORTH,))


def close(ledger: Ledger, engine: Engine, run: RunId) -> int:
    with writing(engine, "closing") as session:
        return ledger.close_run(session, run, "the run completed without it")


def everything(engine: Engine) -> dict[str, list[str]]:
    """All rows of the ledger, to show that nothing has changed."""
    with reading(engine, "looking") as session:
        return {
            table.__tablename__: sorted(map(repr, session.execute(select(table.__table__)).all()))
            for table in TABLES
        }


def entries(engine: Engine, outcome: str) -> int:
    """How many releases have `outcome`."""
    with reading(engine, "counting") as session:
        return int(
            session.scalar(select(func.sum(LedgerEntry.times)).where(LedgerEntry.outcome == outcome)) or 0
        )
