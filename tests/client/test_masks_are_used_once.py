"""A mask is used once, also by a site that has died in between and has the very secrets that it had.

Every attack is named, and is shown to work with its guard off.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from client.journal.answers import Answers
from client.journal.entries import JournalBroken
from strategies.secagg.messages import Advertisement, Bound, Envelopes, ShareRequest
from strategies.secagg.payloads import Integers
from tests.client.rounds_for_tests import Guard, off, training
from tests.client.secure_for_tests import VICTIM, SecureBank, Sum, state_of

# A mask is used once, also by a site that has died in between.


def masked_again(bank: SecureBank, first: Sum, second: Sum) -> tuple[Integers, Integers]:
    """West masks for `first`, dies, has other rows and the very secrets that it had, and is asked to mask for `second`.

    Returns the difference of the two masked inputs, and that of the two vectors.
    """
    assert bank.task.witness  # which takes entropy of its own, once a journal
    bank.start(VICTIM, entropy=Random("west").randbytes)
    sharing = first.keys()
    step, before = first.share(sharing), first.plain(VICTIM)
    once = bank.step(VICTIM, first.mask_request(step, VICTIM))
    bank.rewrite_rows(VICTIM, seed=9)
    bank.crash(VICTIM, entropy=Random("west").randbytes)
    assert bank.step(VICTIM, first.advertise_request()) == sharing.cohort.members[VICTIM]
    bank.step(VICTIM, first.request(sharing.request))
    twice = bank.step(VICTIM, second.mask_request(step, VICTIM))
    ring, size = step.ring, len(before)
    shown = ring.unpack(twice.packed, size) - ring.unpack(once.packed, size)
    return ring.decode(ring.reduce(shown)), second.plain(VICTIM) - before


def test_mask_reuse_after_an_agent_crash(bank: SecureBank) -> None:
    """Asked for what it has answered, a site repeats its bytes and computes nothing, although its rows are others now."""
    shown, difference = masked_again(bank, training(bank), training(bank))
    assert not shown.any()
    assert difference.any()


def test_mask_reuse_after_an_agent_crash_shows_a_difference_if_answers_are_not_kept(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, Answers, "kept")
    shown, difference = masked_again(bank, training(bank), training(bank))
    assert np.array_equal(shown, difference)


@pytest.mark.parametrize("secrets", ["those that it had", "fresh ones"])
def test_mask_reuse_after_an_agent_crash_under_another_statement(bank: SecureBank, secrets: str) -> None:
    first, second = training(bank), training(bank, spread=0.5)
    assert first.attempt == second.attempt
    bank.start(VICTIM, entropy=Random("west").randbytes)
    sharing = first.keys()
    step = first.share(sharing)
    once = bank.said(VICTIM, first.mask_request(step, VICTIM))
    words = "has answered step mask of attempt 1 at the train stage of round 1 for another statement"
    bank.refuses(VICTIM, second.mask_request(step, VICTIM), words)
    bank.crash(VICTIM, entropy=Random("west" if secrets == "those that it had" else "later").randbytes)
    bank.refuses(VICTIM, second.mask_request(step, VICTIM), words)
    assert isinstance(bank.step(VICTIM, first.advertise_request()), Advertisement)
    renewed = {**sharing.cohort.members, VICTIM: state_of(first, VICTIM).advertisement}
    assert isinstance(bank.step(VICTIM, first.request(ShareRequest(tuple(renewed.values())))), Envelopes)
    bank.refuses(VICTIM, second.mask_request(step, VICTIM), words)
    assert bank.said(VICTIM, first.mask_request(step, VICTIM)) == once
    assert bank.recorded(VICTIM) == 1


def test_mask_reuse_under_another_statement_shows_noise_because_masks_are_bound_to_it(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, Answers, "kept")
    shown, difference = masked_again(bank, training(bank), training(bank, spread=0.5))
    assert not np.array_equal(shown, difference)


def test_mask_reuse_under_another_statement_shows_a_difference_with_both_guards_off(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    label = Bound.label
    off(monkeypatch, Answers, "kept")
    off(monkeypatch, Bound, "label", lambda self, *names: replace(label(self, *names), statement=None))
    shown, difference = masked_again(bank, training(bank), training(bank, spread=0.5))
    assert difference.any()
    assert np.array_equal(shown, difference)


def test_a_masked_input_that_cannot_be_recorded_does_not_leave(bank: SecureBank, monkeypatch: Guard) -> None:
    asked = Sum(bank)
    request = asked.mask_request(asked.set_up(), VICTIM)

    def fail(*_: object, **__: object) -> None:
        raise JournalBroken("no")

    monkeypatch.setattr(bank.participant(VICTIM).answers.journal, "append", fail)
    with pytest.raises(JournalBroken):
        bank.said(VICTIM, request)
