"""Secure aggregation at the door of a site: frames in, frames out, and what a coordinator cannot get whatever it asks and whenever a site dies.

Every attack is named, and is shown to work with its guard off.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from random import Random
from types import SimpleNamespace

import numpy as np
import pytest
from flwr.app import Context, RecordDict

from client import participant as door
from client import protocol
from client.app import client_app
from client.journal.answers import Answers
from client.journal.file import JournalBroken
from client.training import TrainingSession
from protos.codec import decode_reply, encode_request
from protos.envelope import seal, unseal
from protos.frames import (
    Moments,
    Refusal,
    RefusalCode,
    Request,
    ScoreCounts,
    SecureAnswer,
    SecureRequest,
    Stage,
    Update,
)
from protos.plan import PlainAggregation, SecureAggregation
from protos.secure_codec import decode_answer, encode_secure_request
from strategies.encoding import digest_of
from strategies.features import Scaling
from strategies.ids import RunId, site_name
from strategies.secagg import client as site_side
from strategies.secagg import server as central
from strategies.secagg import shamir
from strategies.secagg.labels import MASK_OWN, MASK_PAIR
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import (
    Advertisement,
    AdvertiseRequest,
    Bound,
    ConfirmRequest,
    Envelopes,
    Frame,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    Shares,
    UnmaskRequest,
)
from strategies.secagg.parameters import Adversary
from strategies.secagg.payloads import Integers
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import KeySeed, OwnSeed, PrivateKey, Suite, own_mask, pair_mask
from tests.client.secure_for_tests import (
    OTHERS,
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
from tests.flower_for_tests import message

Guard = pytest.MonkeyPatch
_attempts = count(1)


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


@pytest.fixture(scope="module")
def standing() -> Iterator[SecureBank]:
    """A bank for tests that need an attempt of their own and nothing more: see `fresh`."""
    with secure_bank() as made:
        yield made


def fresh(standing: SecureBank) -> Sum:
    """An attempt that no other test has made."""
    return Sum(standing, attempt_number=next(_attempts))


def off(guard: Guard, where: object, name: str, instead: Callable[..., object] = lambda *_: None) -> None:
    """Switch one guard off."""
    guard.setattr(where, name, instead)


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


# A mask is used once, also by a site that has died in between.


def masked_again(bank: SecureBank, first: Sum, second: Sum) -> tuple[Integers, Integers]:
    """West masks for `first`, dies, has other rows and the very secrets that it had, and is asked to mask for `second`.

    Returns the difference of the two masked inputs, and that of the two vectors.
    """
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


def training(bank: SecureBank, spread: float = 0.3) -> Sum:
    """The first round, its statement naming a scaling of this spread."""
    scaling = Scaling(mean=(0.5, 0.5), std=(spread, spread))
    return Sum(bank, Stage.TRAIN, 1, told=begun(bank, scaling=scaling))


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


# Shares are given for one partition, of one attempt.


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


def test_double_share_request_gives_the_input_away_with_both_guards_off(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """The journal answers one partition, and a confirmation is for one; without both, shares of both kinds give all of a site's masks."""
    asked = Sum(bank)
    collecting = asked.set_up()
    sent = bank.step(VICTIM, asked.mask_request(collecting, VICTIM))
    step = asked.confirm(asked.mask(collecting))
    given = {site: bank.step(site, asked.request(step.request)) for site in OTHERS}
    again = asked.request(second_partition(step.request))
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


