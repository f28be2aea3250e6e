"""Coefficients from measurements, and how far off they are on measurements that they were not made from.

Least squares with coefficients that are not negative (Lawson, Hanson 1974; `scipy.optimize.nnls`), of residuals relative to the measurement: a
small federation counts as much as a large one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Annotated, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from simulation.capacity.least_squares import least_squares
from simulation.capacity.terms import CLOCK, IDLE, TERMS, Mode, Scale, at_rest
from strategies.errors import UsageError

SHIPPED: Final = Path(__file__).with_name("measured.json")
ROUND_S: Final = "round_s"
_AS_GOOD_AS: Final = 1.01
"""The model of a benchmark has about as many parameters as were asked for."""
_MOST_BYTES: Final = 4 << 20
_PROCESSORS: Final = ("superlink_cpu_s", "server_cpu_s", "agent_cpu_s")
Amount = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Coefficients = dict[str, Amount]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Observation(_Part):
    """What a round took of a federation of this size on one machine; `held_out` is not fitted to. A figure that is not there was not measured."""

    mode: Mode
    sites: int
    parameters: int
    held_out: bool = False
    figures: dict[str, Amount]

    @property
    def scale(self) -> Scale:
        """Its size."""
        return Scale(self.mode, self.sites, self.parameters)

    @property
    def size(self) -> str:
        """Its size in words."""
        return f"{self.sites} sites, {self.parameters:,} parameters"


class Idle(_Part):
    """What a second without a run took with `sites` agents online."""

    sites: int = Field(ge=1)
    figures: dict[str, Amount]


class HeldOutError(_Part):
    """Relative errors on the measurements that were held out, how many there were, and the worst one's size in words."""

    median: Amount
    worst: Amount
    measurements: int = Field(ge=1)
    worst_at: str = ""


class Fit(_Part):
    """Coefficients by mode and figure, what they were made from, and how far off they are. `clock` puts seconds of a round together.

    Whoever asks a fit for a figure of one of its modes finds it: a file in which one is missing is none.
    """

    covenant: Literal["capacity/v1"] = "capacity/v1"
    measured_at: str
    machine: dict[str, str | float]
    coefficients: dict[Mode, dict[str, Coefficients]]
    clock: dict[Mode, Coefficients]
    idle: dict[str, Coefficients]
    errors: dict[Mode, dict[str, HeldOutError]]
    observations: list[Observation]
    idle_observations: list[Idle]

    @model_validator(mode="after")
    def _names_everything(self) -> Self:
        modes = {each.mode for each in self.observations}
        for name, by_mode in (
            ("coefficients", self.coefficients.keys()),
            ("clock", self.clock.keys()),
            ("errors", self.errors.keys()),
        ):
            _require(by_mode, modes, name)
        for mode in modes:
            _require_terms(self.coefficients[mode], TERMS[mode], f"coefficients.{mode}")
            _require(self.clock[mode], CLOCK, f"clock.{mode}")
            # A figure has no error where nothing of it was held out, but seconds always have one.
            known = [name for name in TERMS[mode] if name in self.errors[mode]]
            _require(self.errors[mode], (ROUND_S, *known), f"errors.{mode}")
            if not known:
                raise ValueError(f"errors.{mode} has no figure beside {ROUND_S}")
        _require_terms(self.idle, IDLE, "idle")
        return self

    @classmethod
    def of(
        cls,
        observations: Sequence[Observation],
        idle_observations: Sequence[Idle],
        *,
        measured_at: str,
        machine: Mapping[str, str | float],
    ) -> Self:
        """Fit to what is not held out, and hold it against what is. Raises UsageError where there is too little of either."""
        modes = sorted({each.mode for each in observations})
        cores = float(machine["cpus"])
        seen = {mode: _of(observations, mode, held_out=False) for mode in modes}
        coefficients = {mode: _fitted(seen[mode], mode) for mode in modes}
        clock = {mode: _clock(seen[mode], cores) for mode in modes}
        errors = {
            mode: _errors(
                _of(observations, mode, held_out=True), mode, coefficients[mode], clock[mode], cores
            )
            for mode in modes
        }
        return cls(
            measured_at=measured_at,
            machine=dict(machine),
            coefficients=coefficients,
            clock=clock,
            idle=_idle(idle_observations),
            errors=errors,
            observations=list(observations),
            idle_observations=list(idle_observations),
        )

    @classmethod
    def read(cls, file: Path) -> Self:
        """The fit in a file. Raises UsageError for one that cannot be used."""
        try:
            data = file.read_bytes()
        except OSError as error:
            raise UsageError(
                f"{file} cannot be read ({error.strerror}); make one with `covenant bench capacity --out {file}`"
            ) from error
        if len(data) > _MOST_BYTES:
            raise UsageError(f"{file} has {len(data)} bytes; a fit has {_MOST_BYTES} at most")
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "the file"
            raise UsageError(
                f"{file} is no fit of `covenant bench capacity`: {place}: {first['msg']}"
            ) from error

    def require(self, mode: Mode) -> None:
        """Raise UsageError where nothing was measured of `mode`."""
        if mode not in self.coefficients:
            raise UsageError(
                f"the fit of {self.measured_at} has no measurement of {mode} aggregation, only of {', '.join(sorted(self.coefficients))};"
                " make one that has with `covenant bench capacity --out` and name it with --fit"
            )

    def figure(self, name: str, scale: Scale) -> float:
        """What a round takes of `name`, one of `TERMS`, in a mode that was measured."""
        return _sum(self.coefficients[scale.mode][name], scale.value)

    def idle_figure(self, name: str, sites: int) -> float:
        """What a second without a run takes of `name`, one of `IDLE`."""
        return _sum(self.idle[name], partial(at_rest, sites=sites))

    def seconds_apart(self, scale: Scale) -> float:
        """Seconds of a round where each site has a machine of its own, without what the network takes.

        What was waited, and the processor time of the SuperLink, of the server process and of a site one after the other, which is more than it is:
        they overlap. That a second of processor time took longer where everybody shared a machine, also with others, is not in it.
        """
        return self.clock[scale.mode]["waiting"] + sum(self.figure(name, scale) for name in _PROCESSORS)

    def extrapolated(self, scale: Scale) -> list[str]:
        """In which sizes `scale`, of a mode that was measured, is larger than what was measured, in words."""
        mine = [each for each in self.observations if each.mode is scale.mode]
        most_sites, most = max(each.sites for each in mine), max(each.parameters for each in mine)
        together = max(each.sites * each.parameters for each in mine)
        words = []
        if scale.sites > most_sites:
            words.append(f"{scale.sites} sites, measured up to {most_sites}")
        if scale.parameters > _AS_GOOD_AS * most:
            words.append(f"{scale.parameters:,} parameters, measured up to {most:,}")
        if not words and scale.sites * scale.parameters > _AS_GOOD_AS * together:
            words.append(
                f"{scale.sites} sites with {scale.parameters:,} parameters each, measured up to {together:,} of all sites together"
            )
        return words


