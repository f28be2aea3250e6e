"""Secure aggregation at the door of a site: frames in, frames out, in the order of the protocol and in no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from client import participant as door
from client.secure import rounds as secure_rounds
from protos.frames import Refusal, SecureRequest
from protos.plan_aggregation import SecureAggregation
from protos.secure_codec import decode_answer, encode_secure_request
from strategies.ids import RunId
from strategies.secagg import server as central
from strategies.secagg.messages import ConfirmRequest, MaskRequest, ShareRequest, Shares, UnmaskRequest
from strategies.secagg.parameters import Adversary
from strategies.secagg.suites import Suite
from tests.client.rounds_for_tests import Guard, fresh, off
from tests.client.secure_for_tests import (
    OTHERS,
    SITES,
    VICTIM,
    SecureBank,
    Sum,
    secrets_of,
    secure_bank,
    secure_plan,
    state_of,
)


@pytest.mark.parametrize(
    "aggregation",
    [
        SecureAggregation(),
        SecureAggregation(suite=Suite.P256.value),
        SecureAggregation(adversary="semi-honest"),
    ],
    ids=["active", "p256", "semi-honest"],
)
def test_the_sum_is_what_the_sites_have_and_asking_again_changes_nothing(
    aggregation: SecureAggregation,
) -> None:
    with secure_bank(secure_plan().model_copy(update={"aggregation": aggregation})) as bank:
        asked = Sum(bank)
        step = asked.confirmed()
        total = asked.unmask(step)
        assert np.array_equal(total, sum(asked.plain(site) for site in SITES))
        again = central.Unmasking(step.cohort, step.bound, step.ring, step.total, step.request)
        bank.crash(VICTIM)
        assert np.array_equal(asked.unmask(again), total)


# Steps come in their order, and a refusal says nothing.


def _asked_to_share(asked: Sum) -> SecureRequest:
    return asked.request(ShareRequest(()))


def _asked_to_mask(asked: Sum) -> SecureRequest:
    ask = MaskRequest(statement=asked.statement.digest, roster=SITES, envelopes={})
    return replace(asked.request(ask), statement=asked.statement)


def _asked_to_confirm(asked: Sum) -> SecureRequest:
    return asked.request(ConfirmRequest(SITES))


def _asked_to_unmask(asked: Sum) -> SecureRequest:
    said = asked.statement.digest
    return asked.request(UnmaskRequest(statement=said, survivors=SITES, dropped=(), confirmations={}))


def _until_advertised(asked: Sum) -> object:
    return asked.keys()


def _until_shared(asked: Sum) -> object:
    return asked.set_up()


def _until_masked(asked: Sum) -> object:
    return asked.mask(asked.set_up())


def _until_confirmed(asked: Sum) -> object:
    return asked.confirmed()


@pytest.mark.parametrize(
    ("until", "ask", "words"),
    [
        (_until_advertised, _asked_to_mask, "has advertised for this attempt; the step does not follow"),
        (_until_advertised, _asked_to_confirm, "has advertised for this attempt; the step does not follow"),
        (_until_advertised, _asked_to_unmask, "only after the survivors were confirmed"),
        (_until_shared, _asked_to_share, "has shared for this attempt; the step does not follow"),
        (_until_shared, _asked_to_confirm, "has shared for this attempt; the step does not follow"),
        (_until_shared, _asked_to_unmask, "only after the survivors were confirmed"),
        (_until_masked, _asked_to_share, "has masked for this attempt; the step does not follow"),
        (_until_masked, _asked_to_unmask, "only after the survivors were confirmed"),
        (_until_confirmed, _asked_to_share, "has confirmed for this attempt; the step does not follow"),
    ],
)
def test_a_step_out_of_its_order_is_refused_and_no_secret_is_in_the_refusal(
    standing: SecureBank, until: Callable[[Sum], object], ask: Callable[[Sum], SecureRequest], words: str
) -> None:
    asked = fresh(standing)
    until(asked)
    secrets = secrets_of(state_of(asked, VICTIM))
    assert len(secrets) >= 4
    reply = standing.participant(VICTIM).answer(encode_secure_request(ask(asked)))
    body = decode_answer(reply).body
    assert isinstance(body, Refusal)
    assert words in body.reason
    assert not [each for each in secrets if each in reply or each.hex().encode() in reply]


@pytest.mark.parametrize(
    "ask",
    [_asked_to_share, _asked_to_mask, _asked_to_confirm, _asked_to_unmask],
    ids=lambda ask: ask.__name__,
)
def test_a_site_without_keys_for_an_attempt_takes_no_step_of_it(
    standing: SecureBank, ask: Callable[[Sum], SecureRequest]
) -> None:
    standing.refuses(VICTIM, ask(fresh(standing)), "this site has no keys for this attempt")


def test_a_site_that_has_refused_a_step_has_forgotten_the_secrets_of_the_attempt(
    standing: SecureBank,
) -> None:
    asked = fresh(standing)
    step = asked.set_up()
    standing.refuses(VICTIM, _asked_to_confirm(asked), "the step does not follow")
    assert asked.attempt not in standing.participant(VICTIM)._secure._attempts
    standing.refuses(VICTIM, asked.mask_request(step, VICTIM), "this site has no keys for this attempt")


def test_fresh_keys_for_an_attempt_that_was_masked_for_are_refused(standing: SecureBank) -> None:
    asked = fresh(standing)
    confirming = asked.mask(asked.set_up())
    again = replace(
        asked.advertise_request(), aggregate=np.zeros(1)
    )  # the same request would get the same keys
    standing.refuses(VICTIM, again, "has sent its input to this attempt already")
    assert asked.confirm(confirming).request.survivors == SITES


def unconfirmed(asked: Sum) -> SecureRequest:
    """Shares for survivors that the other sites have confirmed, and the victim has not been asked about."""
    step = asked.mask(asked.set_up())
    for site in OTHERS:
        step.receive(asked.bank.step(site, asked.request(step.request)))
    return asked.request(step.close().request)


def test_shares_for_survivors_that_the_site_has_not_confirmed(bank: SecureBank) -> None:
    words = "shares are given only after the survivors were confirmed"
    bank.refuses(VICTIM, unconfirmed(Sum(bank)), words)


def test_shares_for_survivors_that_the_site_has_not_confirmed_are_given_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    request = unconfirmed(Sum(bank))
    off(monkeypatch, secure_rounds, "Adversary", SimpleNamespace(SEMI_HONEST=Adversary.ACTIVE))
    assert isinstance(bank.step(VICTIM, request), Shares)


def test_what_only_a_site_says_is_not_asked_of_one(standing: SecureBank) -> None:
    asked = fresh(standing)
    keys = asked.keys().cohort.members[VICTIM]
    standing.refuses(VICTIM, asked.request(keys), "is not asked for a Advertisement")


# What a site remembers does not grow with what it is asked.


def test_three_attempts_of_a_run_are_kept(bank: SecureBank) -> None:
    """The one that is under way, one that was given up, and the next."""
    asked = Sum(bank)
    step = asked.set_up()
    for number in (2, 3):
        bank.step(VICTIM, Sum(bank, attempt_number=number).advertise_request())
    confirming = asked.mask(step)
    for number in (4, 5):
        bank.step(VICTIM, Sum(bank, attempt_number=number).advertise_request())
    assert asked.confirm(confirming).request.survivors == SITES


def test_a_fourth_attempt_of_a_run_takes_the_place_of_the_oldest(bank: SecureBank) -> None:
    asked = Sum(bank)
    step = asked.set_up()
    for number in (2, 3, 4):
        bank.step(VICTIM, Sum(bank, attempt_number=number).advertise_request())
    bank.refuses(VICTIM, asked.mask_request(step, VICTIM), "this site has no keys for this attempt")


def test_memory_is_bounded_whatever_keys_are_asked_for(bank: SecureBank) -> None:
    west = bank.participant(VICTIM)
    for number in range(1, 21):
        bank.step(VICTIM, Sum(bank, attempt_number=number).advertise_request())
    for number in range(1, 9):
        bank.step(VICTIM, Sum(bank, run=RunId(f"run-{number:016x}")).advertise_request())
    for seed in range(2, 8):
        other = replace(bank, plan=secure_plan(seed=seed))
        bank.step(VICTIM, Sum(other, run=RunId(f"run-{16 + seed:016x}")).advertise_request())
    rounds = west._secure
    assert len(rounds._attempts) <= secure_rounds._KEPT_RUNS * secure_rounds._KEPT_ATTEMPTS
    of_each = Counter(attempt.run for attempt in rounds._attempts)
    assert max(of_each.values()) <= secure_rounds._KEPT_ATTEMPTS
    assert set(of_each) <= set(rounds._runs)
    assert len(rounds._runs) == secure_rounds._KEPT_RUNS
    assert len(west._set_ups) == door._KEPT_SET_UPS
    assert len(west._sessions) == len(west._judged._accepted) == door._KEPT_SESSIONS
