"""Peak memory of this process while it measures something, from the kernel's own count.

`ru_maxrss` will not do: it is kept across fork and exec, so a small child of a large parent shows the parent's peak.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_SELF: Final = Path("/proc/self")
_FORGET_PEAK: Final = "5"
_KIB: Final = 1024


@dataclass
class Peak:
    """What came on top of the memory at the beginning, at the highest: `mib`, once the measurement is over."""

    mib: float = 0.0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Watch the resident memory of this process; Linux only."""
    peak = Peak()
    (_SELF / "clear_refs").write_text(_FORGET_PEAK)
    before = _status("VmRSS")
    yield peak
    peak.mib = (_status("VmHWM") - before) / _KIB


def _status(name: str) -> int:
    """A figure of /proc/self/status, in KiB."""
    lines = (_SELF / "status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
