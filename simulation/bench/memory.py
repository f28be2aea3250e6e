"""Peak memory of this process while it measures something, from the kernel's own count.

`ru_maxrss` will not do: it is kept across fork and exec, so a small child of a large parent shows the parent's peak.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from simulation.bench.processes import forget_peak, peak_mib, resident_mib


@dataclass
class Peak:
    """What came on top of the memory at the beginning, at the highest: `mib`, once the measurement is over; `whole_mib` is all of it."""

    mib: float = 0.0
    whole_mib: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch the resident memory of this process; Linux only."""
    peak, mine = Peak(), os.getpid()
    forget_peak(mine)
    before = resident_mib(mine) or 0.0
    yield peak
    peak.whole_mib = peak_mib(mine) or 0.0
    peak.mib = peak.whole_mib - before
