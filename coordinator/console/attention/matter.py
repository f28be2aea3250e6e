"""One thing that needs somebody."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Final

from coordinator.console.reads.approved import Waiting
from coordinator.console.visit import Visit
from protos.membership import Role, Trusted

FEW: Final = 5
"""Matters of one kind that are told one by one; beyond, the page that has all."""
LATELY: Final = timedelta(days=7)


class Urgency(IntEnum):
    """How soon somebody should look: the order in which matters are shown."""

    NOW = 0
    SOON = 1
    TO_KNOW = 2

    @property
    def words(self) -> str:
        """For people."""
        return {Urgency.NOW: "now", Urgency.SOON: "soon", Urgency.TO_KNOW: "to know"}[self]


@dataclass(frozen=True, slots=True, kw_only=True)
class Matter:
    """`what` is the case since `at`, what to do is `todo`, and `path` is where: a page of the console, or with `desk` one of the officer's own desk."""

    urgency: Urgency
    what: str
    todo: str
    path: str
    label: str
    at: datetime | None = None
    desk: bool = False

    @property
    def order(self) -> tuple[int, float]:
        """The most urgent first, and of these the latest."""
        return self.urgency, -(self.at.timestamp() if self.at is not None else 0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """Who looks, and what several parts look at: read once a page."""

    visit: Visit
    now: datetime
    trusted: Trusted
    plans: tuple[Waiting, ...] = ()

    @property
    def name(self) -> str:
        """The officer's."""
        return self.visit.who.name

    def is_any(self, *roles: Role) -> bool:
        """Whether the officer has one of `roles`."""
        officer = self.visit.who.officer
        return officer is not None and bool(set(roles) & set(officer.roles))


Part = Callable[[Looking], Iterable[Matter]]


def cut(text: str, most: int = 160) -> str:
    """The beginning of what others wrote: the page that is linked has all of it."""
    line = " ".join(text.split())
    return line if len(line) <= most else f"{line[: most - 4]} ..."
