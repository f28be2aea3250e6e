"""Releases that tests use, with defaults for what does not matter."""

from __future__ import annotations

from dataclasses import replace

from strategies.dp.events import Mechanism, Partition, Release
from strategies.dp.units import PrivacyUnit, UnitKind

RECORD = PrivacyUnit(kind=UnitKind.RECORD)
CUSTOMER = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=8)
SPLIT = Partition(contract="ab" * 32, by="customer_id", salt="a", share=0.2)
OTHER_SPLIT = Partition(contract="ab" * 32, by="customer_id", salt="b", share=0.5)


def gaussian(
    noise_multiplier: float = 1.0, *, rate: float = 1.0, steps: int = 1, unit: PrivacyUnit = RECORD
) -> Release:
    """Floating-point Gaussian noise on a vector of sensitivity 1."""
    return Release(
        what="gradient",
        mechanism=Mechanism.GAUSSIAN,
        unit=unit,
        sampling_rate=rate,
        steps=steps,
        sensitivity=1.0,
        variance=noise_multiplier**2,
        shares=1,
        dimension=10,
    )


def discrete(
    deviation: float,
    sensitivity: float = 1.0,
    *,
    rate: float = 1.0,
    shares: int = 1,
    dimension: int = 1,
    unit: PrivacyUnit = RECORD,
) -> Release:
    """Discrete Gaussian noise of `deviation` grid steps, summed from `shares`."""
    return Release(
        what="gradient",
        mechanism=Mechanism.DISTRIBUTED,
        unit=unit,
        sampling_rate=rate,
        steps=1,
        sensitivity=sensitivity,
        variance=deviation**2,
        shares=shares,
        dimension=dimension,
    )


def silent(release: Release) -> Release:
    """The same release without noise."""
    return replace(release, what="labels", mechanism=Mechanism.NONE, variance=0.0)
