"""How an invariant is written and registered, and what it may look at."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, TypeVar

from coordinator.runs import RunView
from simulation.campaign.stage import Stage
from simulation.world.federation import Federation
from simulation.world.world import COORDINATOR, SERVER
from strategies.ids import SiteName


class Violation(BaseException):
    """An invariant does not hold. No Exception, because nothing in the code under test may catch it."""

    def __init__(self, invariant: str, sentence: str) -> None:
        super().__init__(f"{invariant}: {sentence}")
        self.invariant, self.sentence = invariant, sentence


@dataclass(frozen=True)
class Scene:
    """What an invariant may look at: the federation from outside, and what an honest site would compute."""

    federation: Federation
    stage: Stage

    def rows(self, query: str) -> list[sqlite3.Row]:
        """What is committed in the coordinator's database, read past the code under test."""
        return self._connection.execute(query).fetchall()

    @cached_property
    def _connection(self) -> sqlite3.Connection:
        """One for all queries of a seed: opening the file and reading its schema costs more than they do."""
        path = self.federation.layout.home / "covenant.db"
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        connection.row_factory = sqlite3.Row
        return connection

    def close(self) -> None:
        """Look no longer."""
        if "_connection" in self.__dict__:
            self._connection.close()


class Invariant:
    """Something that must hold after every step. A campaign makes one of each class for each seed."""

    name: ClassVar[str]
    part: ClassVar[str]
    """The part of the product that it belongs to."""
    says: ClassVar[str]
    """What must hold, in a sentence."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene

    def step(self, party: str, what: str) -> None:
        """Look after a step of a party."""

    def committed(self) -> None:
        """Look after the coordinator has committed something."""

    def frame(self, site: SiteName, direction: str, frame: bytes) -> None:
        """Look at a request that reaches a site, a reply that leaves it, or one that arrives ("arrival") at the coordinator."""

    def ended(self, run: RunView) -> None:
        """Look when all is over."""

    def require(self, holds: object, sentence: str) -> None:
        """Raise `Violation` with the sentence unless it holds."""
        if not holds:
            raise Violation(self.name, sentence)

    def after_step(self, party: str, what: str) -> None:
        """Called by the campaign; sorts out which steps are commits of the coordinator's."""
        self.step(party, what)
        if what == "has committed" and party in {SERVER, COORDINATOR}:
            self.committed()


_REGISTERED: dict[str, type[Invariant]] = {}
I = TypeVar("I", bound=type[Invariant])  # noqa: E741 (a type variable)


def register(invariant: I) -> I:
    """Class decorator: have campaigns check it."""
    _REGISTERED[invariant.name] = invariant
    return invariant


def registered() -> tuple[type[Invariant], ...]:
    """All invariants, by name."""
    return tuple(_REGISTERED[name] for name in sorted(_REGISTERED))
