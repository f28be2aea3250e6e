"""How the centre, and every site that checks it, turns a mean update into the next model.

1. `mean_update` is the sites' mean of (local - global): already a descent direction, so it is added.
2. Only element-wise float64 addition, multiplication, division, square root, sign and comparison are used. IEEE 754 rounds
   each correctly, so every machine computes the same model to the bit and digests can be compared.
3. A step that would leave the finite numbers is refused; the old model and state are never changed.

FedAdam and FedYogi follow Reddi et al. 2021 ("Adaptive Federated Optimization"), algorithm 2: no bias correction, second
moments start at tau^2. FedAvgM follows Hsu, Qi, Brown 2019.
"""

import math
import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Final, Protocol, Self

import numpy as np

from strategies.encoding import (
    Vector,
    digest_of,
    first_not_finite,
    vector_digest,
    vector_from_bytes,
    vector_pieces,
)
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest
from strategies.pieces import Bytes, Pieces, pieces_of

_HEADER: Final = struct.Struct("<QQ")
_FLOAT64_BYTES: Final = 8
_MOST_STEPS: Final = 2**53 - 1  # what canonical JSON holds exactly
_BLOCK: Final = 1 << 16  # values that are worked on together


@dataclass(frozen=True, slots=True, eq=False)
class OptimizerState:
    """What an optimiser remembers after `step` steps: `slots` are its moments, each (d,) float64.

    Compare states by `digest`.
    """

    step: int
    slots: tuple[Vector, ...]

    @property
    def digest(self) -> Digest:
        """SHA-256 over the step and the digests of all slots, as canonical JSON."""
        slots = [vector_digest(slot) for slot in self.slots]
        return digest_of({"covenant": "optimizer-state/v1", "step": self.step, "slots": slots})

    def to_bytes(self) -> bytes:
        """Step and number of slots, each a little-endian uint64, then the slots as `vector_bytes`."""
        return self.to_pieces().joined()

    def to_pieces(self) -> Pieces:
        """The same bytes; those of slots lie where they lie."""
        header = Pieces((_HEADER.pack(self.step, len(self.slots)),))
        return Pieces(part for each in (header, *map(vector_pieces, self.slots)) for part in each.parts)

    @classmethod
    def from_bytes(cls, data: Bytes, size: int) -> Self:
        """Read a state for a model of `size` parameters. Raises Refused for a wrong length or values not finite."""
        if size < 1:
            raise UsageError(f"the model has {size} parameters; a state belongs to at least 1")
        if len(data) < _HEADER.size:
            raise Refused(f"the optimiser state has {len(data)} bytes; its header alone takes {_HEADER.size}")
        pieces = pieces_of(data)
        step, count = _HEADER.unpack(pieces.between(0, _HEADER.size).joined())
        if step > _MOST_STEPS:
            raise Refused(f"the optimiser state is after {step} steps; at most {_MOST_STEPS} are possible")
        each = _FLOAT64_BYTES * size
        expected = _HEADER.size + count * each
        if len(data) != expected:
            raise Refused(
                f"the optimiser state has {len(data)} bytes; {count} slots of {size} values take {expected}"
            )
        starts = range(_HEADER.size, expected, each)
        return cls(
            step, tuple(vector_from_bytes(pieces.between(start, start + each), size) for start in starts)
        )


class ServerOptimizer(Protocol):
    """A rule for the next model. Implementations are frozen settings; all memory is in the state."""

    def initial(self, size: int) -> OptimizerState:
        """The state before the first step for a model of `size` parameters."""
        ...

    def step(
        self, model: Vector, mean_update: Vector, state: OptimizerState, *, into: Vector | None = None
    ) -> tuple[Vector, OptimizerState]:
        """The next model and state, all (d,) float64; the arguments stay as they are.

        But for `into`, (d,) float64: the next model is written there, and it may be `mean_update` itself, which is lost then.
        Raises UsageError when lengths or the number of slots do not fit together, Refused when an argument is not
        finite, CovenantError when the step diverges.
        """
        ...


