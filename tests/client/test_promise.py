"""What a site has promised with its confirmation, in the form that its journal keeps: the same promise, and nothing more than that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from client.journal.promise import promise_bytes, promised
from protos.frames import Stage
from protos.plan import SecureAggregation
from strategies.encoding import canonical_json, digest_of
from strategies.ids import SiteName
from strategies.secagg import server as central
from strategies.secagg.client import Confirmed, ProtocolAbort
from strategies.secagg.messages import CONFIRMATION, Confirmation, ConfirmRequest
from strategies.secagg.secrets import SECRET_BYTES
from strategies.secagg.suites import Suite
from tests.client.secure_for_tests import (
    SITES,
    VICTIM,
    SecureBank,
    Sum,
    begun,
    secrets_of,
    secure_bank,
    secure_plan,
    state_of,
)

SURVIVORS = SITES[1:]


@pytest.fixture(scope="module", params=["x25519-aes256-sha256", "p256-aes256-sha256"])
def bank(request) -> Iterator[SecureBank]:
    aggregation = SecureAggregation(suite=Suite(request.param).value)
    with secure_bank(secure_plan().model_copy(update={"aggregation": aggregation})) as made:
        yield made


@pytest.fixture(scope="module")
def asked(bank: SecureBank) -> Sum:
    return Sum(bank)


@pytest.fixture(scope="module")
def step(asked: Sum) -> central.Unmasking:
    """East is on the roster, and its input never came; everybody else has confirmed."""
    return asked.confirm(asked.mask(asked.set_up(), SURVIVORS))


@pytest.fixture(scope="module")
def state(asked: Sum, step: central.Unmasking) -> Confirmed:
    found = state_of(asked, VICTIM)
    assert isinstance(found, Confirmed)
    return found


def keys(bank: SecureBank) -> dict[SiteName, str]:
    return {each.site: each.identity_key for each in bank.members.list.members}


def written(bank: SecureBank, state: Confirmed) -> bytes:
    return promise_bytes(state, keys(bank))


def test_a_promise_comes_back_as_it_was(bank: SecureBank, state: Confirmed) -> None:
    again = promised(written(bank, state))
    for each in fields(Confirmed):
        if each.name != "verify":  # a function, which the next tests look at
            assert getattr(again, each.name) == getattr(state, each.name), each.name
    assert written(bank, again) == written(bank, state)


def test_a_promise_is_canonical(bank: SecureBank, state: Confirmed) -> None:
    data = written(bank, state)
    assert canonical_json(json.loads(data)) == data


def test_a_promise_that_was_read_gives_the_same_shares(
    bank: SecureBank, state: Confirmed, step: central.Unmasking
) -> None:
    shares = promised(written(bank, state)).unmask(step.request)
    assert shares == state.unmask(step.request)
    assert (set(shares.own_seeds), set(shares.mask_keys)) == (set(SURVIVORS), {SITES[0]})


def test_a_promise_that_was_read_is_for_these_survivors_and_this_statement_only(
    bank: SecureBank, state: Confirmed, step: central.Unmasking
) -> None:
    again, right = promised(written(bank, state)), step.request
    for wrong, words in (
        (replace(right, survivors=SITES, dropped=()), "not those that this site has confirmed"),
        (replace(right, dropped=()), "does not partition the roster"),
        (replace(right, dropped=(SITES[0], VICTIM)), "named both survivor and dropped"),
        (replace(right, statement=digest_of("another")), "for another statement"),
    ):
        with pytest.raises(ProtocolAbort, match=words):
            again.unmask(wrong)


def test_a_promise_that_was_read_still_wants_to_see_enough_confirmations(
    bank: SecureBank, state: Confirmed, step: central.Unmasking
) -> None:
    again, right = promised(written(bank, state)), step.request
    given = dict(right.confirmations)
    swapped = {**given, SITES[1]: given[SITES[2]]}
    zeros = {**given, SITES[1]: bytes(64)}
    for confirmations in ({}, {VICTIM: given[VICTIM]}, swapped, zeros):
        with pytest.raises(ProtocolAbort, match="have confirmed the survivors; 3 are needed"):
            again.unmask(replace(right, confirmations=confirmations))


def test_a_confirmation_by_a_site_that_has_not_survived_does_not_count(
    bank: SecureBank, state: Confirmed, step: central.Unmasking
) -> None:
    """East's signature is right, and the promise has no use for it."""
    survivors = ConfirmRequest(SURVIVORS).digest
    signed = Confirmation.signed_bytes(state.bound, SITES[0], survivors)
    by_east = bank.participant(SITES[0]).identity.sign_raw(CONFIRMATION, signed)
    assert bank.identities.verify(SITES[0], CONFIRMATION, signed, by_east)
    fewer = {SITES[1]: step.request.confirmations[SITES[1]], SITES[0]: by_east}
    with pytest.raises(ProtocolAbort, match="2 of the peers that this site recognises have confirmed"):
        promised(written(bank, state)).unmask(replace(step.request, confirmations=fewer))


