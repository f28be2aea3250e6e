"""Accounts of a site for tests: rules, releases of which a stated number fits, and processes that charge, which import little."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from datetime import UTC, datetime
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

from client.accounts.book import AccountBook, Occasion
from protos.site_data import AccountRule
from strategies.dp.budget import BudgetRefused
from strategies.dp.events import Mechanism, Release
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.encoding import sha256_hex
from strategies.ids import RunId, site_name

WEST = site_name("west")
LOANS = "loans"
RUN = RunId("run-0123456789abcdef")
RECORD = PrivacyUnit(kind=UnitKind.RECORD)
PATIENCE_S = 60.0


def now() -> datetime:
    return datetime(2026, 11, 23, 12, 0, tzinfo=UTC)


def rule(**facts: Any) -> AccountRule:
    return AccountRule.model_validate({"unit": {"kind": "record"}, "epsilon": 8.0, "delta": 1e-6, **facts})


def filling(share: float, given: AccountRule | None = None, **facts: Any) -> Release:
    """A release of which one takes `share` of the ceiling of `given`, or a rounding error less: ten tenths fit."""
    ceiling: Ceiling = (given or rule()).ceiling
    release = Release(
        what="gradient sum",
        mechanism=Mechanism.GAUSSIAN,
        unit=ceiling.unit,
        sampling_rate=1.0,
        steps=1,
        sensitivity=1.0,
        variance=(1.0 + 1e-9) * ceiling.order / (2.0 * ceiling.renyi_budget * share),
        shares=1,
        dimension=10,
    )
    return replace(release, **facts)


def occasion(number: int = 1, **facts: Any) -> Occasion:
    """An attempt at training that no other number has."""
    known: dict[str, Any] = {
        "federation": "demo", "plan": sha256_hex(b"plan"), "run": RUN, "stage": "train", "round": number, "attempt": 1,
    }  # fmt: skip
    return Occasion(**{**known, **facts})


def book_at(path: Path) -> AccountBook:
    return AccountBook.open(path, WEST, clock=now)


# --- what other processes do ------------------------------------------------------------------------------------------


def charge_often(
    path: Path, process: int, times: int, share: float, start: Barrier, told: Queue[int]
) -> None:
    """Charge a release up to `times` times once all processes have begun; tell how often it was accepted."""
    book, release, accepted = book_at(path), filling(share), 0
    start.wait(PATIENCE_S)
    for number in range(times):
        try:
            book.charge(LOANS, rule(), release, occasion(number + 1, federation=f"federation-{process}"))
        except BudgetRefused:
            continue
        accepted += 1
    told.put(accepted)
    book.close()


def charge_and_die(path: Path) -> None:
    """Killed when the charge is made and before anything is answered."""
    book_at(path).charge(LOANS, rule(), filling(0.1), occasion())
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_charging(path: Path) -> None:
    """Killed with the charge written and not committed."""
    book = book_at(path)
    with book.journal.turn() as turn:
        turn.append("release", {"release": filling(0.1).facts()})
        os.kill(os.getpid(), signal.SIGKILL)
