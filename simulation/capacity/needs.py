"""What a federation needs, and what of the small installation is to be replaced for it.

The thresholds are judgements, each with its reason beside it, about one process or one file that a small installation has. Where a fit is
asked beyond what was measured, the answer says so.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from protos.witness import MOST_BUNDLE_BYTES
from simulation.capacity.fit import ROUND_S, Fit, HeldOutError
from simulation.capacity.terms import IDLE, TERMS, Mode, Scale
from strategies.errors import UsageError
from strategies.secagg.graph import MOST_ACTIVE_SITES

GIB: Final = 2.0**30
_RUNS_KEPT: Final = 100
"""Runs whose rows and artifacts lie together before somebody cleans up: two a week for a year."""
_SQLITE_MOST_GIB: Final = 10.0
"""A backup copies the whole file, and each commit flushes it: beyond this both are felt."""
_FOLDER_MOST_GIB: Final = 500.0
"""What a usual local disk has to spare, with its backup."""
_SUPERLINK_MOST_GIB: Final = 16.0
"""Its state is in the memory of one process: what is lost at once, and what a usual machine has."""
_SUPERLINK_MOST_CORES: Final = 0.5
"""It is one Python process, so one core is all it can use: at rest at most half of it, for the round needs more."""
_SITE_MOST_GIB: Final = 8.0
_WITNESSED_PAIR_BYTES: Final = 215
"""Of a place in a view, of a site with the longest name."""
_MOST_WITNESSED: Final = math.isqrt(MOST_BUNDLE_BYTES // _WITNESSED_PAIR_BYTES) - 2
"""And the statements beside the views."""
_MBIT: Final = 1e6 / 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Megabits a second of a site's line and of the centre's, each way."""

    site_mbit_s: float = 100.0
    centre_mbit_s: float = 1000.0

    def __post_init__(self) -> None:
        for option, mbit_s in (("--site-line", self.site_mbit_s), ("--centre-line", self.centre_mbit_s)):
            if not mbit_s > 0:
                raise UsageError(f"{option} {mbit_s:g}: a line carries more than 0 Mbit/s")


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """Of a federation of `scale`, per round where nothing else is said. `extrapolated` tells where nothing was measured, `replace` what is too small."""

    scale: Scale
    rounds: int
    round_s: float
    network_s: float
    centre_cpu_s: float
    site_cpu_s: float
    requests_a_s: float
    idle_requests_a_s: float
    idle_superlink_cores: float
    superlink_gib: float
    server_gib: float
    coordinator_gib: float
    site_gib: float
    site_up_bytes: float
    site_down_bytes: float
    run_s: float
    run_disk_gib: float
    run_database_gib: float
    extrapolated: tuple[str, ...]
    notes: tuple[str, ...]
    replace: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """As one JSON object."""
        facts = asdict(self) | {
            "mode": str(self.scale.mode),
            "adversary": adversary_of(self.scale),
            "sites": self.scale.sites,
            "parameters": self.scale.parameters,
            "neighbours": self.scale.neighbours,
        }
        del facts["scale"]
        return {name: list(value) if isinstance(value, tuple) else value for name, value in facts.items()}


def needs_of(fit: Fit, scale: Scale, *, rounds: int, network: Network = Network()) -> Needs:
    """What `rounds` rounds at `scale` need by `fit`. Raises UsageError where nothing was measured of its mode."""
    fit.require(scale.mode)
    figure = {name: fit.figure(name, scale) for name in fit.coefficients[scale.mode]}
    carried = figure["site_up_bytes"] + figure["site_down_bytes"]
    network_s = max(
        carried / (network.site_mbit_s * _MBIT), scale.sites * carried / (network.centre_mbit_s * _MBIT)
    )
    round_s = fit.seconds_apart(scale) + network_s
    needs = Needs(
        scale=scale,
        rounds=rounds,
        round_s=round_s,
        network_s=network_s,
        centre_cpu_s=figure["superlink_cpu_s"] + figure["server_cpu_s"],
        site_cpu_s=figure["agent_cpu_s"],
        requests_a_s=figure["requests"] / round_s,
        idle_requests_a_s=fit.idle_figure("requests_a_s", scale.sites),
        idle_superlink_cores=fit.idle_figure("superlink_cores", scale.sites),
        superlink_gib=figure["superlink_peak_mib"] / 1024,
        server_gib=figure["server_peak_mib"] / 1024,
        coordinator_gib=figure["coordinator_peak_mib"] / 1024,
        site_gib=figure["agent_peak_mib"] / 1024,
        site_up_bytes=figure["site_up_bytes"],
        site_down_bytes=figure["site_down_bytes"],
        run_s=rounds * round_s,
        run_disk_gib=rounds * (figure["artifact_bytes"] + figure["database_bytes"]) / GIB,
        run_database_gib=rounds * figure["database_bytes"] / GIB,
        extrapolated=tuple(fit.extrapolated(scale)),
        notes=(),
        replace=(),
    )
    return _judged(needs)