def test_a_promise_holds_shares_and_no_secret_of_the_site_itself(bank: SecureBank) -> None:
    """With its own two secrets a stolen disk would open the site's input; with shares it opens nothing without a threshold of them."""
    asked = Sum(bank, attempt_number=2)
    collecting = asked.set_up()
    own = secrets_of(state_of(asked, VICTIM))[:4]
    assert {len(each) for each in own} == {SECRET_BYTES}
    asked.confirm(asked.mask(collecting))
    state = state_of(asked, VICTIM)
    assert isinstance(state, Confirmed)
    data = written(bank, state)
    assert all(share.hex().encode() in data for share in secrets_of(state))
    assert not [each for each in own if each.hex().encode() in data or each in data]


@pytest.fixture
def other_bank() -> Iterator[SecureBank]:
    """One whose journals a test reads to the end."""
    with secure_bank() as made:
        yield made


def test_a_promise_is_beside_the_confirmation_in_the_journal_and_is_gone_from_the_disk_when_it_is_old(
    other_bank: SecureBank,
) -> None:
    asked, answers = Sum(other_bank), other_bank.participant(VICTIM).answers
    slot = (asked.run, asked.stage.name, asked.number, asked.attempt_number)
    confirming = asked.mask(asked.set_up())
    assert answers.promise(*slot) is None
    asked.confirm(confirming)
    state = state_of(asked, VICTIM)
    assert isinstance(state, Confirmed)
    assert answers.promise(*slot) == written(other_bank, state)
    assert _on_disk(other_bank, state)
    for number in (1, 2):
        Sum(other_bank, Stage.TRAIN, 1, attempt_number=number, told=begun(other_bank)).confirmed()
    assert answers.promise(*slot) is None
    other_bank.close()
    assert not _on_disk(other_bank, state)


def _on_disk(bank: SecureBank, state: Confirmed) -> list[bytes]:
    """The shares of a promise that the files of the journal hold."""
    files = [path.read_bytes() for path in (bank.folder / VICTIM).glob("journal.db*")]
    return [share for share in secrets_of(state) if any(share.hex().encode() in each for each in files)]


def test_no_key_and_no_seed_is_in_what_a_state_prints(bank: SecureBank) -> None:
    asked = Sum(bank, attempt_number=3)
    sharing = asked.keys()
    own = secrets_of(state_of(asked, VICTIM))
    printed = [repr(state_of(asked, VICTIM))]
    collecting = asked.share(sharing)
    printed.append(repr(state_of(asked, VICTIM)))
    asked.confirm(asked.mask(collecting))
    printed.append(repr(state_of(asked, VICTIM)))
    assert all("<secret KeySeed>" in each for each in printed[:2])
    assert not [each for each in own if any(each.hex() in p or repr(each)[2:-1] in p for p in printed)]
