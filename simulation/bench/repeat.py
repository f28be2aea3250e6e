"""One way to repeat a measurement: short ones are taken several times, long ones once."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median
from typing import Final

_MOST: Final = 5
_SPEND_S: Final = 20.0


def repeated(measure: Callable[[], dict[str, float]]) -> dict[str, float]:
    """The median of each figure, over as many measurements as fit into twenty seconds: one to five."""
    began, taken = time.perf_counter(), [measure()]
    while len(taken) < _MOST and (time.perf_counter() - began) * (len(taken) + 1) / len(taken) < _SPEND_S:
        taken.append(measure())
    return {name: median(figures[name] for figures in taken) for name in taken[0]}
