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
    """Figures by name, each name ending in its unit where the figure has one."""

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


def machine() -> dict[str, str | float]:
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
    alone = result.peer is None and not result.ratio
    columns = ("figure", "covenant") if alone else ("figure", "covenant", result.peer_name, "ratio")
    table = Table(*columns, title=f"bench {result.bench}")
    for name in (*result.ours, *(each for each in result.peer or {} if each not in result.ours)):
        ours, peer = _figure(result.ours, name), _figure(result.peer or {}, name)
        table.add_row(name, ours, *(() if alone else (peer, _ratio(result.ratio, name))))
    people.print(table)


def _figure(figures: Figures, name: str) -> str:
    return f"{figures[name]:.4g}" if name in figures else ""


def _ratio(ratios: Figures, name: str) -> str:
    """A ratio has the name of its figure, with or without its unit."""
    short = name if name in ratios else name.removesuffix("_s").removesuffix("_rows")
    return f"{ratios[short]:.1f}x" if short in ratios else ""
