"""Of one run a site follows one history of models, states and scalings, however often it has died or forgotten the run since.

With two histories a coordinator has two sums of each round, over other models and over whichever sites it likes. Every attack is named, and
is shown to work with its guard off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client.journal import answers
from client.journal.answers import Answers, secure_question
from client.secure.rounds import _KEPT_RUNS
from protos import frames
from protos.frames import Checkpoint, Stage, Upload
from strategies.encoding import digest_of
from strategies.features import Scaling
from strategies.secagg.messages import UPLOAD, Bound, MaskedInput
from strategies.secagg.parameters import Parameters
from tests.client.rounds_for_tests import Guard, another_run, off, training
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank, Sum, Told, begun

# How a site loses what it knows of a run.


def crash(bank: SecureBank) -> None:
    for site in SITES:
        bank.crash(site)


def evict(bank: SecureBank) -> None:
    """As many other runs as a site keeps in memory."""
    for number in range(_KEPT_RUNS):
        for site in SITES:
            bank.step(site, Sum(bank, run=another_run(number)).advertise_request())
    assert Sum(bank).run not in bank.participant(VICTIM)._secure._runs


FORGETS = pytest.mark.parametrize("forget", [crash, evict], ids=lambda forget: forget.__name__)


# Two models after one round.


def second_round(bank: SecureBank, step: float, attempt: int, scaling: Scaling | None = None) -> Sum:
    """Round 2 with the model to which an aggregate of this step in all coordinates leads."""
    first = begun(bank)
    assert first.model is not None
    assert first.optimizer is not None
    aggregate = np.full(first.model.size, step)
    model, optimizer = bank.plan.server_optimizer().step(first.model, aggregate, first.optimizer)
    told = Told(model=model, optimizer=optimizer, aggregate=aggregate, scaling=scaling or first.scaling)
    return Sum(bank, Stage.TRAIN, 2, attempt_number=attempt, told=told)


def masked_once(bank: SecureBank, forget: Callable[[SecureBank], None]) -> None:
    """A first round, and inputs to a second one that nobody confirms."""
    training(bank).opened()
    asked = second_round(bank, 0.5, 1)
    asked.mask(asked.set_up())
    forget(bank)


@FORGETS
def test_a_second_history_of_a_run(bank: SecureBank, forget: Callable[[SecureBank], None]) -> None:
    masked_once(bank, forget)
    other = second_round(bank, -0.5, 2)
    step = other.set_up()
    for site in SITES:
        words = "has computed an input to this run from another model of round 1"
        bank.refuses(site, other.mask_request(step, site), words)
    crash(bank)
    right = second_round(bank, 0.5, 3)
    assert np.array_equal(right.opened(), sum(right.plain(site) for site in SITES))


@FORGETS
def test_a_second_history_of_a_run_is_followed_without_the_guard(
    bank: SecureBank, monkeypatch: Guard, forget: Callable[[SecureBank], None]
) -> None:
    off(monkeypatch, Answers, "_require_history")
    masked_once(bank, forget)
    other = second_round(bank, -0.5, 2)
    total = other.opened()
    assert np.array_equal(total, sum(other.plain(site) for site in SITES))
    assert not np.array_equal(total, sum(second_round(bank, 0.5, 1).plain(site) for site in SITES))


def test_a_site_that_remembers_a_run_follows_its_own_model_whatever_the_journal_says(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """The other guard, which only memory has."""
    off(monkeypatch, Answers, "_require_history")
    masked_once(bank, lambda _: None)
    other = second_round(bank, -0.5, 2)
    words = "the model of round 1 is not the one that this site has computed"
    bank.refuses(VICTIM, other.mask_request(other.set_up(), VICTIM), words)


# A second scaling, which no chain of models knows.


def rescaled(bank: SecureBank) -> Sum:
    return second_round(bank, 0.5, 1, Scaling(mean=(0.5, 0.5), std=(0.3, 0.4)))


def test_a_second_scaling_of_a_run(bank: SecureBank) -> None:
    training(bank).opened()
    asked = rescaled(bank)
    request = asked.mask_request(asked.set_up(), VICTIM)
    words = "has computed an input to this run from another scaling"
    bank.refuses(VICTIM, request, words)
    crash(bank)
    again = replace(asked, attempt_number=2)
    bank.refuses(VICTIM, again.mask_request(again.set_up(), VICTIM), words)


def test_a_second_scaling_of_a_run_is_followed_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, Answers, "_require_history")
    training(bank).opened()
    asked = rescaled(bank)
    assert np.array_equal(asked.opened(), sum(asked.plain(site) for site in SITES))


# A checkpoint that one colluding site vouches for: its statement names that site alone.


def vouched_for_by_one(bank: SecureBank) -> Sum:
    """Round 4 over a model of the coordinator's own making, which is said to be that of round 2, with east's signature."""
    colluding, first, optimiser = SITES[0], begun(bank), bank.plan.server_optimizer()
    assert first.model is not None
    made, state = np.full_like(first.model, 0.77), optimiser.initial(first.model.size)
    before = Sum(bank, Stage.TRAIN, 3, told=replace(first, model=made, optimizer=state))
    said, packed = replace(before.statement, roster=(colluding,)), digest_of("whatever it sent")
    bound = Bound(before.attempt, digest_of("whoever advertised"), said.digest)
    message = MaskedInput.signed_digest(bound, colluding, packed)
    upload = Upload(packed, bank.participant(colluding).identity.sign_raw(UPLOAD, message))
    vouching = frames.Testimony(statement=said, cohort=bound.cohort, uploads={colluding: upload})
    aggregate = np.zeros_like(made)
    model, optimizer = optimiser.step(made, aggregate, state)
    kept = Checkpoint(model=made, optimizer=state, testimony=vouching)
    told = replace(first, model=model, optimizer=optimizer, aggregate=aggregate, checkpoint=kept)
    return Sum(bank, Stage.TRAIN, 4, told=told)


def test_a_model_that_one_colluding_site_vouches_for(bank: SecureBank) -> None:
    training(bank).opened()
    crash(bank)
    asked = vouched_for_by_one(bank)
    step = asked.set_up()
    for site in SITES[1:]:
        words = "1 of the peers that this site recognises have signed the checkpoint of round 2; 3 must have"
        bank.refuses(site, asked.mask_request(step, site), words)


def test_a_model_that_one_colluding_site_vouches_for_is_trained_on_if_its_roster_alone_decides(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """The control: as many signatures as would be a threshold of the sites that the statement names."""
    training(bank).opened()
    crash(bank)
    asked = vouched_for_by_one(bank)
    step = asked.set_up()
    with monkeypatch.context() as guard:
        off(guard, Parameters, "threshold", lambda _, sites: 2 * sites // 3 + 1)
        confirming = asked.mask(step)
    total = asked.unmask(asked.confirm(confirming))
    assert np.array_equal(total, sum(asked.plain(site) for site in SITES))


# A statement that comes with a step that checks none.


def named_by_a_confirmation(bank: SecureBank) -> MaskedInput:
    """The coordinator puts a made-up model into a request to confirm, then asks for an input to the true one."""
    prepare = Sum(bank)
    confirming = prepare.mask(prepare.set_up())
    train = Sum(bank, Stage.TRAIN, 1, told=begun(bank))
    made_up = replace(train.statement, model_digest=digest_of("made up"))
    bank.step(VICTIM, replace(prepare.request(confirming.request), statement=made_up))
    sent = bank.step(VICTIM, train.mask_request(train.set_up(), VICTIM))
    assert isinstance(sent, MaskedInput)
    return sent


def test_history_is_of_masked_inputs_and_not_of_what_a_coordinator_mentions(bank: SecureBank) -> None:
    assert named_by_a_confirmation(bank).site == VICTIM


def test_a_statement_that_nobody_checked_keeps_a_site_out_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    def of_any_step(request: frames.SecureRequest) -> answers.Question | None:
        question = secure_question(request)
        if question is None or request.statement is None:
            return question
        return replace(question, history=answers._history_of(request.statement))

    monkeypatch.setattr("client.participant.secure_question", of_any_step)
    with pytest.raises(AssertionError, match="a run has one history"):
        named_by_a_confirmation(bank)
