"""Releases: what left, or will leave, a site, as the mathematics that decides what it costs. There is no epsilon in a release.

1. A release is immutable, has one canonical form and one digest; equal mathematics has equal digests.
2. Noise is stated as the variance that the plan's accepted survivors make certain, on the sum, and the sensitivity of the sum to one unit at
   one site, in the same integer steps of the grid (or, for `GAUSSIAN`, in the plan's own unit).
3. `total_variation` bounds the distance of the sampled noise's law, all coordinates together, from the law that the mathematics is about;
   it is charged to delta.
4. Releases of two parts of a population that a public hash of the key tells apart compose in parallel: no unit is in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Self

from strategies.dp.facts import number, require_names, text
from strategies.dp.units import Neighbours, PrivacyUnit, is_whole
from strategies.encoding import digest_of
from strategies.errors import UsageError
from strategies.ids import Digest

MOST_STEPS: Final = 1_000_000
MOST_DIMENSION: Final = 1 << 40
MOST_SHARES: Final = 1 << 20


class Mechanism(StrEnum):
    """Where noise is added, and of which law."""

    DISTRIBUTED = "discrete-gaussian-shares"
    """Each site adds a share of discrete Gaussian noise before masking; only the noisy sum is opened."""
    CENTRAL = "discrete-gaussian-central"
    """The coordinator adds discrete Gaussian noise to the opened sum, which it has seen."""
    LOCAL = "discrete-gaussian-local"
    """The site adds all the discrete Gaussian noise itself."""
    GAUSSIAN = "gaussian"
    """The site adds floating-point Gaussian noise itself (DP-SGD with Opacus)."""
    NONE = "none"
    """No noise: no epsilon is finite. Accountants refuse it; accounts record it and leave it out of every figure (`budget.exempted`)."""


class Part(StrEnum):
    """Which rows of a partition a release is about."""

    TRAINING = "training"
    EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """How a public hash tells two parts of a population apart: `by` a column, with `salt` and the evaluation part's `share`.

    Raises UsageError for a share that is not between 0 and 1.
    """

    contract: str
    """Its digest: under another contract the column may hold other keys, which divide the population in another way."""
    by: str
    salt: str
    share: float

    def __post_init__(self) -> None:
        if not 0.0 < self.share < 1.0:  # phrased so that NaN is refused
            raise UsageError(f"the evaluation part's share is {self.share}; use a number above 0 and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """One opened sum, or `steps` of them composed, as the noise and sampling that protect one unit at one site.

    `sampling_rate` is the probability with which the site's secret randomness takes each unit into one step; 1 is all of them.
    `sensitivity` (L2) and `variance` are in the same steps; the variance is that of the sum of `shares` independent, equal noises. `dimension`
    is the length of the vector. Raises UsageError for NaN and for values outside their bounds.
    """

    what: str
    mechanism: Mechanism
    unit: PrivacyUnit
    sampling_rate: float
    steps: int
    sensitivity: float
    variance: float
    shares: int
    dimension: int
    total_variation: float = 0.0
    neighbours: Neighbours = Neighbours.ADD_OR_REMOVE_ONE
    part: Part = Part.TRAINING
    partition: Partition | None = None

    def __post_init__(self) -> None:
        if not 0.0 < self.sampling_rate <= 1.0:  # phrased, here and below, so that NaN is refused
            raise UsageError(f"the sampling rate is {self.sampling_rate}; use a number above 0 and at most 1")
        if not is_whole(self.steps, MOST_STEPS):
            raise UsageError(f"a release has {self.steps} steps; use 1 to {MOST_STEPS}")
        if not 0.0 < self.sensitivity < math.inf:
            raise UsageError(f"the sensitivity is {self.sensitivity}; use a finite number above 0")
        silent = self.mechanism is Mechanism.NONE
        if not (0.0 < self.variance < math.inf or (silent and self.variance == 0.0)):
            raise UsageError(f"the noise has variance {self.variance}; use a finite number above 0")
        if not (is_whole(self.shares, MOST_SHARES) and is_whole(self.dimension, MOST_DIMENSION)):
            raise UsageError(
                f"a release of {self.shares} shares of noise on {self.dimension} coordinates; use at least one of each, and whole numbers"
            )
        if not 0.0 <= self.total_variation < 1.0:
            raise UsageError(f"the total variation is {self.total_variation}; use a number from 0 to below 1")

    @property
    def noise_multiplier(self) -> float:
        """Standard deviation of the noise over the sensitivity."""
        return math.sqrt(self.variance) / self.sensitivity

    @property
    def digest(self) -> Digest:
        """SHA-256 of the canonical form."""
        return digest_of(self.facts())

    def facts(self) -> dict[str, Any]:
        """The release as JSON values; `from_facts` reads it back."""
        partition = self.partition
        return {
            "covenant": "release/v1",
            "what": self.what,
            "mechanism": str(self.mechanism),
            "unit": self.unit.facts(),
            "neighbours": str(self.neighbours),
            "sampling_rate": self.sampling_rate,
            "steps": self.steps,
            "sensitivity": self.sensitivity,
            "variance": self.variance,
            "shares": self.shares,
            "dimension": self.dimension,
            "total_variation": self.total_variation,
            "part": str(self.part),
            "partition": None
            if partition is None
            else {
                "contract": partition.contract,
                "by": partition.by,
                "salt": partition.salt,
                "share": partition.share,
            },
        }  # fmt: skip

    @classmethod
    def from_facts(cls, facts: dict[str, Any]) -> Self:
        """Read `facts()` back, whoever wrote them. Raises UsageError for what is no release, and for anything that is not in one."""
        try:
            if facts["covenant"] != "release/v1":
                raise UsageError(f"a release of format {facts['covenant']!r}; this version reads release/v1")
            require_names(facts, cls, "covenant")
            return cls(
                what=text(facts["what"]),
                mechanism=Mechanism(facts["mechanism"]),
                unit=PrivacyUnit.from_facts(facts["unit"]),
                neighbours=Neighbours(facts["neighbours"]),
                sampling_rate=number(facts["sampling_rate"]),
                steps=facts["steps"],
                sensitivity=number(facts["sensitivity"]),
                variance=number(facts["variance"]),
                shares=facts["shares"],
                dimension=facts["dimension"],
                total_variation=number(facts["total_variation"]),
                part=Part(facts["part"]),
                partition=None if facts["partition"] is None else _partition(facts["partition"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(f"this is no release: {error}") from error

    def own_noise(self) -> Self:
        """The same release if only this site's own share of the noise counts: a site's worst case.

        Central noise is not a site's own: nothing is left, and the result is a release without noise.
        """
        if self.mechanism is Mechanism.CENTRAL:
            return replace(self, mechanism=Mechanism.NONE, variance=0.0, total_variation=0.0)
        return replace(self, variance=self.variance / self.shares, shares=1)

    def for_person_at(self, sites: int) -> Self:
        """The release for a person whose rows are at `sites` of the sites in the sum.

        At least one site takes the person with probability 1 - (1 - q)^sites, and then the sum moves by at most sites x sensitivity: a
        mixture of shifts, which the longest of them dominates because Rényi divergence is quasi-convex in the pair (docs/privacy-model.md).
        Where each site adds all the noise itself, the person's sites release separately, so the steps compose instead.
        """
        if sites < 1:
            raise UsageError(f"a person is at {sites} sites; use at least 1")
        if sites == 1:
            return self  # to the bit: the way below rounds
        if self.mechanism in {Mechanism.LOCAL, Mechanism.GAUSSIAN}:
            return replace(self, steps=self.steps * sites)
        rate = -math.expm1(sites * math.log1p(-self.sampling_rate)) if self.sampling_rate < 1.0 else 1.0
        return replace(self, sampling_rate=min(1.0, rate), sensitivity=self.sensitivity * sites)


def _partition(facts: dict[str, Any]) -> Partition:
    require_names(facts, Partition)
    return Partition(
        contract=text(facts["contract"]),
        by=text(facts["by"]),
        salt=text(facts["salt"]),
        share=number(facts["share"]),
    )