@pytest.mark.parametrize("next_step", ["mask", "confirm", "unmask"])
def test_a_second_sum_without_one_site_after_the_first_was_opened(bank: SecureBank, next_step: str) -> None:
    everybody, fewer = Sum(bank), Sum(bank, attempt_number=2, roster=OTHERS)
    first, second = everybody.confirmed(), fewer.set_up()
    requests = {site: fewer.mask_request(second, site) for site in OTHERS}
    if next_step != "mask":
        confirming = fewer.mask(second)
        requests = dict.fromkeys(OTHERS, fewer.request(confirming.request))
    if next_step == "unmask":
        requests = dict.fromkeys(OTHERS, fewer.request(fewer.confirm(confirming).request))
    everybody.unmask(first)
    for site in OTHERS:
        words = "has given its shares for attempt 1 at the prepare stage of round 0; a second sum"
        bank.refuses(site, requests[site], words)
        bank.crash(site)
        bank.refuses(site, requests[site], words)


def test_a_second_sum_without_one_site_shows_its_input_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, Answers, "_require_unopened")
    everybody, fewer = Sum(bank), Sum(bank, attempt_number=2, roster=OTHERS)
    shown = everybody.opened() - fewer.opened()
    assert np.array_equal(shown, everybody.plain(VICTIM))


@pytest.mark.parametrize(
    ("stage", "number"),
    [(Stage.PREPARE, 1), (Stage.TRAIN, 0), (Stage.TRAIN, 5), (Stage.EVALUATE, 0), (Stage.EVALUATE, 5)],
)
def test_a_second_sum_in_a_round_that_the_plan_does_not_have(
    standing: SecureBank, stage: Stage, number: int
) -> None:
    asked = Sum(standing, stage, number, told=begun(standing))
    standing.refuses(
        VICTIM,
        asked.mask_request(asked.set_up(), VICTIM),
        f"the plan has no {stage.name.lower()} stage in round {number}",
    )


def test_a_second_sum_in_a_round_that_the_plan_does_not_have_shows_an_input_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, protocol, "check_statement", lambda *_, **__: None)
    everybody, fewer = Sum(bank), Sum(bank, number=1, roster=OTHERS)
    assert np.array_equal(everybody.opened() - fewer.opened(), everybody.plain(VICTIM))


# A site that has confirmed gives its shares, also after it has died.


def confirmed_without_east(bank: SecureBank) -> tuple[Sum, central.Unmasking]:
    """East is on the roster, and its input never comes."""
    asked = Sum(bank)
    return asked, asked.confirm(asked.mask(asked.set_up(), SITES[1:]))


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
    off(monkeypatch, protocol.SecureRounds, "promise", lambda *_: b"")
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
    assert asked.attempt not in standing.participant(VICTIM)._secure._states
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
    off(monkeypatch, protocol, "Adversary", SimpleNamespace(SEMI_HONEST=Adversary.ACTIVE))
    assert isinstance(bank.step(VICTIM, request), Shares)


def test_what_only_a_site_says_is_not_asked_of_one(standing: SecureBank) -> None:
    asked = fresh(standing)
    keys = asked.keys().cohort.members[VICTIM]
    standing.refuses(VICTIM, asked.request(keys), "is not asked for a Advertisement")


# Nothing leaves in the clear.


def plain_request(bank: SecureBank, stage: Stage) -> Request:
    asked = Sum(bank) if stage is Stage.PREPARE else Sum(bank, stage, 1, told=begun(bank))
    told = asked.told
    return Request(statement=asked.statement, task=bank.task, model=told.model, scaling=told.scaling)


@pytest.mark.parametrize("stage", list(Stage))
def test_a_plain_request_under_a_secure_plan(standing: SecureBank, stage: Stage) -> None:
    west = standing.participant(VICTIM)
    body = decode_reply(west.answer(encode_request(plain_request(standing, stage)))).body
    assert isinstance(body, Refusal)
    assert body.code is RefusalCode.PROTOCOL
    assert "would show the centre what this site computes" in body.reason


@pytest.mark.parametrize(
    ("stage", "shown"), [(Stage.PREPARE, Moments), (Stage.TRAIN, Update), (Stage.EVALUATE, ScoreCounts)]
)
def test_a_plain_request_under_a_secure_plan_shows_everything_without_the_guard(
    bank: SecureBank, monkeypatch: Guard, stage: Stage, shown: type
) -> None:
    off(monkeypatch, door, "_require_plain")
    reply = bank.participant(VICTIM).answer(encode_request(plain_request(bank, stage)))
    assert isinstance(decode_reply(reply).body, shown)


