"""Which pages somebody is offered: those that their roles let them read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from coordinator.console.texts import _

if TYPE_CHECKING:
    from coordinator.console.visit import Visit


@dataclass(frozen=True, slots=True)
class Entry:
    """A page of the menu, and the API method whose readers it is for."""

    path: str
    label: str
    needs: str


ENTRIES: Final[tuple[Entry, ...]] = (
    Entry("/", _("Overview"), "covenant.control.v1.Runs/ListRuns"),
    Entry("/budgets", _("Budgets"), "covenant.governance.v1.Ledger/ListAccounts"),
    Entry("/plans", _("Plans"), "covenant.governance.v1.Plans/ListPlans"),
    Entry("/runs", _("Runs"), "covenant.control.v1.Runs/ListRuns"),
    Entry("/sites", _("Sites"), "covenant.governance.v1.Members/GetMembers"),
    Entry("/models", _("Models"), "covenant.control.v1.Models/ListModels"),
    Entry("/deployments", _("Deployments"), "covenant.deploy.v1.Deployments/ListTargets"),
    Entry("/loop", _("Loop"), "covenant.loop.v1.Loop/GetStatus"),
    Entry("/log", _("Log"), "covenant.governance.v1.Log/ListEntries"),
)


def entries_for(visit: Visit) -> Sequence[Entry]:
    """The menu of whoever asks; nobody's is empty."""
    return [each for each in ENTRIES if visit.may(each.needs)]
