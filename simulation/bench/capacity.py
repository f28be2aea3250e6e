"""`covenant bench capacity`: measures federations of several sizes, fits the capacity model to them, and says how far off it is.

Each number of sites is one federation of real agents (`agents`), in which models of several sizes are trained, in the clear and with secure
aggregation. Some of the measurements are held out: a size between the others, and the largest.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Self

from protos.shell import people
from simulation.bench.agents import PLAIN, SECURE, running
from simulation.bench.exchange import model_size
from simulation.bench.report import BenchResult, machine
from simulation.capacity.fit import Fit, Idle, Observation
from simulation.capacity.terms import TERMS, Mode
from strategies.errors import UsageError
from strategies.secagg.graph import MOST_ACTIVE_SITES
from strategies.secagg.parameters import FEWEST_SURVIVORS

_FEWEST_SEEN: Final = 3
_MOST_TOGETHER: Final = 16_000_000
"""Parameters of all sites together that a machine is asked to carry."""
_AGGREGATION: Final = {Mode.PLAIN: PLAIN, Mode.SECURE: SECURE}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasurementSizes:
    """Numbers of sites and sizes of models, and which of them are held out: those of a number or a size there, and the largest of each where they meet.

    Of a large number of sites large models are left out: one machine carries all of them.
    """

    sites: Sequence[int] = (4, 8, 16, 32, 64)
    parameters: Sequence[int] = (10_000, 100_000, 300_000, 1_000_000)
    hold_sites: Sequence[int] = ()
    hold_parameters: Sequence[int] = (300_000,)
    rounds: int = 3

    @classmethod
    def of(cls, sites: Sequence[int] | None, parameters: Sequence[int] | None, rounds: int) -> Self:
        """The usual sizes, or these, of which the middle numbers of sites, and of four sizes of the model or more, are held out.

        Raises UsageError for too few to fit to.
        """
        made = cls(rounds=rounds)
        if sites:
            made = replace(made, sites=_different(sites, "--sites", 4), hold_sites=_middle(sites))
        if parameters:
            different = _different(parameters, "--parameters", 3)
            held = _middle(different) if len(different) > _FEWEST_SEEN else ()
            made = replace(made, parameters=different, hold_parameters=held)
        for mode in Mode:
            made.require_enough(mode)
        return made

    @property
    def together(self) -> list[tuple[int, int]]:
        """The numbers of sites and sizes of models that are measured, each with the other; of the fewest sites and the smallest model all."""
        small = min(self.sites), min(self.parameters)
        return [
            (number, size)
            for number in sorted(self.sites)
            for size in sorted(self.parameters)
            if number * size <= _MOST_TOGETHER or number == small[0] or size == small[1]
        ]

    def is_held_out(self, sites: int, parameters: int) -> bool:
        """Whether the fit is not to see this one."""
        together = self.together
        largest = max(size for number, size in together if number == max(self.sites))
        most = max(number for number, size in together if size == max(self.parameters))
        corners = {(max(self.sites), largest), (most, max(self.parameters))}
        return (
            (sites, parameters) in corners or sites in self.hold_sites or parameters in self.hold_parameters
        )

    def require_enough(self, mode: Mode) -> None:
        """Raise UsageError where no fit of `mode` would come of these: whoever measures for an hour is told before it."""
        sites = [each for each in self.sites if mode in modes_at(each)]
        if not sites:
            return
        held = [self.is_held_out(number, size) for number, size in self.together if number in sites]
        fewest = max(map(len, TERMS[mode].values()))
        if held.count(False) < fewest or True not in held:
            raise UsageError(
                f"--sites: at {', '.join(map(str, sites))} sites, where {mode} aggregation can be measured, {held.count(False)} measurements are fitted to and {held.count(True)} held out;"
                f" a fit needs {fewest} and 1 or more, so name more numbers of sites, of secure aggregation from {FEWEST_SURVIVORS} to {MOST_ACTIVE_SITES}"
            )


def modes_at(sites: int) -> list[Mode]:
    """How updates of so many sites are summed here: secure aggregation is measured against an active coordinator."""
    return [Mode.PLAIN] + [Mode.SECURE] * (FEWEST_SURVIVORS <= sites <= MOST_ACTIVE_SITES)


def _different(given: Sequence[int], option: str, fewest: int) -> tuple[int, ...]:
    found = tuple(sorted(set(given)))
    if len(found) < fewest:
        raise UsageError(
            f"{option} is given {len(found)} different values ({', '.join(map(str, found))}); a fit needs {fewest} or more, each with an {option} of its own"
        )
    return found


def _middle(given: Sequence[int]) -> tuple[int, ...]:
    return (sorted(set(given))[len(set(given)) // 2],)


def measure(sizes: MeasurementSizes) -> Fit:
    """Measure all of `sizes`, and fit."""
    observations: list[Observation] = []
    idle: list[Idle] = []
    for sites in sizes.sites:
        with tempfile.TemporaryDirectory(prefix="covenant-bench-") as folder:
            idle.extend(_measured(Path(folder), sizes, sites, observations))
    about = machine() | {"load": round(os.getloadavg()[-1], 1)}
    return Fit.of(observations, idle, measured_at=f"{datetime.now(UTC):%Y-%m-%d}", machine=about)


def _measured(
    folder: Path, sizes: MeasurementSizes, sites: int, observations: list[Observation]
) -> Iterator[Idle]:
    """One federation: what it took without a run, and what its runs took, which goes to `observations`."""
    with running(folder, sites) as fleet:
        yield Idle(
            sites=sites,
            figures={name.removeprefix("idle "): value for name, value in fleet.idle().items()},
        )
        for parameters in (size for number, size in sizes.together if number == sites):
            for mode in modes_at(sites):
                with people.status(f"{sites} sites, {parameters:,} parameters, {mode}"):
                    seen = fleet.run(parameters, sizes.rounds, _AGGREGATION[mode])
                observations.append(
                    Observation(
                        mode=mode,
                        sites=sites,
                        parameters=model_size(parameters),
                        held_out=sizes.is_held_out(sites, parameters),
                        figures=seen,
                    )
                )


def result_of(fit: Fit) -> BenchResult:
    """How far off a fit is, as a benchmark's result."""
    figures = {
        f"{mode} {name} {part}": value
        for mode, by_name in fit.errors.items()
        for name, error in by_name.items()
        for part, value in (("median error", error.median), ("worst error", error.worst))
    }
    return BenchResult(bench="capacity", ours=figures)
