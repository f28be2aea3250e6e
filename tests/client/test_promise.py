"""What a site has promised with its confirmation, in the form that its journal keeps: the same promise, and nothing more than that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace

import pytest

from client.secure.promise import promise_bytes, promised
from protos.plan_aggregation import SecureAggregation
from strategies.encoding import canonical_json, digest_of
from strategies.ids import RunId, SiteName
from strategies.secagg import server as central
from strategies.secagg.client import Confirmed, ProtocolAbort
from strategies.secagg.messages import CONFIRMATION, Confirmation, ConfirmRequest
from strategies.secagg.secrets import SECRET_BYTES
from strategies.secagg.suites import Suite
from tests.client.rounds_for_tests import keep_promises
from tests.client.secure_for_tests import (
    SITES,
    VICTIM,
    SecureBank,
    Sum,
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
    return {each.site: each.identity_key for each in bank.members.signed.list.members}


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


def goes_on(asked: Sum, step: central.Unmasking, how: str) -> None:
    """The next step of the run that the victim answers."""
    bank = asked.bank
    if how == "its shares were given":
        bank.step(VICTIM, asked.request(step.request))
    else:
        following = Sum(bank, asked.stage, asked.number, attempt_number=2)
        bank.step(VICTIM, following.mask_request(following.set_up(), VICTIM))


NEXT_STEP = pytest.mark.parametrize("how", ["its shares were given", "another attempt was made"])


@NEXT_STEP
def test_a_promise_is_beside_the_confirmation_in_the_journal_until_the_next_step_of_its_run(
    other_bank: SecureBank, how: str
) -> None:
    asked, answers = Sum(other_bank), other_bank.participant(VICTIM).answers
    slot = (asked.run, asked.stage.name, asked.number, asked.attempt_number)
    confirming = asked.mask(asked.set_up())
    assert answers.promise(*slot) is None
    step = asked.confirm(confirming)
    state = state_of(asked, VICTIM)
    assert isinstance(state, Confirmed)
    assert answers.promise(*slot) == written(other_bank, state)
    assert len(_on_disk(other_bank, state)) == len(secrets_of(state))
    Sum(other_bank, run=RunId("run-00000000000000ff")).opened()
    assert answers.promise(*slot) == written(other_bank, state)
    goes_on(asked, step, how)
    assert answers.promise(*slot) is None
    other_bank.close()
    assert not _on_disk(other_bank, state)


@NEXT_STEP
def test_a_promise_that_has_been_kept_stays_on_the_disk_without_the_guard(
    other_bank: SecureBank, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    keep_promises(monkeypatch)
    asked = Sum(other_bank)
    step = asked.confirmed()
    state = state_of(asked, VICTIM)
    goes_on(asked, step, how)
    other_bank.close()
    assert len(_on_disk(other_bank, state)) == len(secrets_of(state))


def test_a_promise_that_has_been_kept_is_gone_from_the_disk_while_the_site_runs(
    other_bank: SecureBank,
) -> None:
    asked = Sum(other_bank)
    step = asked.confirmed()
    state = state_of(asked, VICTIM)
    assert _on_disk(other_bank, state)
    goes_on(asked, step, "its shares were given")
    assert not _on_disk(other_bank, state)


def _on_disk(bank: SecureBank, state: Confirmed) -> list[bytes]:
    """The shares of a promise that the files of the journal hold."""
    files = [path.read_bytes() for path in (bank.folder / VICTIM).glob("journal.db*")]
    return [share for share in secrets_of(state) if any(share.hex().encode() in each for each in files)]


def test_no_key_no_seed_and_no_share_is_in_what_a_state_prints(bank: SecureBank) -> None:
    """Nor in what a site says when it gives its shares: logs and tracebacks print such things."""
    asked = Sum(bank, attempt_number=3)
    sharing = asked.keys()
    printed, secrets = [], []

    def look() -> None:
        printed.append(repr(state_of(asked, VICTIM)))
        secrets.extend(secrets_of(state_of(asked, VICTIM)))

    look()
    collecting = asked.share(sharing)
    look()
    confirming = asked.mask(collecting)
    look()
    step = asked.confirm(confirming)
    look()
    printed.append(repr(bank.step(VICTIM, asked.request(step.request))))
    assert all("<secret KeySeed>" in each for each in printed[:2])
    assert len(secrets) == 4 + 4 + 2 + 3 + 8 + 8
    everything = "".join(printed)
    assert not [each for each in secrets if each.hex() in everything or repr(each)[2:-1] in everything]
