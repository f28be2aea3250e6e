"""What other processes of this machine have taken, from the kernel's own counts. Linux only; figures of a process that has ended are None."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

_TICKS_A_SECOND: Final = os.sysconf("SC_CLK_TCK")
_FORGET_PEAK: Final = "5"
_UTIME: Final = 11
"""Where processor time begins in /proc/PID/stat after the name in brackets: user's, then the kernel's."""


def cpu_seconds(pid: int) -> float | None:
    """Processor time that a process has taken, without its children's."""
    if (stat := _read(pid, "stat")) is None:
        return None
    fields = stat.rsplit(")", 1)[1].split()
    return sum(map(int, fields[_UTIME : _UTIME + 2])) / _TICKS_A_SECOND


def forget_peak(pid: int) -> None:
    """Count the peak of a process's memory from now on."""
    Path(f"/proc/{pid}/clear_refs").write_text(_FORGET_PEAK)


def peak_mib(pid: int) -> float | None:
    """The most memory that a process had resident."""
    return _kib(pid, "status", "VmHWM")


def resident_mib(pid: int) -> float | None:
    """The memory that a process has resident now."""
    return _kib(pid, "status", "VmRSS")


def share_mib(pid: int) -> float | None:
    """The memory of a process, of what it shares with others its proportional part."""
    return _kib(pid, "smaps_rollup", "Pss")


def own_mib(pid: int) -> float | None:
    """The memory that would be free if a process ended."""
    parts = [_kib(pid, "smaps_rollup", name) for name in ("Private_Clean", "Private_Dirty")]
    return None if None in parts else sum(each or 0.0 for each in parts)


def folder_bytes(folder: Path) -> int:
    """Bytes of the files below `folder`; one that goes away meanwhile counts nothing."""
    total = 0
    for each in folder.rglob("*"):
        try:
            total += each.stat().st_size if each.is_file() else 0
        except OSError:
            continue
    return total


def _kib(pid: int, file: str, name: str) -> float | None:
    """A line of a file of /proc/PID that is in KiB, in MiB."""
    for line in (_read(pid, file) or "").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    return None


def _read(pid: int, file: str) -> str | None:
    try:
        return Path(f"/proc/{pid}/{file}").read_text()
    except OSError:
        return None
