"""What everybody in a simulation shares: the clock, the trace, and the places where faults strike and invariants look."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from simulation.world.clock import VirtualClock
from strategies.ids import SiteName

LATENCY_S = 0.005
SERVER = "server"
COORDINATOR = "coordinator"


class Crash(BaseException):
    """The process of a party dies here, at once. No Exception, because nothing in the code under test may catch it."""

    def __init__(
        self, party: str, *, down_s: float = 1.0, whole: bool = False, torn: float | None = None
    ) -> None:
        """`down_s` is how long it stays dead. `whole` takes the coordinator and its SuperLink down with a server process.

        `torn`, from 0 to 1, is how much of its last record reached the disk; None: all of it.
        """
        super().__init__(party)
        self.party, self.down_s, self.whole, self.torn = party, down_s, whole, torn


@dataclass(frozen=True, slots=True)
class Line:
    """One step: what a party was about to do, or had just done."""

    at: float
    party: str
    what: str

    def __str__(self) -> str:
        return f"{self.at:10.3f}  {self.party:<12} {self.what}"


class Faults:
    """Where faults can strike. This one lets everything go well; a campaign's strikes."""

    def at_step(self, party: str, what: str) -> None:
        """May raise `Crash`, or let a crash of another party happen."""

    def at_commit(self, party: str) -> None:
        """May raise what SQLite raises when a disk fails, before anything is written."""

    def after_commit(self, party: str) -> None:
        """May raise what SQLite raises when a disk fails, after all was written."""

    def at_write(self, party: str) -> None:
        """May raise the OSError of a disk that fails while a file is written."""

    def request(self, site: SiteName, frame: bytes) -> Sequence[tuple[float, bytes]]:
        """What becomes of a request to a site: copies that arrive, each after so many seconds."""
        del site
        return [(LATENCY_S, frame)]

    def reply(self, site: SiteName, frame: bytes) -> Sequence[tuple[float, bytes]]:
        """What becomes of a reply of a site."""
        del site
        return [(LATENCY_S, frame)]

    def skew_s(self, party: str) -> float:
        """How far a party's wall clock is ahead."""
        del party
        return 0.0


@dataclass
class World:
    """The stage of one simulation. Whatever happens on it passes through `step`."""

    clock: VirtualClock = field(default_factory=VirtualClock)
    faults: Faults = field(default_factory=Faults)
    lines: list[Line] = field(default_factory=list)
    watchers: list[Callable[[str, str], None]] = field(default_factory=list)
    acting: str = COORDINATOR
    """Which of the coordinator's processes uses the database now."""
    folder: str = ""
    """Where the simulation lies; a trace leaves it out, because it is another one each time."""

    def step(self, party: str, what: str) -> None:
        """A boundary between two steps of a party: everything it did so far is checked, and it may die here."""
        self.note(party, what)
        for watch in self.watchers:
            watch(party, what)
        self.faults.at_step(party, what)

    def note(self, party: str, what: str) -> None:
        """Write a line into the trace at which nothing can happen."""
        self.lines.append(Line(self.clock.now, party, self.anywhere(what)))

    def anywhere(self, text: str) -> str:
        """`text` without the name of this simulation's folder."""
        return text.replace(f"{self.folder}/", "") if self.folder else text

    @property
    def digest(self) -> str:
        """SHA-256 over the trace: two runs of one seed have the same."""
        return hashlib.sha256("\n".join(map(str, self.lines)).encode()).hexdigest()
