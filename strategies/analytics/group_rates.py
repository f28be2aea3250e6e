"""What the counts of one protected group say of it alone: its rows, and shares of them.

Label 0 is the good outcome, and the favourable decision is not to decline: a score below the panel's threshold.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from strategies.analytics.panels import GroupPanel
from strategies.analytics.shares import Counted, Interval, share


class Rate(StrEnum):
    """A share of one group's rows."""

    BASE = "base_rate"
    """Label 1 among all: what the data say, whatever the model."""
    APPROVAL = "approval_rate"
    APPROVAL_GOOD = "approval_rate_of_good"
    APPROVAL_BAD = "approval_rate_of_bad"
    PRECISION = "good_among_approved"


_AMONG: Final[Mapping[Rate, str]] = {
    Rate.BASE: "rows",
    Rate.APPROVAL: "rows",
    Rate.APPROVAL_GOOD: "rows that turned out good",
    Rate.APPROVAL_BAD: "rows that turned out bad",
    Rate.PRECISION: "approved rows",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A figure's 95 % interval, or `cannot`: a sentence why there is none."""

    interval: Interval | None = None
    cannot: str = ""


class Group:
    """One group of a panel whose counts have noise of `noise_std` each, added up as its rates need them."""

    def __init__(self, panel: GroupPanel, name: str, noise_std: float) -> None:
        self.name, self.noise_std = name, noise_std
        self._good, self._bad = panel.counts[name]
        at = panel.declines
        self._approved_good, self._declined_good = _counted(self._good[:at]), _counted(self._good[at:])
        self._approved_bad, self._declined_bad = _counted(self._bad[:at]), _counted(self._bad[at:])
        self.all = _counted((*self._good, *self._bad))

    @property
    def rows(self) -> Interval:
        """How many rows it has."""
        return self.all.rows(self.noise_std)

    def share(self, rate: Rate, choices: int = 1) -> Interval | None:
        """A rate; with `choices` above 1, so many intervals hold at once."""
        return share(*self._parts(rate), self.noise_std, choices)

    def figure(self, rate: Rate) -> Figure:
        """A rate, or why there is none."""
        found = self.share(rate)
        return Figure(interval=found, cannot="" if found is not None else self.too_few(rate))

    def too_few(self, rate: Rate) -> str:
        """Why a rate has no figure."""
        if not self.noise_std:
            return f"{self.name} has no {_AMONG[rate]}"
        return f"{self.name} has too few {_AMONG[rate]} to be told from none with noise of {self.noise_std:.3g} on each count"

    def bins(self) -> Sequence[tuple[Counted, Counted]]:
        """Rows with label 1 and with label 0, by score bin."""
        return [
            (_counted((bad,)), _counted((good,))) for good, bad in zip(self._good, self._bad, strict=True)
        ]

    def _parts(self, rate: Rate) -> tuple[Counted, Counted]:
        """What counts for a rate, and what counts against it."""
        match rate:
            case Rate.BASE:
                return self._approved_bad + self._declined_bad, self._approved_good + self._declined_good
            case Rate.APPROVAL:
                return self._approved_good + self._approved_bad, self._declined_good + self._declined_bad
            case Rate.APPROVAL_GOOD:
                return self._approved_good, self._declined_good
            case Rate.APPROVAL_BAD:
                return self._approved_bad, self._declined_bad
            case Rate.PRECISION:
                return self._approved_good, self._approved_bad


def _counted(counts: tuple[int, ...]) -> Counted:
    return Counted(count=sum(counts), cells=len(counts))