def _require_terms(given: Mapping[str, Coefficients], terms: Mapping[str, Sequence[str]], where: str) -> None:
    _require(given, terms, where)
    for name, of_figure in terms.items():
        _require(given[name], of_figure, f"{where}.{name}")


def _require(given: Iterable[str], names: Iterable[str], where: str) -> None:
    """Raise ValueError unless `given` are all of `names` and no others."""
    if missing := set(names) - set(given):
        raise ValueError(f"{where} lacks {', '.join(sorted(missing))}")
    if unknown := set(given) - set(names):
        raise ValueError(f"{where} has {', '.join(sorted(unknown))}, which does not belong there")


def _of(observations: Iterable[Observation], mode: Mode, *, held_out: bool) -> list[Observation]:
    return [each for each in observations if each.mode is mode and each.held_out is held_out]


def _fitted(observations: Sequence[Observation], mode: Mode) -> dict[str, Coefficients]:
    sizes = [each.size for each in observations]
    return {
        name: least_squares(
            terms,
            [[each.scale.value(term) for term in terms] for each in observations],
            [each.figures.get(name, 0.0) for each in observations],
            sizes,
            f"{name}, {mode}",
        )
        for name, terms in TERMS[mode].items()
    }


def _clock(observations: Sequence[Observation], cores: float) -> Coefficients:
    """Seconds of a round from the processor time that was measured in it."""
    timed = [each for each in observations if each.figures.keys() >= {ROUND_S, *_PROCESSORS}]
    rows = [[1.0, _busy(each.figures.__getitem__, each.sites) / cores] for each in timed]
    return least_squares(
        CLOCK, rows, [each.figures[ROUND_S] for each in timed], [each.size for each in timed], ROUND_S
    )


def _busy(figure: Callable[[str], float], sites: int) -> float:
    """Processor seconds of a round, of everybody together."""
    return figure("superlink_cpu_s") + figure("server_cpu_s") + sites * figure("agent_cpu_s")


def _idle(observations: Sequence[Idle]) -> dict[str, Coefficients]:
    return {
        name: least_squares(
            terms,
            [[at_rest(term, each.sites) for term in terms] for each in observations],
            [each.figures.get(name, 0.0) for each in observations],
            [f"{each.sites} sites" for each in observations],
            f"{name} without a run",
        )
        for name, terms in IDLE.items()
    }


def _errors(
    held_out: Sequence[Observation],
    mode: Mode,
    coefficients: Mapping[str, Coefficients],
    clock: Coefficients,
    cores: float,
) -> dict[str, HeldOutError]:
    """By figure; seconds of a round as on one machine of `cores` that carries the centre and every site, which is how they were measured."""
    if not held_out:
        raise UsageError(
            f"no measurement of {mode} aggregation is held out, so nobody could say how far off the fit is"
        )

    def predicted(name: str, scale: Scale) -> float:
        return _sum(coefficients[name], scale.value)

    def together(scale: Scale) -> float:
        busy = _busy(lambda name: predicted(name, scale), scale.sites)
        return _sum(clock, {"waiting": 1.0, "computing": busy / cores}.__getitem__)

    found = {
        name: _error(held_out, name, partial(predicted, name))
        for name in TERMS[mode]
        if any(each.figures.get(name, 0.0) > 0 for each in held_out)
    }
    return found | {ROUND_S: _error(held_out, ROUND_S, together)}


def _error(
    observations: Sequence[Observation], name: str, predicted: Callable[[Scale], float]
) -> HeldOutError:
    """Relative errors of `name`, over the measurements that are not nothing."""
    errors = {
        each.size: abs(predicted(each.scale) / each.figures[name] - 1)
        for each in observations
        if each.figures.get(name, 0.0) > 0
    }
    worst = max(errors, key=errors.__getitem__)
    return HeldOutError(
        median=median(errors.values()), worst=errors[worst], measurements=len(errors), worst_at=worst
    )


def _sum(coefficients: Mapping[str, float], value: Callable[[str], float]) -> float:
    return sum(each * value(term) for term, each in coefficients.items())