class _Elementwise(ABC):
    """A rule in which each value depends on the values in its own place alone, and which is taken block by block: beside the results nothing of full
    length is in memory."""

    __slots__ = ()
    _slots: ClassVar[int]

    def step(
        self, model: Vector, mean_update: Vector, state: OptimizerState, *, into: Vector | None = None
    ) -> tuple[Vector, OptimizerState]:
        """See `ServerOptimizer.step`."""
        following = np.empty_like(model) if into is None else into
        _check(model, mean_update, state, following, slots=self._slots)
        slots = tuple(np.empty_like(model) for _ in state.slots)
        with np.errstate(over="ignore", invalid="ignore"):
            for first in range(0, len(model), _BLOCK):
                part = slice(first, first + _BLOCK)
                kept = tuple(slot[part] for slot in state.slots)
                following[part], kept = self._block(model[part], mean_update[part], kept)
                for slot, block in zip(slots, kept, strict=True):
                    slot[part] = block
        return _finite(following, OptimizerState(state.step + 1, slots))

    @abstractmethod
    def _block(
        self, model: Vector, update: Vector, slots: tuple[Vector, ...]
    ) -> tuple[Vector, tuple[Vector, ...]]:
        """The next values and slots of a block."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAvg(_Elementwise):
    """model + learning_rate x update; with 1.0 the mean of the sites' models (McMahan et al. 2017)."""

    _slots: ClassVar[int] = 0
    learning_rate: float = 1.0

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate)

    def initial(self, size: int) -> OptimizerState:  # noqa: ARG002  (the protocol's signature)
        """Nothing to remember but the step."""
        return OptimizerState(0, ())

    def _block(
        self, model: Vector, update: Vector, slots: tuple[Vector, ...]
    ) -> tuple[Vector, tuple[Vector, ...]]:
        return model + self.learning_rate * update, slots


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAvgM(_Elementwise):
    """Momentum at the server: m = momentum x m + update; model + learning_rate x m (Hsu et al. 2019, section 4.3)."""

    _slots: ClassVar[int] = 1
    learning_rate: float
    momentum: float

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate)
        _decay("momentum", self.momentum)

    def initial(self, size: int) -> OptimizerState:
        """Momentum zero."""
        return OptimizerState(0, (np.zeros(size),))

    def _block(
        self, model: Vector, update: Vector, slots: tuple[Vector, ...]
    ) -> tuple[Vector, tuple[Vector, ...]]:
        momentum = self.momentum * slots[0] + update
        return model + self.learning_rate * momentum, (momentum,)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Adaptive(_Elementwise):
    """What FedAdam and FedYogi share: everything but the second moment's rule."""

    _slots: ClassVar[int] = 2
    learning_rate: float
    beta1: float
    beta2: float
    tau: float

    def __post_init__(self) -> None:
        _positive("learning_rate", self.learning_rate)
        _decay("beta1", self.beta1)
        _decay("beta2", self.beta2)
        _positive("tau", self.tau)

    def initial(self, size: int) -> OptimizerState:
        """First moment zero, second moment tau^2."""
        return OptimizerState(0, (np.zeros(size), np.full(size, self.tau * self.tau)))

    def _block(
        self, model: Vector, update: Vector, slots: tuple[Vector, ...]
    ) -> tuple[Vector, tuple[Vector, ...]]:
        first = self.beta1 * slots[0] + (1.0 - self.beta1) * update
        second = self._second_moment(slots[1], update * update)
        return model + self.learning_rate * first / (np.sqrt(second) + self.tau), (first, second)

    @abstractmethod
    def _second_moment(self, second: Vector, squared: Vector) -> Vector:
        """The next second moment of a block from the last one and the squared update."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FedAdam(_Adaptive):
    """Adaptive steps with exponential second moments: v = beta2 v + (1 - beta2) update^2."""

    def _second_moment(self, second: Vector, squared: Vector) -> Vector:
        return self.beta2 * second + (1.0 - self.beta2) * squared


@dataclass(frozen=True, slots=True, kw_only=True)
class FedYogi(_Adaptive):
    """Adaptive steps with additive second moments: v = v - (1 - beta2) update^2 sign(v - update^2)."""

    def _second_moment(self, second: Vector, squared: Vector) -> Vector:
        return second - (1.0 - self.beta2) * squared * np.sign(second - squared)


def _check(
    model: Vector, mean_update: Vector, state: OptimizerState, following: Vector, *, slots: int
) -> None:
    """Refuse what does not fit together before anything is computed."""
    shapes = {array.shape for array in (model, mean_update, following, *state.slots)}
    if len(shapes) > 1 or model.ndim != 1:
        raise UsageError(
            f"model, update and optimiser state have shapes {sorted(shapes)}; all must be one (d,)"
        )
    if len(state.slots) != slots:
        raise UsageError(
            f"the state has {len(state.slots)} slots; this optimiser keeps {slots}: was it changed mid-run?"
        )
    if first_not_finite(model) is not None or first_not_finite(mean_update) is not None:
        raise Refused("the model or the mean update holds NaN or an infinity; every value must be finite")


def _finite(model: Vector, state: OptimizerState) -> tuple[Vector, OptimizerState]:
    """Pass on a step whose every value is finite."""
    if any(first_not_finite(array) is not None for array in (model, *state.slots)):
        raise CovenantError(
            f"step {state.step} of the server optimiser left the finite numbers; use a smaller learning rate"
        )
    return model, state


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0.0):
        raise UsageError(f"{name} of the server optimiser is {value}; use a finite number above 0")


def _decay(name: str, value: float) -> None:
    if not 0.0 <= value < 1.0:  # phrased so that NaN is refused
        raise UsageError(f"{name} of the server optimiser is {value}; use a number from 0 to below 1")
