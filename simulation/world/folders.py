"""Where a simulation lies while it runs."""

from __future__ import annotations

from pathlib import Path


def memory_folder() -> Path | None:
    """A folder in memory where there is one: simulated disks need not outlive the process, and a real flush is slow."""
    shared = Path("/dev/shm")  # noqa: S108 (a private folder is made inside)
    return shared if shared.is_dir() else None
