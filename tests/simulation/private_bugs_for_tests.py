"""Faults that privacy does not survive, each as a stand-in to plant in the real code. They are loud, and live in tests only."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import numpy as np
import pytest

import client.secure.inputs
import coordinator.rounds.opened
from client.accounts.book import ChargeReceipt
from client.secure.inputs import Inputs
from client.training import local, private
from client.training.private import PrivateSession
from protos.frames import Stage, Statement
from protos.plan_releases import PlannedReleases, releases_of
from strategies.dp.clipping import FRACTION_BITS, clipped_sum
from strategies.dp.events import Release
from strategies.dp.noise import NoiseSeed
from strategies.dp.poisson import sampled
from strategies.secagg.secrets import MaskSeed

Plant = Callable[[pytest.MonkeyPatch], None]
FAR = 2**10
"""A gradient is never so many clipping norms long here."""


# --- clipping ---------------------------------------------------------------------------------------------------------


def the_batch_is_clipped(patch: pytest.MonkeyPatch) -> None:
    """The mean gradient of the step is clipped, and not each unit's."""

    def unsafe(*given: object, clip: float, **other: object) -> np.ndarray:
        whole = clipped_sum(*given, clip=FAR * clip, **other) * float(FAR)
        most = 2.0**FRACTION_BITS * len(given[3])
        return np.trunc(whole * min(1.0, most / max(1.0, float(np.linalg.norm(whole))))).astype(np.int64)

    patch.setattr(private, "clipped_sum", unsafe)


def rows_are_clipped(patch: pytest.MonkeyPatch) -> None:
    """Each row of a customer is clipped for itself."""

    def unsafe(*given: object, units: object = None, **other: object) -> np.ndarray:
        return clipped_sum(*given, **other)

    patch.setattr(private, "clipped_sum", unsafe)


def nothing_is_clipped(patch: pytest.MonkeyPatch) -> None:
    """Gradients are summed up as they are."""

    def unsafe(*given: object, clip: float, **other: object) -> np.ndarray:
        return clipped_sum(*given, clip=FAR * clip, **other) * FAR

    patch.setattr(private, "clipped_sum", unsafe)


def the_local_batch_is_clipped(patch: pytest.MonkeyPatch) -> None:
    """dp-sgd: the mean gradient of a step is clipped, and not each unit's."""

    class Unsafe(local.SecureOptimiser):
        def clip_and_accumulate(self) -> None:
            samples = [each.flatten(1) for each in self.grad_samples]
            norm = sum(each.mean(0).square().sum() for each in samples).sqrt()
            factor = (self.max_grad_norm / (norm + 1e-12)).clamp(max=1.0)
            for parameter in self.params:
                parameter.summed_grad = self._get_flat_grad_sample(parameter).sum(0) * factor

    patch.setattr(local, "SecureOptimiser", Unsafe)


# --- sampling ---------------------------------------------------------------------------------------------------------


def the_rate_is_of_actual_units(patch: pytest.MonkeyPatch) -> None:
    """The expected batch over the units that the site really has."""

    def unsafe(rate: float, size: int, seed: MaskSeed) -> np.ndarray:
        return sampled(min(1.0, rate * 160 / size), size, seed)

    patch.setattr(private, "sampled", unsafe)
    patch.setattr(local, "sampled", unsafe)


def a_batch_has_a_fixed_size(patch: pytest.MonkeyPatch) -> None:
    """So many units each time, drawn without replacement."""

    def unsafe(rate: float, size: int, seed: MaskSeed) -> np.ndarray:
        order = np.random.default_rng(list(seed.reveal())).permutation(size)
        return order < round(rate * size)

    patch.setattr(private, "sampled", unsafe)


def every_sample_is_the_same(patch: pytest.MonkeyPatch) -> None:
    """The sample is a function of the plan."""
    patch.setattr(private, "sampled", lambda rate, size, seed: sampled(rate, size, MaskSeed(bytes(32))))


