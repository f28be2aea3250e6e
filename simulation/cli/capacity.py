"""`covenant plan capacity`: what a federation of so many sites needs, and what of a small installation it outgrows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from coordinator.cli.options import Json
from protos.shell import emit, people, tell
from strategies.errors import UsageError

if TYPE_CHECKING:
    from simulation.capacity.fit import Fit
    from simulation.capacity.needs import Needs
    from simulation.capacity.terms import Mode

_SHORT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([kM]?)")
_TIMES = {"": 1, "k": 1_000, "M": 1_000_000}


def capacity(
    sites: Annotated[int, typer.Option(help="Sites that take part in a round.")],
    parameters: Annotated[str, typer.Option(help="Size of the model: a number, or as 250k or 100M.")],
    rounds: Annotated[int, typer.Option(min=1, max=100_000, help="Rounds of a run.")] = 100,
    aggregation: Annotated[
        Literal["secure", "plain"], typer.Option(help="How updates are summed.")
    ] = "secure",
    fit: Annotated[
        Path | None,
        typer.Option(help="What `covenant bench capacity --out` wrote; else the fit of this release."),
    ] = None,
    site_line: Annotated[float, typer.Option(help="Mbit/s of a site's line, each way.")] = 100.0,
    centre_line: Annotated[float, typer.Option(help="Mbit/s of the centre's line, each way.")] = 1000.0,
    json: Json = False,
) -> None:
    """Seconds a round, memory, bytes and disk that a federation needs, and what of a small installation it outgrows."""
    from simulation.capacity.fit import SHIPPED, Fit
    from simulation.capacity.needs import Network, needs_of
    from simulation.capacity.terms import Mode, Scale

    known = Fit.read(fit or SHIPPED)
    scale = Scale(Mode(aggregation), sites, size_of(parameters))
    network = Network(site_mbit_s=site_line, centre_mbit_s=centre_line)
    needs = needs_of(known, scale, rounds=rounds, network=network)
    if json:
        emit({**needs.facts(), "fit": _about(known), **_errors(known, scale.mode)})
    else:
        _show(needs, known)


def size_of(text: str) -> int:
    """A number of parameters as people write it. Raises UsageError."""
    if (found := _SHORT.fullmatch(text.strip().replace("_", "").replace(",", ""))) is None:
        raise UsageError(f"--parameters {text!r}: use a number, or as 250k or 100M")
    return round(float(found[1]) * _TIMES[found[2]])


def _about(fit: Fit) -> dict[str, object]:
    return {"measured_at": fit.measured_at, "machine": fit.machine, "measurements": len(fit.observations)}


def _errors(fit: Fit, mode: Mode) -> dict[str, object]:
    """By figure, and the figures of which none is known."""
    from simulation.capacity.needs import errors_of

    return {
        "errors": {name: error.model_dump() for name, error in fit.errors[mode].items()},
        "without_error": list(errors_of(fit, mode).unknown),
    }


def _show(needs: Needs, fit: Fit) -> None:
    from simulation.capacity.needs import adversary_of, errors_of

    scale = needs.scale
    table = Table(
        "what", "how much", title=f"{scale.sites} sites, {scale.parameters:,} parameters, {scale.mode}"
    )
    for what, how_much in _rows(needs):
        table.add_row(what, how_much)
    people.print(table)
    tell(f"coordinator: {adversary_of(scale)}")
    for note in needs.notes:
        tell(f"note: {note}")
    tell("replace: " + ("; ".join(needs.replace) if needs.replace else "nothing of a small installation"))
    errors = errors_of(fit, scale.mode)
    seconds, (at_median, by_median), (at_worst, by_worst) = (
        errors.round_s,
        errors.largest_median,
        errors.largest_worst,
    )
    tell(
        f"fitted {fit.measured_at} to {sum(each.mode is scale.mode and not each.held_out for each in fit.observations)} measurements"
        f" ({fit.machine.get('system')}, {fit.machine.get('cpus')} cpus); on {seconds.measurements} held out, seconds of a round are off by"
        f" {seconds.median:.0%} (worst {seconds.worst:.0%}); of another figure the largest median is {by_median:.0%} ({at_median}) and the largest error {by_worst:.0%} ({at_worst})"
    )
    tell(f"nobody knows how far off these are, for nothing was held out: {', '.join(errors.unknown)}")
    if needs.extrapolated:
        tell(f"extrapolated: {'; '.join(needs.extrapolated)}")


def _rows(needs: Needs) -> list[tuple[str, str]]:
    return [
        ("a round", f"{_seconds(needs.round_s)}, of it {_seconds(needs.network_s)} on the lines"),
        (f"a run of {needs.rounds} rounds", _seconds(needs.run_s)),
        (
            "processor time a round",
            f"centre {_seconds(needs.centre_cpu_s)}, a site {_seconds(needs.site_cpu_s)}",
        ),
        ("requests a second", f"{needs.requests_a_s:.0f} in a round, {needs.idle_requests_a_s:.0f} at rest"),
        ("memory of the SuperLink", _gib(needs.superlink_gib)),
        ("memory of a run's server process", _gib(needs.server_gib)),
        ("memory of the coordinator", _gib(needs.coordinator_gib)),
        ("memory of a site's agent", _gib(needs.site_gib)),
        ("a site sends a round", _bytes(needs.site_up_bytes)),
        ("a site is sent a round", _bytes(needs.site_down_bytes)),
        (
            "disk of a run at the centre",
            f"{_gib(needs.run_disk_gib)}, of it {_gib(needs.run_database_gib)} database",
        ),
    ]


def _seconds(value: float) -> str:
    if value < 600:  # noqa: PLR2004 (what people say in minutes)
        return f"{value:.3g} s"
    return f"{value / 60:.3g} min" if value < 2 * 3600 else f"{value / 3600:.3g} h"


def _gib(value: float) -> str:
    if value < 1:
        return f"{value * 1024:.3g} MiB"
    return f"{value:.3g} GiB" if value < 1000 else f"{value:,.0f} GiB"  # noqa: PLR2004 (what is readable)


def _bytes(value: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.0f} bytes"
