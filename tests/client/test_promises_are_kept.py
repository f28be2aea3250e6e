"""A site that has confirmed gives its shares, also after it has died, and nobody gets more of its promise than what was promised.

Every attack is named, and is shown to work with its guard off.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from client import participant as door
from client.journal import answers as journal_answers
from client.journal.answers import Answers
from client.journal.entries import JournalBroken
from client.secure.promise import promised
from client.secure.rounds import SecureRounds
from protos.frames import RefusalCode, Stage
from strategies.encoding import digest_of
from strategies.secagg import server as central
from strategies.secagg.messages import ConfirmRequest, Frame, Shares
from strategies.secagg.suites import Suite
from tests.client.rounds_for_tests import (
    Guard,
    another_run,
    broken,
    confirmed_without_east,
    off,
    tamper,
    unchecked,
)
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank, Sum, begun, state_of


def test_a_site_that_dies_between_confirming_and_giving_shares_keeps_its_promise(bank: SecureBank) -> None:
    asked, step = confirmed_without_east(bank)
    expected = state_of(asked, VICTIM).unmask(step.request)
    for site in SITES[1:]:
        bank.crash(site)
    assert bank.step(VICTIM, asked.request(step.request)) == expected
    assert np.array_equal(asked.unmask(step), sum(asked.plain(site) for site in SITES[1:]))


def test_a_site_that_dies_after_it_has_confirmed_takes_the_sum_with_it_without_its_promise(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, SecureRounds, "promise", lambda *_: b"")
    asked, step = confirmed_without_east(bank)
    bank.crash(VICTIM)
    bank.refuses(VICTIM, asked.request(step.request), "this site has no keys for this attempt")


def test_a_site_that_was_started_again_keeps_its_promise_for_exactly_the_survivors_that_it_confirmed(
    bank: SecureBank,
) -> None:
    asked, step = confirmed_without_east(bank)
    expected = state_of(asked, VICTIM).unmask(step.request)
    bank.crash(VICTIM)
    right = step.request
    two = {site: right.confirmations[site] for site in (SITES[1], VICTIM)}
    wrong = (
        (replace(right, survivors=SITES, dropped=()), "not those that this site has confirmed"),
        (replace(right, survivors=SITES[1:3], dropped=(SITES[0], VICTIM)), "not those that this site has"),
        (replace(right, dropped=()), "does not partition the roster"),
        (replace(right, dropped=(SITES[0], VICTIM)), "named both survivor and dropped"),
        (replace(right, statement=digest_of("another")), "for another statement"),
        (replace(right, confirmations={}), "1 of the peers that this site recognises have confirmed"),
        (replace(right, confirmations=two), "2 of the peers that this site recognises have confirmed"),
        (replace(right, confirmations=dict.fromkeys(SITES, bytes(64))), "1 of the peers that this site"),
    )
    for request, words in wrong:
        bank.refuses(VICTIM, asked.request(request), words)
    bank.refuses(VICTIM, asked.request(ConfirmRequest(SITES)), "has answered step confirm of attempt 1")
    assert bank.step(VICTIM, asked.request(right)) == expected


def test_a_flood_of_keys_does_not_take_a_promise_away(bank: SecureBank) -> None:
    asked, step = confirmed_without_east(bank)
    for number in range(2, 8):
        bank.step(VICTIM, Sum(bank, attempt_number=number).advertise_request())
    assert np.array_equal(asked.unmask(step), sum(asked.plain(site) for site in SITES[1:]))


# Other runs, and other rounds of this one.


def confirmed_between_runs(bank: SecureBank) -> tuple[Sum, central.Unmasking]:
    """The victim confirms when other runs have come since its input."""
    asked = Sum(bank)
    confirming = asked.mask(asked.set_up())
    for number in (1, 2):
        bank.step(VICTIM, Sum(bank, run=another_run(number)).advertise_request())
    return asked, asked.confirm(confirming)


def test_a_promise_does_not_depend_on_which_runs_came_last(bank: SecureBank) -> None:
    asked, step = confirmed_between_runs(bank)
    bank.crash(VICTIM)
    assert isinstance(bank.step(VICTIM, asked.request(step.request)), Shares)


def another_run_goes_on(bank: SecureBank) -> tuple[Sum, central.Unmasking]:
    """The victim has confirmed in one run, and then answers five steps of another."""
    first, second = Sum(bank), Sum(bank, run=another_run(1))
    step = first.confirmed()
    second.opened()
    Sum(bank, Stage.TRAIN, 1, run=second.run, told=begun(bank)).confirmed()
    bank.crash(VICTIM)
    return first, step


def test_a_promise_that_another_run_would_push_out(bank: SecureBank) -> None:
    asked, step = another_run_goes_on(bank)
    assert isinstance(bank.step(VICTIM, asked.request(step.request)), Shares)


def test_a_promise_that_another_run_pushes_out_of_a_journal_that_keeps_few(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    monkeypatch.setattr(journal_answers, "_KEPT_FRAMES", 4)
    asked, step = another_run_goes_on(bank)
    bank.refuses(VICTIM, asked.request(step.request), "this site has no keys for this attempt")


# The promise on the disk is the one that was made, or the site ends.

SPOILED = pytest.mark.parametrize(
    ("old", "new"),
    [(b'"needed":3', b'"needed":1'), (b'"needed":3', b'"needed":\xff'), (b'"recognised"', b"")],
    ids=["less is needed", "rotten", "cut"],
)


@SPOILED
def test_a_promise_that_was_changed_on_the_disk(bank: SecureBank, old: bytes, new: bytes) -> None:
    asked = Sum(bank)
    step = asked.confirmed()
    tamper(bank, VICTIM, old, new)
    with pytest.raises(JournalBroken, match="is not what was recorded"):
        bank.said(VICTIM, asked.request(step.request))


def test_a_promise_that_was_changed_on_the_disk_gives_shares_to_whoever_asks_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """No other site has confirmed anything, as far as the request says."""
    off(monkeypatch, Answers, "_beside", unchecked)
    asked = Sum(bank)
    step = asked.confirmed()
    alone = asked.request(replace(step.request, confirmations={}))
    bank.crash(VICTIM)
    bank.refuses(VICTIM, alone, "1 of the peers that this site recognises have confirmed")
    tamper(bank, VICTIM, b'"needed":3', b'"needed":1')
    assert isinstance(bank.step(VICTIM, alone), Shares)


def test_a_journal_that_breaks_while_a_promise_is_read_is_no_refusal(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    asked = Sum(bank)
    step = asked.confirmed()
    bank.crash(VICTIM)
    off(monkeypatch, bank.participant(VICTIM).answers.journal, "attachment", broken)
    with pytest.raises(JournalBroken):
        bank.said(VICTIM, asked.request(step.request))


def test_a_journal_that_breaks_while_a_promise_is_read_is_a_refusal_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """And the site would go on, with a journal of which it knows no more what it holds."""
    asked = Sum(bank)
    step = asked.confirmed()
    bank.crash(VICTIM)
    off(monkeypatch, bank.participant(VICTIM).answers.journal, "attachment", broken)
    monkeypatch.setattr(door, "JournalBroken", KeyError)
    assert bank.refusal(VICTIM, asked.request(step.request)).code is RefusalCode.FAILED


# A promise is for its attempt in all its parts: which of them was promised is looked up by fewer.

OTHERWISE = pytest.mark.parametrize(
    "other", [{"plan": digest_of("another")}, {"suite": Suite.P256}], ids=["plan", "suite"]
)


def asked_under(asked: Sum, step: central.Unmasking, **other: object) -> Frame:
    return Frame(replace(asked.attempt, **other), step.request)


@OTHERWISE
def test_shares_by_a_promise_for_an_attempt_under_another_plan(
    bank: SecureBank, other: dict[str, object]
) -> None:
    asked, step = confirmed_without_east(bank)
    bank.crash(VICTIM)
    request = replace(asked.request(step.request), frames=(asked_under(asked, step, **other),))
    bank.refuses(VICTIM, request, "this site has no keys for this attempt")
    assert isinstance(bank.step(VICTIM, asked.request(step.request)), Shares)


@OTHERWISE
def test_shares_by_a_promise_for_an_attempt_under_another_plan_are_given_without_the_guard(
    bank: SecureBank, monkeypatch: Guard, other: dict[str, object]
) -> None:
    """And the attempt that was promised has none any more: one request of nobody's plan would keep its sum closed."""
    off(monkeypatch, SecureRounds, "_promised", lambda self, attempt: promised(self.promise_of(attempt)))
    asked, step = confirmed_without_east(bank)
    bank.crash(VICTIM)
    request = replace(asked.request(step.request), frames=(asked_under(asked, step, **other),))
    assert isinstance(bank.step(VICTIM, request), Shares)
    bank.refuses(VICTIM, asked.request(step.request), "has answered step unmask of attempt 1")
