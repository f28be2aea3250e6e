"""Shares are given for one partition of one attempt. The attack is named, and is shown to work with its guards off."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from flwr.app import Context, RecordDict

from client.app import client_app
from client.journal.answers import Answers
from protos.envelope import seal, unseal
from protos.frames import SecureAnswer
from protos.secure_codec import decode_answer, encode_secure_request
from strategies.secagg import client as site_side
from strategies.secagg import server as central
from strategies.secagg import shamir
from strategies.secagg.labels import MASK_OWN, MASK_PAIR
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import AdvertiseRequest, Frame, MaskedInput, Shares, UnmaskRequest
from strategies.secagg.payloads import Integers
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import KeySeed, OwnSeed, PrivateKey, Suite, own_mask, pair_mask
from tests.client.rounds_for_tests import Guard, keep_promises, off, training
from tests.client.secure_for_tests import OTHERS, SITES, VICTIM, SecureBank, Sum
from tests.flower_for_tests import message


def by_message(bank: SecureBank, message_id: str, frame: bytes) -> bytes:
    """The reply to a frame in a Flower message of this id."""
    context = Context(run_id=11, node_id=7, node_config={}, state=RecordDict(), run_config={})
    carried = message(seal(frame), message_id=message_id)
    return unseal(client_app(lambda _: bank.participant(VICTIM))(carried, context))


def test_an_unmasking_request_gets_the_same_bytes_again_in_whatever_message_it_comes(
    bank: SecureBank,
) -> None:
    asked = Sum(bank)
    step = asked.confirmed()
    frame = encode_secure_request(asked.request(step.request))
    first = by_message(bank, "first", frame)
    given = decode_answer(first).body
    assert isinstance(given, SecureAnswer)
    assert isinstance(given.frames[0].body, Shares)
    assert by_message(bank, "second", frame) == first
    bank.crash(VICTIM)
    assert by_message(bank, "third", frame) == first
    assert bank.recorded(VICTIM) == 3


def test_an_unmasking_request_with_other_confirmations_gets_the_same_shares(bank: SecureBank) -> None:
    asked = Sum(bank)
    request = asked.confirmed().request
    shares = bank.step(VICTIM, asked.request(request))
    fewer = replace(request, confirmations={site: request.confirmations[site] for site in SITES[1:]})
    rider = Frame(training(bank).attempt, AdvertiseRequest())
    assert [frame.body for frame in bank.steps(VICTIM, asked.request(fewer, rider))] == [shares]


def second_partition(request: UnmaskRequest) -> UnmaskRequest:
    """The same with the victim, who has survived, among the dropped."""
    return replace(request, survivors=OTHERS, dropped=(VICTIM,))


def test_double_share_request_survivor_in_one_and_dropped_in_the_next(bank: SecureBank) -> None:
    asked = Sum(bank)
    step = asked.confirmed()
    asked.unmask(step)
    again = asked.request(second_partition(step.request))
    for site in OTHERS:
        bank.refuses(site, again, "has answered step unmask of attempt 1")
        bank.crash(site)
        bank.refuses(site, again, "has answered step unmask of attempt 1")


def test_double_share_request_gives_the_input_away_with_all_guards_off(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """The journal answers one partition, keeps no shares that were given, and a confirmation is for one partition.

    Without all three, shares of both kinds give all of a site's masks.
    """
    asked = Sum(bank)
    collecting = asked.set_up()
    sent = bank.step(VICTIM, asked.mask_request(collecting, VICTIM))
    step = asked.confirm(asked.mask(collecting))
    again = asked.request(second_partition(step.request))
    with monkeypatch.context() as guard:
        keep_promises(guard)
        given = {site: bank.step(site, asked.request(step.request)) for site in OTHERS}
    off(monkeypatch, Answers, "kept")
    for site in OTHERS:
        bank.refuses(site, again, "not those that this site has confirmed")
    off(monkeypatch, site_side.Confirmed, "unmask", _whatever_is_asked)
    keys = {site: bank.step(site, again).mask_keys[VICTIM] for site in OTHERS}
    owns = {site: shares.own_seeds[VICTIM] for site, shares in given.items()}
    assert np.array_equal(_stripped(step, sent, owns, keys), asked.plain(VICTIM))


def _whatever_is_asked(state: site_side.Confirmed, ask: UnmaskRequest) -> Shares:
    return Shares(
        site=state.site,
        own_seeds={site: state.held[site][SHARE_BYTES:] for site in ask.survivors},
        mask_keys={site: state.held[site][:SHARE_BYTES] for site in ask.dropped},
    )


def _stripped(
    step: central.Unmasking, sent: MaskedInput, owns: dict[str, bytes], keys: dict[str, bytes]
) -> Integers:
    """The victim's vector, for whoever has a threshold of shares of both of its secrets."""
    members, ring = step.cohort.members, step.ring
    vector = ring.unpack(sent.packed, len(step.total))
    seed = OwnSeed(_combined(step, owns))
    add_mask(ring, vector, own_mask(seed, step.bound.label(MASK_OWN, VICTIM)), -1)
    key = PrivateKey(Suite.X25519, KeySeed(_combined(step, keys)))
    assert key.public == members[VICTIM].mask_key
    for other in OTHERS:  # all of them come earlier in the alphabet, so the victim has taken their masks off
        pair = pair_mask(key.agree(members[other].mask_key), step.bound.label(MASK_PAIR, other, VICTIM))
        add_mask(ring, vector, pair)
    return ring.decode(ring.reduce(vector))


def _combined(step: central.Unmasking, shares: dict[str, bytes]) -> bytes:
    points = {step.cohort.point(site): share for site, share in shares.items()}
    return shamir.combine(points, shamir.coefficients_at_zero(tuple(points)))
