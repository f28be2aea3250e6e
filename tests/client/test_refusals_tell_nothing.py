"""What cannot be computed says nothing about rows, whatever model the coordinator has chosen. Attacks are named, and work with their guard off."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client.training import TrainingSession
from protos.frames import Refusal, RefusalCode, SecureAnswer, Stage
from protos.plan_training import FedAvgOptimiser
from strategies.features import Scaling
from strategies.secagg.messages import MaskedInput
from strategies.secagg.payloads import WeightedUpdates
from tests.client.rounds_for_tests import Guard, another_run, off, training
from tests.client.secure_for_tests import OTHERS, SITES, VICTIM, SecureBank, Sum, Told, begun, secure_plan

FAILED = Refusal(RefusalCode.FAILED, "could not compute the {} stage; the site's log says why")


def failed(stage: str) -> Refusal:
    return replace(FAILED, reason=FAILED.reason.format(stage))


# A row beyond a bound: the coordinator chooses the aggregate, and with it a model that has no score for such a row.

ADDS_UP = pytest.mark.parametrize(
    "bank", [secure_plan(server_optimiser=FedAvgOptimiser(kind="fedavg"))], indirect=True, ids=["fedavg"]
)
"""The next model is the last one and the aggregate: whoever chooses the aggregate chooses the model."""
HUGE = float(np.finfo(np.float64).max)
QUESTIONS = 12


def is_refused(bank: SecureBank, bound: float, question: int) -> bool:
    """Whether the victim refuses a model of which a score is infinity less infinity for a row whose amount is beyond `bound`.

    No other site is asked for an input, and nothing is opened. Each question is one of a run of its own.
    """
    first, optimiser = begun(bank), bank.plan.server_optimizer()
    assert first.model is not None
    assert first.optimizer is not None
    aggregate = np.zeros(first.model.size)
    aggregate[:2] = HUGE / (bound * 1e6), -HUGE
    model, state = optimiser.step(first.model, aggregate, first.optimizer)
    scaling = Scaling(mean=(0.0, -1.0), std=(1e-6, 1e-6))
    told = Told(model=model, optimizer=state, scaling=scaling, aggregate=aggregate)
    asked = Sum(bank, Stage.EVALUATE, 1, told=told, run=another_run(question))
    body = bank.said(VICTIM, asked.mask_request(asked.set_up(), VICTIM)).body
    assert isinstance(body, SecureAnswer) or body == failed("evaluate")
    return isinstance(body, Refusal)


def searched(bank: SecureBank) -> float:
    """The largest amount of a held-out row of the victim, as far as refusals tell: in units of the largest that there may be."""
    low, high = 0.0, 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of arithmetic with infinities
        for question in range(QUESTIONS):
            middle = (low + high) / 2
            if is_refused(bank, middle, question):
                low = middle
            else:
                high = middle
    return high


def largest(bank: SecureBank) -> float:
    session = bank.session(VICTIM)
    units = session._spec.unit_values(session._evaluating.columns)
    return float(units[~np.isnan(units[:, 1]), 0].max())  # of those with an income


@ADDS_UP
def test_a_search_for_a_row_by_refusals(bank: SecureBank) -> None:
    """The real scores of a model that the coordinator has chosen: the site answers with a masked input each time."""
    assert searched(bank) == 0.5**QUESTIONS


@ADDS_UP
def test_a_search_for_a_row_by_refusals_finds_it_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, np, "nan_to_num", lambda scores, **_: scores)
    assert abs(searched(bank) - largest(bank)) <= 0.5**QUESTIONS


# An update that is not finite: where some row is large, training leaves the numbers.

NOT_FINITE = pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])


def spoiled(value: float) -> Callable[..., object]:
    return lambda session, *_: np.full(session.model.size, value)


def refuse_what_is_not_finite(guard: Guard) -> None:
    """The control: an update is brought on the grid as it is, which refuses what is no number."""
    off(
        guard,
        WeightedUpdates,
        "embed",
        lambda self, site, update, dither: self._fit[0].embed(update * self.share(site), dither),
    )


@NOT_FINITE
def test_an_update_that_is_not_finite_is_no_refusal(
    bank: SecureBank, monkeypatch: Guard, value: float
) -> None:
    """NaN counts as nothing, infinity as the bound: the sum is what it would be if the victim had sent that."""
    off(monkeypatch, TrainingSession, "train", spoiled(value))
    asked = training(bank)
    total = asked.opened()
    assert np.array_equal(total, sum(asked.plain(site) for site in SITES))
    counts = asked.payload.mean(total, SITES)  # type: ignore[union-attr]
    assert counts == pytest.approx(np.nan_to_num(np.full(counts.size, value), posinf=1.0, neginf=-1.0))


@NOT_FINITE
def test_an_update_that_is_not_finite_is_told_by_a_refusal_without_the_guard(
    bank: SecureBank, monkeypatch: Guard, value: float
) -> None:
    refuse_what_is_not_finite(monkeypatch)
    off(monkeypatch, TrainingSession, "train", spoiled(value))
    asked = training(bank)
    assert bank.refusal(VICTIM, asked.mask_request(asked.set_up(), VICTIM)) == failed("train")
    assert bank.recorded(VICTIM) == 0


DIVERGES = pytest.mark.parametrize(
    "bank", [secure_plan(learning_rate=1e6, l2=1e6, local_epochs=4)], indirect=True, ids=["steep"]
)


@DIVERGES
def test_a_training_that_diverges_is_no_refusal(bank: SecureBank) -> None:
    asked = training(bank)
    model, scaling = asked.told.model, asked.told.scaling
    assert model is not None
    assert scaling is not None
    assert not np.isfinite(bank.session(VICTIM).train(model, scaling, 1)).all()
    sent = bank.step(VICTIM, asked.mask_request(asked.set_up(), VICTIM))
    assert isinstance(sent, MaskedInput)


@DIVERGES
def test_a_training_that_diverges_is_told_by_a_refusal_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    refuse_what_is_not_finite(monkeypatch)
    asked = training(bank)
    assert bank.refusal(VICTIM, asked.mask_request(asked.set_up(), VICTIM)) == failed("train")


# Data that are not what was agreed.


def test_data_that_break_the_contract_say_contract_and_nothing_more(bank: SecureBank) -> None:
    (bank.folder / VICTIM / "rows.parquet").unlink()
    asked = Sum(bank, roster=OTHERS)
    assert bank.refusal(VICTIM, asked.advertise_request()) == Refusal(RefusalCode.CONTRACT, "")
    assert np.array_equal(asked.opened(), sum(asked.plain(site) for site in OTHERS))
