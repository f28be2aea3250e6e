"""What the full demo found where its model runs: windows, the alarm with its cause, and the plan that was drafted from it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rich.table import Table

from protos.shell import as_written

_SHOWN = 12
_MOST_MOVED = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowReport:
    """One window as the centre judged it: `applicants` is what the demo sent, which the centre does not know.

    `psi` is the largest of its streams, of that `stream`, with its 95 % interval; None, as `rows`, where `said` is why nothing can be said.
    """

    number: int
    begins: str
    applicants: str
    rows: int | None
    stream: str | None
    psi: tuple[float, float, float] | None
    moved: list[str]
    said: str | None

    @classmethod
    def of(cls, found: dict[str, Any], applicants: str) -> WindowReport:
        """From a window as `covenant monitor windows --json` tells it."""
        known = {name: each for name, each in found["streams"].items() if "psi" in each}
        stream = max(known, key=lambda name: float(known[name]["psi"][0]), default=None)
        return cls(
            number=found["number"],
            begins=found["begins"],
            applicants=applicants,
            rows=None if stream is None else known[stream]["rows"],
            stream=stream,
            psi=None if stream is None else tuple(known[stream]["psi"]),
            moved=found["moved"],
            said=found["said"],
        )

    @property
    def cells(self) -> tuple[str, ...]:
        """For people."""
        if self.psi is None:
            return (str(self.number), self.applicants, "", "", self.said or "")
        value, low, high = self.psi
        more = len(self.moved) - _MOST_MOVED
        moved = ", ".join(self.moved[:_MOST_MOVED]) + (f" and {more} more" if more > 0 else "")
        return (
            str(self.number),
            self.applicants,
            str(self.rows),
            f"{self.stream}: {value:.3f} ({low:.3f} to {high:.3f})",
            moved or "nothing, further than is tolerated",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DriftReport:
    """Windows of `model` at its places, and the `alarm` that they raised. `planted` is what the demo did; `features` moved, by their share of what moved.

    False alarms have a probability of at most `false_alarm_rate` in `horizon` windows. `epsilon` is what the place's windows have cost since their period
    began, at `delta`, per decision in each.
    """

    model: str
    monitor: str
    window_s: float
    false_alarm_rate: float
    horizon: int
    planted: str
    windows: list[WindowReport]
    alarm: str
    cause: str
    features: list[str]
    places: list[str]
    evidence: list[str]
    likely: str
    outcomes: int
    epsilon: float
    delta: float

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)

    def table(self) -> Table:
        """Window by window."""
        rate = f"false alarms at most {self.false_alarm_rate:g} in {self.horizon} windows"
        table = Table(
            "window",
            "applicants",
            "rows",
            "largest PSI (95 %)",
            "what moved",
            title=f"{self.model} at {', '.join(self.places)}, in windows of {self.window_s:g} s; {rate}",
        )
        for each in self.windows:
            table.add_row(*map(as_written, each.cells))
        return table

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"{self.alarm}: {self.cause}. {self.likely}. First of what moved: {self.evidence[0]}. What was planted: {self.planted}."
            f" The windows cost epsilon {self.epsilon:.2f} at delta {self.delta:g} per decision in each of them"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrainingReport:
    """The plan that waits for its `author`, drafted once outcomes had arrived; `first` is the draft that the alarm made before, and what it could not say."""

    draft: str
    model: str
    plan: str
    author: str
    drafted_by: str
    sites: list[str]
    rounds: int
    champion: str | None
    says: list[str]
    gain: dict[str, Any]
    first: dict[str, str]

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)

    @property
    def words(self) -> str:
        """For people."""
        gain = str(self.gain.get("words", self.gain.get("said")))
        return (
            f"{self.first['draft']} was drafted by {self.first['drafted_by']}: {self.first['said']}. Outcomes arrived, and {self.author} asked again: {self.draft}, plan"
            f" {self.plan[:_SHOWN]} of {self.rounds} rounds at {', '.join(self.sites)}, against {self.champion or 'no champion'}. {gain}."
            f" Nobody has signed it: it waits for {self.author}"
        )
