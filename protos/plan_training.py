"""What a plan says about training: which algorithm, and the constants of each.

1. `fedavg` and `fedprox` train locally for some epochs and send the update. `dp-fedsgd` sends one clipped gradient sum a round. `dp-sgd` takes some
   private steps locally and sends the update.
2. A value that would do nothing does not exist: each algorithm has its own keys.
3. Expected batches and nominal rows are constants: nothing is divided by a number of rows that was counted.
"""

from collections.abc import Mapping
from typing import Annotated, Final, Literal, Self, assert_never

from pydantic import Field, model_validator

from protos.documents import FROZEN, FieldError, Part
from protos.names import ColumnName, Component, Word
from protos.quantities import Duration
from strategies import server_optimizers

# Canonical JSON (RFC 8785) holds integers exactly up to here.
_MAX_SEED: Final = 2**53 - 1
MAX_ROUNDS: Final = 10_000
MOST_EXPECTED: Final = 1 << 16
MOST_REWEIGHING: Final = 10.0

Positive = Annotated[float, Field(gt=0, le=1e6)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


class FedAvgOptimiser(Part):
    """The mean update, times `learning_rate` (McMahan et al. 2017)."""

    kind: Literal["fedavg"]
    learning_rate: Positive = 1.0


class FedAvgMOptimiser(Part):
    """Momentum at the server (Hsu et al. 2019)."""

    kind: Literal["fedavgm"]
    learning_rate: Positive = 1.0
    momentum: Fraction


class AdaptiveOptimiser(Part):
    """FedAdam and FedYogi; the defaults are those of Reddi et al. 2021, section 5 and appendix C."""

    kind: Literal["fedadam", "fedyogi"]
    learning_rate: Positive
    beta1: Fraction = 0.9
    beta2: Fraction = 0.99
    tau: Positive = 1e-3


class ClassWeights(Part):
    """What an example of each class counts in the loss; constants of the plan, never counted from rows."""

    negative: Positive = 1.0
    positive: Positive = 1.0


class GroupWeights(Part):
    """What an example of one protected group counts in the loss, by its class; 0 leaves it out."""

    negative: Annotated[float, Field(ge=0, le=MOST_REWEIGHING)] = 1.0
    positive: Annotated[float, Field(ge=0, le=MOST_REWEIGHING)] = 1.0


class Reweighing(Part):
    """What an example counts by its group of `attribute`, a protected one, beside its class weight; groups that are not named count 1.

    Constants of the plan (such as those of Kamiran and Calders 2012 from released counts), never counted from a site's rows. The attribute is read at the
    site for this, and is no feature.
    """

    attribute: ColumnName
    weights: Annotated[Mapping[Word, GroupWeights], Field(min_length=1, max_length=1001), *FROZEN]


class _Rounds(Part):
    """What every algorithm needs."""

    component: Component
    server_optimiser: Annotated[
        FedAvgOptimiser | FedAvgMOptimiser | AdaptiveOptimiser, Field(discriminator="kind")
    ] = FedAvgOptimiser(kind="fedavg")
    rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)]
    class_weights: ClassWeights = ClassWeights()
    reweigh: Reweighing | None = None
    round_deadline: Duration
    seed: Annotated[int, Field(ge=0, le=_MAX_SEED)]

    def server_optimizer(self) -> server_optimizers.ServerOptimizer:
        """The rule that turns a mean update into the next model."""
        match self.server_optimiser:
            case FedAvgOptimiser(learning_rate=rate):
                return server_optimizers.FedAvg(learning_rate=rate)
            case FedAvgMOptimiser(learning_rate=rate, momentum=momentum):
                return server_optimizers.FedAvgM(learning_rate=rate, momentum=momentum)
            case AdaptiveOptimiser() as chosen:
                kinds = {"fedadam": server_optimizers.FedAdam, "fedyogi": server_optimizers.FedYogi}
                return kinds[chosen.kind](
                    learning_rate=chosen.learning_rate, beta1=chosen.beta1, beta2=chosen.beta2, tau=chosen.tau
                )
            case unreachable:
                assert_never(unreachable)


class LocalTraining(_Rounds):
    """Passes over the site's rows in mini-batches, without privacy."""

    algorithm: Literal["fedavg", "fedprox"]
    proximal_mu: Positive | None = None
    local_epochs: Annotated[int, Field(ge=1, le=1000)] = 1
    batch_size: Annotated[int, Field(ge=1, le=1_000_000)]
    learning_rate: Positive
    l2: Annotated[float, Field(ge=0, le=1e6)] = 0.0

    @model_validator(mode="after")
    def _mu_belongs_to_fedprox(self) -> Self:
        if self.algorithm == "fedprox" and self.proximal_mu is None:
            raise FieldError("proximal_mu", "algorithm fedprox needs it; add it, such as proximal_mu: 0.01")
        if self.algorithm != "fedprox" and self.proximal_mu is not None:
            raise FieldError(
                "proximal_mu", f"algorithm {self.algorithm} does not use it; remove it or choose fedprox"
            )
        return self


class _Sampled(_Rounds):
    """Each step takes every unit with probability `expected_batch` / `nominal_rows`, by the site's own secret randomness, and clips its
    gradient to L2 norm `clip`. Both numbers are of units, a site, and public: whatever a site really has, they stay."""

    expected_batch: Annotated[int, Field(ge=1, le=MOST_EXPECTED)]
    nominal_rows: Annotated[int, Field(ge=1, le=10**9)]
    clip: Positive = 1.0

    @model_validator(mode="after")
    def _rate_is_a_probability(self) -> Self:
        if self.expected_batch > self.nominal_rows:
            raise FieldError(
                "expected_batch",
                f"{self.expected_batch} of {self.nominal_rows} nominal rows is a sampling rate above 1; lower it or raise nominal_rows",
            )
        return self

    @property
    def sampling_rate(self) -> float:
        """The probability with which a unit is taken into one step."""
        return self.expected_batch / self.nominal_rows


class GradientSums(_Sampled):
    """One clipped gradient sum a round, opened with noise only (DP-FedSGD). `rotation` spreads it over its coordinates first."""

    algorithm: Literal["dp-fedsgd"]
    rotation: Literal["none", "hadamard"] = "none"


class PrivateSteps(_Sampled):
    """`local_steps` noisy steps at the site (DP-SGD; Abadi et al. 2016), of which the update is sent."""

    algorithm: Literal["dp-sgd"]
    local_steps: Annotated[int, Field(ge=1, le=10_000)]
    learning_rate: Positive


Training = Annotated[LocalTraining | GradientSums | PrivateSteps, Field(discriminator="algorithm")]