def adversary_of(scale: Scale) -> str:
    """What the coordinator may be without harm to a site's update."""
    if scale.mode is Mode.PLAIN:
        return "none: the centre sees each site's update"
    return "active" if scale.is_active else "semi-honest"


@dataclass(frozen=True, slots=True, kw_only=True)
class FitErrors:
    """Of one mode: errors on seconds of a round, the largest median and the largest worst error of all other figures, each with its figure, and the
    figures of which nothing was held out, so that nobody knows how far off they are."""

    round_s: HeldOutError
    largest_median: tuple[str, float]
    largest_worst: tuple[str, float]
    unknown: tuple[str, ...]


def errors_of(fit: Fit, mode: Mode) -> FitErrors:
    """How far off the fit is on what it has not seen. Raises UsageError where nothing was measured of `mode`."""
    fit.require(mode)
    others = {name: each for name, each in fit.errors[mode].items() if name != ROUND_S}
    by_median = max(others, key=lambda name: others[name].median)
    by_worst = max(others, key=lambda name: others[name].worst)
    return FitErrors(
        round_s=fit.errors[mode][ROUND_S],
        largest_median=(by_median, others[by_median].median),
        largest_worst=(by_worst, others[by_worst].worst),
        unknown=(*(name for name in TERMS[mode] if name not in others), *(f"idle {name}" for name in IDLE)),
    )


def _judged(needs: Needs) -> Needs:
    """With notes, and with what is to be replaced."""
    return replace(needs, notes=tuple(_notes(needs.scale)), replace=tuple(_replacements(needs)))


def _notes(scale: Scale) -> list[str]:
    notes = []
    if scale.sites > _MOST_WITNESSED:
        notes.append(
            f"this version cannot do it: what {scale.sites} sites know of each other as witnesses is over the {MOST_BUNDLE_BYTES} bytes that a request carries, so"
            f" a second run could not begin. It is certain up to {_MOST_WITNESSED} sites; beyond, split the federation"
        )
    if scale.mode is Mode.SECURE and not scale.is_active:
        notes.append(
            f"secure aggregation against an active coordinator ends at {MOST_ACTIVE_SITES} sites: this is semi-honest, each site with"
            f" {scale.neighbours} random neighbours, and a plan must say `adversary: semi-honest`"
        )
    if scale.mode is Mode.PLAIN:
        notes.append("plain aggregation: the centre sees each site's update, and each site must admit that")
    return notes


def _replacements(needs: Needs) -> list[str]:
    """What is too small, why, and what comes in its place."""
    database, artifacts = (
        _RUNS_KEPT * each for each in (needs.run_database_gib, needs.run_disk_gib - needs.run_database_gib)
    )
    found = []
    if database > _SQLITE_MOST_GIB:
        found.append(
            f"SQLite: {_RUNS_KEPT} such runs leave {database:.0f} GiB in the database, over {_SQLITE_MOST_GIB:.0f}; set `database` to a URL of PostgreSQL"
        )
    if artifacts > _FOLDER_MOST_GIB:
        found.append(
            f"the local folder of artifacts: {_RUNS_KEPT} such runs leave {artifacts:.0f} GiB, over {_FOLDER_MOST_GIB:.0f}; put `artifacts` on a mounted object store"
        )
    if needs.idle_superlink_cores > _SUPERLINK_MOST_CORES:
        found.append(
            f"the one SuperLink: {needs.idle_requests_a_s:.0f} requests a second at rest keep it busy {needs.idle_superlink_cores:.0%} of the time, over"
            f" {_SUPERLINK_MOST_CORES:.0%}; give sites `run.idle_poll: 4s`, or split the federation over several SuperLinks"
        )
    if needs.superlink_gib > _SUPERLINK_MOST_GIB:
        found.append(
            f"the one SuperLink: {needs.superlink_gib:.0f} GiB of its memory, over {_SUPERLINK_MOST_GIB:.0f}; split the federation over several SuperLinks, or ask fewer sites in a round"
        )
    if needs.site_gib > _SITE_MOST_GIB:
        found.append(
            f"the sites' machines: an agent takes {needs.site_gib:.0f} GiB, over {_SITE_MOST_GIB:.0f}"
        )
    return found