def test_a_secure_request_under_a_plain_plan_is_refused(bank: SecureBank) -> None:
    request = Sum(bank).advertise_request()
    plain = bank.plan.model_copy(update={"aggregation": PlainAggregation(mode="plain")})
    assert request.task is not None
    other = replace(request, task=replace(request.task, plan=plain.canonical))
    bank.refuses(VICTIM, other, "the plan is not one for secure aggregation")


# Who is not recognised colludes.

_PEERS = "peers: {recognise: [east, north, south], at_least: 2}\n"


def test_a_site_that_recognises_nobody_takes_no_part(bank: SecureBank) -> None:
    bank.edit(VICTIM, _PEERS, "")
    refusal = bank.refusal(VICTIM, Sum(bank).advertise_request())
    assert refusal.code is RefusalCode.POLICY
    assert "`peers` is not configured at this site" in refusal.reason


def test_a_site_that_wants_more_peers_than_are_there_takes_no_part(bank: SecureBank) -> None:
    bank.edit(VICTIM, "at_least: 2", "at_least: 3")
    asked = Sum(bank, roster=SITES[1:])
    words = "recognises 2 peers; its configuration asks for 3"
    bank.refuses(VICTIM, asked.mask_request(asked.set_up(), VICTIM), words)


@pytest.mark.parametrize("recognised", ["[left, right]", "[east, north]"])
def test_ghost_sites_that_fill_the_cohort(bank: SecureBank, recognised: str) -> None:
    bank.edit(VICTIM, "recognise: [east, north, south]", f"recognise: {recognised}")
    asked = Sum(bank)
    words = "of 4 sites are not among the peers that this site recognises"
    bank.refuses(VICTIM, asked.request(asked.keys().request), words)


def test_ghost_sites_that_fill_the_cohort_learn_an_input_without_the_guard(
    bank: SecureBank, monkeypatch: Guard
) -> None:
    """All other sites are the coordinator's own: they give it their shares, and it knows what they have added."""
    bank.edit(VICTIM, "recognise: [east, north, south]", "recognise: [left, right]")
    off(monkeypatch, site_side, "_check_strangers")
    off(monkeypatch, site_side, "_check_survivors")
    asked = Sum(bank)
    step = asked.confirmed()
    for site in OTHERS:
        step.receive(bank.step(site, asked.request(step.request)))
    theirs = sum(asked.plain(site) for site in OTHERS)
    assert np.array_equal(step.open().total - theirs, asked.plain(VICTIM))


# What a site is told is what it accepted.


TOLD_OTHERWISE = [
    pytest.param(change, words, id=next(iter(change)))
    for change, words in (
        ({"plan_digest": digest_of("another")}, "of another attempt than the keys"),
        ({"run": RunId("run-00000000000000ff")}, "of another attempt than the keys"),
        ({"stage": Stage.EVALUATE}, "of another attempt than the keys"),
        ({"round": 1}, "of another attempt than the keys"),
        ({"attempt": 10_000}, "of another attempt than the keys"),
        ({"roster": SITES[1:]}, "names another roster than the request"),
        ({"contract_digest": digest_of("another")}, "names other documents than this site accepted"),
        ({"members_digest": digest_of("another")}, "names other documents than this site accepted"),
        ({"component": "tabular/2"}, "names component tabular/2, the plan another"),
    )
]


def told_otherwise(asked: Sum, change: dict[str, object]) -> SecureRequest:
    """A request to mask whose masks are bound to the very statement that it carries."""
    return asked.mask_request(asked.set_up(), VICTIM, replace(asked.statement, **change))


