"""What every accountant keeps: a test class inherits this and says which accountant."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from strategies.dp.accountants import Accountant
from strategies.dp.curves import UnsupportedRelease
from strategies.dp.events import Part, Release
from strategies.dp.units import PrivacyUnit
from strategies.errors import UsageError
from tests.strategies.dp.releases_for_tests import CUSTOMER, RECORD, SPLIT, gaussian, silent

PUBLISHED = json.loads((Path(__file__).parents[1] / "vectors/dp/published_epsilons.json").read_text())[
    "cases"
]
DELTA = 1e-6

noises = st.floats(0.8, 20.0)
rates = st.sampled_from([1.0, 0.5, 0.1, 0.01])
counts = st.integers(1, 20)

inherited = settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
"""Each subclass runs the same property, for its own accountant: an example that failed for one is merely tried for the other."""


class AccountantContract:
    """Inherit, and set `accountant` and the published `conversion` that it follows."""

    accountant: Accountant
    conversion: str

    def epsilon(self, charges: dict[Release, int], delta: float = DELTA, unit: PrivacyUnit = RECORD) -> float:
        guarantee = self.accountant.guarantee(charges, delta, unit)
        assert (guarantee.delta, guarantee.unit) == (delta, unit)
        return guarantee.epsilon

    def test_nothing_released_is_epsilon_zero(self) -> None:
        assert self.epsilon({}) == 0.0
        assert self.epsilon({gaussian(): 0}) == 0.0

    @inherited
    @given(noises, rates, counts, counts)
    def test_more_releases_promise_no_more(self, noise: float, rate: float, count: int, more: int) -> None:
        release = gaussian(noise, rate=rate)
        assert self.epsilon({release: count + more}) >= self.epsilon({release: count}) - 1e-6

    @inherited
    @given(noises, rates, rates, counts)
    def test_sampling_more_promises_no_more(
        self, noise: float, rate: float, other: float, count: int
    ) -> None:
        low, high = sorted([rate, other])
        assert (
            self.epsilon({gaussian(noise, rate=high): count})
            >= self.epsilon({gaussian(noise, rate=low): count}) * 0.999 - 1e-6
        )

    @inherited
    @given(noises, noises, rates, counts)
    def test_less_noise_promises_no_more(self, noise: float, other: float, rate: float, count: int) -> None:
        low, high = sorted([noise, other])
        assert (
            self.epsilon({gaussian(low, rate=rate): count})
            >= self.epsilon({gaussian(high, rate=rate): count}) * 0.999 - 1e-6
        )

    def test_the_order_of_charges_does_not_matter(self) -> None:
        charges = [(gaussian(2.0, rate=0.1), 3), (gaussian(5.0), 2), (gaussian(1.0, rate=0.01), 7)]
        assert self.epsilon(dict(charges)) == self.epsilon(dict(reversed(charges)))

    def test_steps_are_as_good_as_repetitions(self) -> None:
        assert self.epsilon({gaussian(2.0, rate=0.1, steps=12): 2}) == pytest.approx(
            self.epsilon({gaussian(2.0, rate=0.1): 24}), rel=1e-9
        )

    def test_a_release_without_noise_is_refused(self) -> None:
        with pytest.raises(UnsupportedRelease, match="exemption"):
            self.epsilon({silent(gaussian()): 1})

    def test_total_variation_is_taken_off_delta(self) -> None:
        clean = gaussian(2.0, rate=0.1, steps=10)
        near, far = replace(clean, total_variation=1e-12), replace(clean, total_variation=1e-8)
        assert self.epsilon({clean: 1}) < self.epsilon({near: 1}) < self.epsilon({far: 1}) < math.inf
        epsilon = self.epsilon({far: 1})
        left = DELTA - 10 * 1e-8 * (1.0 + math.exp(epsilon))
        assert 0.0 < left < 0.9 * DELTA
        assert self.epsilon({clean: 1}, delta=left) <= epsilon <= 1.001 * self.epsilon({clean: 1}, delta=left)

    @pytest.mark.parametrize("eta", [1e-6, 5e-7, 0.5])
    def test_total_variation_that_eats_delta_promises_nothing(self, eta: float) -> None:
        assert math.isinf(self.epsilon({replace(gaussian(2.0), total_variation=eta): 1}))

    def test_parts_compose_in_parallel(self) -> None:
        training, evaluation = (
            replace(gaussian(noise), part=part, partition=SPLIT)
            for noise, part in zip((2.0, 3.0), Part, strict=True)
        )
        alone, together = self.epsilon({training: 1}), self.epsilon({training: 1, evaluation: 1})
        assert together == pytest.approx(alone, rel=1e-9)
        assert self.epsilon({training: 1, evaluation: 5}) == pytest.approx(
            self.epsilon({evaluation: 5}), rel=1e-9
        )
        assert self.epsilon({training: 1, gaussian(3.0): 1}) > alone

    @pytest.mark.parametrize("delta", [0.0, 1.0, -1.0, math.nan])
    def test_a_delta_outside_its_bounds_is_refused(self, delta: float) -> None:
        with pytest.raises(UsageError, match="delta"):
            self.accountant.guarantee({gaussian(): 1}, delta, RECORD)

    def test_releases_about_another_unit_are_refused(self) -> None:
        with pytest.raises(UsageError, match="asked for is per record"):
            self.epsilon({gaussian(unit=CUSTOMER): 1})
        with pytest.raises(UsageError, match="up to 2"):
            self.epsilon({gaussian(unit=CUSTOMER): 1}, unit=replace(CUSTOMER, max_sites=2))

    def test_noise_too_small_promises_nothing(self) -> None:
        assert math.isinf(self.epsilon({gaussian(1e-160): 1}))

    @pytest.mark.parametrize("case", PUBLISHED, ids=lambda case: case["source"].split(":")[0])
    def test_published_figures_are_met(self, case: dict[str, float]) -> None:
        release = gaussian(case["noise_multiplier"], rate=case["sampling_rate"], steps=int(case["steps"]))
        epsilon = self.epsilon({release: 1}, delta=case["delta"])
        if case["conversion"] == self.conversion:
            assert epsilon == pytest.approx(case["epsilon"], rel=0.01)
        elif self.conversion == "none":
            assert epsilon < case["epsilon"]  # the tight figure is below every other
