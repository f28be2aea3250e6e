"""What a benchmark says: its own figures, the peer's in the same run, and ratios in which above 1 means this project is better."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version

from rich.table import Table

from protos.shell import people

Figures = Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Figures by name, each name ending in its unit."""

    bench: str
    ours: Figures
    peer: Figures | None = None
    ratio: Figures = field(default_factory=dict)
    peer_name: str = "stock Flower"

    def facts(self) -> dict[str, object]:
        """The result as one JSON object."""
        return {
            "bench": self.bench,
            "ours": dict(self.ours),
            "peer": None if self.peer is None else dict(self.peer),
            "ratio": dict(self.ratio),
            "machine": machine(),
        }


def machine() -> dict[str, object]:
    """What the figures were measured on."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "flwr": version("flwr"),
    }


def show(result: BenchResult) -> None:
    """Print the result as a table for people."""
    table = Table("figure", "covenant", result.peer_name, "ratio", title=f"bench {result.bench}")
    for name, value in result.ours.items():
        peer = "" if result.peer is None or name not in result.peer else f"{result.peer[name]:.4g}"
        short = name if name in result.ratio else name.removesuffix("_s")
        ratio = f"{result.ratio[short]:.1f}x" if short in result.ratio else ""
        table.add_row(name, f"{value:.4g}", peer, ratio)
    for name, value in (result.peer or {}).items():
        if name not in result.ours:
            short = name.removesuffix("_s")
            ratio = f"{result.ratio[short]:.1f}x" if short in result.ratio else ""
            table.add_row(name, "", f"{value:.4g}", ratio)
    people.print(table)