def rows_are_sampled(patch: pytest.MonkeyPatch) -> None:
    """Each row is taken or not, whosever it is."""

    def unsafe(session: PrivateSession, model: np.ndarray, scaling: object, seed: MaskSeed) -> np.ndarray:
        rule, part = session._rule, session._training
        rows = np.flatnonzero(sampled(rule.sampling_rate, len(part.unit), seed))
        x, y = session._inputs(scaling)[rows], part.table.target[rows]
        return private.clipped_sum(
            session.model, model, x, y, clip=rule.clip, weights=rule.class_weights, units=part.unit[rows]
        )

    patch.setattr(PrivateSession, "gradient_sum", unsafe)


# --- denominators -----------------------------------------------------------------------------------------------------


def a_sum_is_divided_by_the_batch_that_was_taken(patch: pytest.MonkeyPatch) -> None:
    """As if to undo that more or fewer were taken than expected."""

    def unsafe(*given: object, **other: object) -> np.ndarray:
        return np.rint(clipped_sum(*given, **other) * (160 / max(1, len(given[3])))).astype(np.int64)

    patch.setattr(private, "clipped_sum", unsafe)


def a_sum_is_divided_by_rows_that_were_counted(patch: pytest.MonkeyPatch) -> None:
    """By all training rows of the site, taken or not."""
    real = PrivateSession.gradient_sum

    def unsafe(session: PrivateSession, *given: object) -> np.ndarray:
        return np.rint(real(session, *given) * (160 / max(1, session.rows[0]))).astype(np.int64)

    patch.setattr(PrivateSession, "gradient_sum", unsafe)


def a_local_step_is_divided_by_the_batch_that_was_taken(patch: pytest.MonkeyPatch) -> None:
    """dp-sgd: as `a_sum_is_divided_by_the_batch_that_was_taken`."""

    class Unsafe(local.SecureOptimiser):
        def clip_and_accumulate(self) -> None:
            self.expected_batch_size = max(1, len(self.grad_samples[0]))
            super().clip_and_accumulate()

    patch.setattr(local, "SecureOptimiser", Unsafe)


# --- noise ------------------------------------------------------------------------------------------------------------


def noise_is_told_apart_only_by(*names: str) -> Plant:
    """Two inputs of one site, round or attempt have the same noise, if nothing of `names` differs."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = Inputs.compute

        def unsafe(inputs: Inputs, said: Statement, *given: object) -> object:
            facts = {"site": inputs.site, "round": said.round, "attempt": said.attempt}
            key = hashlib.sha256(repr([facts[name] for name in names]).encode()).digest()
            patch.setattr(client.secure.inputs, "NoiseSeed", lambda _: NoiseSeed(key))
            return real(inputs, said, *given)

        patch.setattr(Inputs, "compute", unsafe)

    return plant


def the_centre_always_draws_the_same(patch: pytest.MonkeyPatch) -> None:
    """Central noise from a constant."""
    patch.setattr(coordinator.rounds.opened, "NoiseSeed", lambda _: NoiseSeed(bytes(32)))


# --- charges ----------------------------------------------------------------------------------------------------------


def a_stage_is_not_charged(stage: Stage) -> Plant:
    """The site gives itself a receipt."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = Inputs._charged

        def unsafe(inputs: Inputs, said: Statement) -> ChargeReceipt | None:
            if said.stage is not stage:
                return real(inputs, said)
            return ChargeReceipt(releases_of(inputs.plan, inputs.contract).of(stage.name.lower()), 0)

        patch.setattr(Inputs, "_charged", unsafe)

    return plant


def charged_once_a_stage(patch: pytest.MonkeyPatch) -> None:
    """All rounds for the price of the first."""
    real = Inputs._charged

    def unsafe(inputs: Inputs, said: Statement) -> ChargeReceipt | None:
        if said.round < 2:
            return real(inputs, said)
        return ChargeReceipt(releases_of(inputs.plan, inputs.contract).of(said.stage.name.lower()), 0)

    patch.setattr(Inputs, "_charged", unsafe)


def the_forecast_leaves_out(stage: str) -> Plant:
    """A plan that seems to cost less than it does."""

    def plant(patch: pytest.MonkeyPatch) -> None:
        real = PlannedReleases.planned

        def unsafe(planned: PlannedReleases, *, rounds: int | None = None) -> Mapping[Release, int]:
            every = real(planned, rounds=rounds)
            return {release: times for release, times in every.items() if release != planned.of(stage)}

        patch.setattr(PlannedReleases, "planned", unsafe)

    return plant
