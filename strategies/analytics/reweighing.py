"""Weights that make group and label independent, from released counts: Kamiran and Calders 2012.

They are constants of the next plan, computed from what is public already, so using them costs no more privacy than the counts did.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from strategies.analytics.panels import GroupPanel
from strategies.errors import UsageError

LARGEST_WEIGHT: Final = 10.0
"""What a plan takes."""
_DIGITS: Final = 4


@dataclass(frozen=True, slots=True)
class LabelWeights:
    """What a row of a group counts, by its label: 0 is `negative`, 1 is `positive`."""

    negative: float
    positive: float


def reweighing(panel: GroupPanel) -> Mapping[str, LabelWeights]:
    """The weight of each group and label: what rows there would be if the two were independent, over those that there are.

    At most `LARGEST_WEIGHT`, to four digits. A count that noise made less than one counts as one row. Groups that are suppressed keep weight 1, and are
    left out. Raises UsageError where no group is told of.
    """
    rows = {
        name: tuple(max(1.0, float(sum(label))) for label in counts) for name, counts in panel.counts.items()
    }
    if not rows:
        raise UsageError(f"no group of {panel.attribute} is told of, so there is nothing to weigh by")
    labels = [sum(each[label] for each in rows.values()) for label in (0, 1)]
    return {
        name: LabelWeights(*(_weight(sum(of), labels[label], of[label], sum(labels)) for label in (0, 1)))
        for name, of in rows.items()
    }


def _weight(group: float, label: float, both: float, all_rows: float) -> float:
    return round(min(LARGEST_WEIGHT, group * label / (all_rows * both)), _DIGITS)