@pytest.mark.parametrize(("change", "words"), TOLD_OTHERWISE)
def test_a_statement_of_something_that_the_site_has_not_accepted(
    standing: SecureBank, change: dict[str, object], words: str
) -> None:
    standing.refuses(VICTIM, told_otherwise(fresh(standing), change), words)


@pytest.mark.parametrize(
    "change",
    [
        {"contract_digest": digest_of("another")},
        {"members_digest": digest_of("another")},
        {"attempt": 10_000},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_statement_of_something_that_the_site_has_not_accepted_gets_its_input_without_the_guard(
    standing: SecureBank, monkeypatch: Guard, change: dict[str, object]
) -> None:
    off(
        monkeypatch,
        protocol.SecureRounds,
        "_statement",
        lambda _self, _attempt, _ask, asked, _run: asked.statement,
    )
    sent = standing.step(VICTIM, told_otherwise(fresh(standing), change))
    assert isinstance(sent, MaskedInput)


@pytest.mark.parametrize(
    ("roster", "words"),
    [
        ((*SITES, site_name("zenith")), "the roster names zenith, which the plan does not invite"),
        (OTHERS, "the roster does not name this site"),
    ],
)
def test_a_roster_that_the_site_has_not_accepted(
    standing: SecureBank, roster: tuple[str, ...], words: str
) -> None:
    asked = fresh(standing)
    other = replace(asked, roster=roster)
    ask = replace(asked.set_up().request_for(VICTIM), statement=other.statement.digest, roster=roster)
    standing.refuses(VICTIM, replace(asked.request(ask), statement=other.statement), words)


def test_a_statement_that_the_masks_are_not_bound_to(standing: SecureBank) -> None:
    words = "the statement is not the one that the inputs are to be masked for"
    for said in (None, replace(fresh(standing).statement, roster=SITES[1:])):
        asked = fresh(standing)
        request = asked.mask_request(asked.set_up(), VICTIM)
        standing.refuses(VICTIM, replace(request, statement=said), words)


def test_keys_of_an_attempt_under_another_plan_than_the_documents(standing: SecureBank) -> None:
    asked = fresh(standing)
    elsewhere = Frame(replace(asked.attempt, plan=digest_of("another")), AdvertiseRequest())
    request = replace(asked.advertise_request(), frames=(elsewhere,))
    standing.refuses(VICTIM, request, "the attempt names another plan than this site accepted")


# Keys ahead are a favour.


def test_keys_ahead_save_the_next_attempt_its_set_up(bank: SecureBank) -> None:
    asked, following = Sum(bank), training(bank)
    step = asked.set_up()
    keys = central.Advertising(following.server)
    for site in SITES:
        masking = asked.mask_request(step, site)
        rider = Frame(following.attempt, AdvertiseRequest())
        sent, ahead = bank.steps(site, replace(masking, frames=(*masking.frames, rider)))
        step.receive(sent.body)
        keys.receive(ahead.body)
    confirming, sharing = step.close(), keys.close()
    for site in SITES:
        request = asked.request(confirming.request, Frame(following.attempt, sharing.request))
        signed, sealed = bank.steps(site, request)
        confirming.receive(signed.body)
        sharing.receive(sealed.body)
    asked.unmask(confirming.close())
    total = following.unmask(following.confirm(following.mask(following.collecting(sharing))))
    assert np.array_equal(total, sum(following.plain(site) for site in SITES))


WRONG_RIDERS: dict[str, Callable[[Sum, Sum], Frame]] = {
    "shares without keys": lambda asked, known: Frame(
        fresh(asked.bank).attempt, ShareRequest(known.keys().request.cohort)
    ),
    "a cohort without this site": lambda _, known: Frame(
        known.attempt, ShareRequest(known.keys().request.cohort[:-1])
    ),
    "a cohort of nobody": lambda _, known: Frame(
        known.attempt, ShareRequest(known.keys().request.cohort[:0])
    ),
    "keys for an unknown run": lambda asked, _: Frame(
        replace(asked.attempt, run=RunId("run-00000000000000ff")), AdvertiseRequest()
    ),
    "keys for another plan": lambda asked, _: Frame(
        replace(asked.attempt, plan=digest_of("another")), AdvertiseRequest()
    ),
    "keys of another suite": lambda asked, _: Frame(
        replace(asked.attempt, suite=Suite.P256), AdvertiseRequest()
    ),
    "keys for what is masked": lambda asked, _: Frame(asked.attempt, AdvertiseRequest()),
    "what only a site says": lambda _, known: Frame(known.attempt, known.keys().request.cohort[0]),
}
"""By defect: what rides on the request for an input to the first sum. The second is another attempt, for which nobody has keys yet."""


@pytest.mark.parametrize("defect", list(WRONG_RIDERS))
def test_a_wrong_rider_goes_unanswered_and_the_step_that_it_rides_on_does_not_suffer(
    standing: SecureBank, defect: str
) -> None:
    asked = fresh(standing)
    step = asked.set_up()
    rider, request = WRONG_RIDERS[defect](asked, fresh(standing)), asked.mask_request(step, VICTIM)
    (sent,) = standing.steps(VICTIM, replace(request, frames=(*request.frames, rider)))
    step.receive(sent.body)
    confirming = asked.mask(step, OTHERS)
    assert VICTIM in asked.confirm(confirming).request.confirmations


# What a site remembers does not grow with what it is asked.


def test_memory_is_bounded_whatever_keys_are_asked_for(bank: SecureBank) -> None:
    west = bank.participant(VICTIM)
    for number in range(1, 21):
        bank.step(VICTIM, Sum(bank, attempt_number=number).advertise_request())
    for number in range(1, 9):
        bank.step(VICTIM, Sum(bank, run=RunId(f"run-{number:016x}")).advertise_request())
    for seed in range(2, 8):
        other = replace(bank, plan=secure_plan(seed=seed))
        bank.step(VICTIM, Sum(other).advertise_request())
    rounds = west._secure
    assert len(rounds._states) == protocol._KEPT_ATTEMPTS
    assert len(rounds._runs) == protocol._KEPT_RUNS
    assert len(west._set_ups) == door._KEPT_SET_UPS
    assert len(west._sessions) == len(west._accepted) == door._KEPT_SESSIONS


# What cannot be computed says nothing about rows.


def spoiled(value: float) -> Callable[..., object]:
    return lambda session, *_: np.full(session.model.size, value)


def failed(bank: SecureBank, asked: Sum) -> None:
    """West is asked for an input that it cannot compute: it says that, and nothing of it is recorded as sent."""
    step = asked.set_up()
    assert bank.refusal(VICTIM, asked.mask_request(step, VICTIM)) == Refusal(
        RefusalCode.FAILED, "could not compute the train stage; the site's log says why"
    )
    assert bank.recorded(VICTIM) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_update_that_is_not_finite_is_never_sent(
    bank: SecureBank, monkeypatch: Guard, value: float
) -> None:
    with monkeypatch.context() as guard:
        guard.setattr(TrainingSession, "train", spoiled(value))
        failed(bank, training(bank))
    retried = replace(training(bank), attempt_number=2)
    assert isinstance(bank.step(VICTIM, retried.mask_request(retried.set_up(), VICTIM)), MaskedInput)


def test_a_training_that_diverges_is_never_sent(bank: SecureBank) -> None:
    bank.plan = secure_plan(learning_rate=1e6, l2=1e6, local_epochs=4)
    failed(bank, training(bank))


def test_data_that_break_the_contract_say_contract_and_nothing_more(bank: SecureBank) -> None:
    (bank.folder / VICTIM / "rows.parquet").unlink()
    asked = Sum(bank, roster=OTHERS)
    assert bank.refusal(VICTIM, asked.advertise_request()) == Refusal(RefusalCode.CONTRACT, "")
    assert np.array_equal(asked.opened(), sum(asked.plain(site) for site in OTHERS))
