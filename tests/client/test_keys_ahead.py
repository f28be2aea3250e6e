"""Keys for the next attempt ride on the steps of this one: a favour, by which nothing else comes in and nothing else suffers.

Every attack is named, and is shown to work with its guard off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from client.secure import rounds as secure_rounds
from client.secure.rounds import SecureRounds
from protos import secure_codec
from protos.codec_fields import CodecError
from protos.frames import RefusalCode, SecureRequest, Stage
from strategies.encoding import digest_of
from strategies.ids import SiteName
from strategies.secagg import server as central
from strategies.secagg.messages import (
    ADVERTISEMENT,
    Advertisement,
    AdvertiseRequest,
    Body,
    Confirmation,
    Frame,
    MaskedInput,
    ShareRequest,
    Shares,
)
from strategies.secagg.payloads import Integers
from strategies.secagg.suites import Suite
from tests.client.rounds_for_tests import Guard, another_run, every_step, fresh, off, training
from tests.client.secure_for_tests import OTHERS, SITES, VICTIM, SecureBank, Sum


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
    "a key of low order": lambda _, known: with_a_key_of_low_order(known),
    "keys for an unknown run": lambda asked, _: Frame(
        replace(asked.attempt, run=another_run(255)), AdvertiseRequest()
    ),
    "keys for another run that it knows": lambda asked, _: in_another_run(asked.bank),
    "keys for another plan": lambda asked, _: Frame(
        replace(asked.attempt, plan=digest_of("another")), AdvertiseRequest()
    ),
    "keys of another suite": lambda asked, _: Frame(
        replace(asked.attempt, suite=Suite.P256), AdvertiseRequest()
    ),
    "keys for what is masked": lambda asked, _: Frame(asked.attempt, AdvertiseRequest()),
}
"""By defect: what rides on the request for an input to the first sum. The second is another attempt, for which nobody has keys yet."""


def in_another_run(bank: SecureBank) -> Frame:
    """A request for keys in a run that the victim takes part in, too."""
    other = Sum(bank, run=another_run(1))
    bank.step(VICTIM, other.advertise_request())
    return Frame(replace(other.attempt, attempt=2), AdvertiseRequest())


def with_a_key_of_low_order(asked: Sum) -> Frame:
    """A cohort in which one colluding site has signed an envelope key that gives no secret to anybody."""
    bank, bad = asked.bank, SITES[0]
    keys = asked.keys().cohort.members
    chosen = replace(keys[bad], envelope_key=bytes(32))
    message = Advertisement.signed_bytes(
        asked.attempt, bad, chosen.mask_key, chosen.envelope_key, chosen.own_seed
    )
    signature = bank.participant(bad).identity.sign_raw(ADVERTISEMENT, message)
    return Frame(
        asked.attempt, ShareRequest((replace(chosen, signature=signature), *list(keys.values())[1:]))
    )


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


@pytest.mark.parametrize("defect", ["a key of low order", "a cohort of nobody"])
def test_a_wrong_rider_takes_a_confirmation_with_it_without_the_guard(
    bank: SecureBank, monkeypatch: Guard, defect: str
) -> None:
    """One colluding site could end every attempt that way: the other sites have masked, and confirm no more."""
    asked, following = Sum(bank), training(bank)
    confirming, rider = asked.mask(asked.set_up()), WRONG_RIDERS[defect](asked, following)
    off(monkeypatch, SecureRounds, "answer", every_step)
    for site in OTHERS[1:]:
        refusal = bank.refusal(site, asked.request(confirming.request, rider))
        assert refusal.code is RefusalCode.PROTOCOL
        bank.refuses(site, asked.request(confirming.request), "the step does not follow")


def shared_and_asked_for_keys_again(asked: Sum) -> central.Confirming:
    """With the request for shares everybody is asked for fresh keys for the very attempt; then all goes on."""
    sharing, again = asked.keys(), Frame(asked.attempt, AdvertiseRequest())
    for site in SITES:
        sharing.receive(asked.bank.step(site, asked.request(sharing.request, again)))  # type: ignore[arg-type]
    return asked.mask(asked.collecting(sharing))


def test_keys_for_the_attempt_itself_do_not_replace_those_that_are_shared(standing: SecureBank) -> None:
    asked = fresh(standing)
    assert shared_and_asked_for_keys_again(asked).survivors == SITES


def test_keys_for_the_attempt_itself_replace_those_that_are_shared_without_the_guard(
    standing: SecureBank, monkeypatch: Guard
) -> None:
    off(monkeypatch, secure_rounds, "_require_keys_ahead")
    with pytest.raises(AssertionError, match="has advertised for this attempt; the step does not follow"):
        shared_and_asked_for_keys_again(fresh(standing))


def test_keys_for_another_run_come_along_without_the_guard(standing: SecureBank, monkeypatch: Guard) -> None:
    """And what is asked of one run then says which other ones a site is in."""
    off(monkeypatch, secure_rounds, "_require_keys_ahead")
    asked = fresh(standing)
    request = asked.mask_request(asked.set_up(), VICTIM)
    _, ahead = standing.steps(VICTIM, replace(request, frames=(*request.frames, in_another_run(standing))))
    assert isinstance(ahead.body, Advertisement)


# Inputs, confirmations and shares that ride on a request for keys: the journal guards the first step of a request, and would not know.


def riding(bank: SecureBank, site: SiteName, request: SecureRequest) -> Body:
    """What a site says to the one step of a request that rides on another, harmless one."""
    harmless = Frame(fresh(bank).attempt, AdvertiseRequest())
    said = bank.steps(site, replace(request, frames=(harmless, *request.frames), task=bank.task))
    assert isinstance(said[0].body, Advertisement)
    return said[1].body if len(said) > 1 else harmless.body


def opened_by_riders(asked: Sum) -> Integers:
    """A whole sum of which no input, confirmation or share was asked for by itself."""
    bank, step = asked.bank, asked.set_up()
    for site in asked.roster:
        step.receive(riding(bank, site, asked.mask_request(step, site)))  # type: ignore[arg-type]
    confirming = step.close()
    for site in asked.roster:
        confirming.receive(riding(bank, site, asked.request(confirming.request)))  # type: ignore[arg-type]
    unmasking = confirming.close()
    for site in asked.roster:
        unmasking.receive(riding(bank, site, asked.request(unmasking.request)))  # type: ignore[arg-type]
    return unmasking.open().total


RELEASES: dict[str, Callable[[Sum], SecureRequest]] = {
    "mask": lambda asked: asked.mask_request(asked.set_up(), VICTIM),
    "confirm": lambda asked: asked.request(asked.mask(asked.set_up()).request),
    "unmask": lambda asked: asked.request(asked.confirmed().request),
}


@pytest.mark.parametrize("step", list(RELEASES))
def test_a_step_that_releases_something_rides_on_no_other(standing: SecureBank, step: str) -> None:
    request = RELEASES[step](fresh(standing))
    with pytest.raises(CodecError, match="a step that releases something rides on another"):
        riding(standing, VICTIM, request)


@pytest.mark.parametrize("step", list(RELEASES))
def test_a_step_that_releases_something_goes_unanswered_if_it_is_read(
    bank: SecureBank, monkeypatch: Guard, step: str
) -> None:
    """The second guard; the request by itself is answered afterwards, because it was not taken."""
    request = RELEASES[step](Sum(bank))
    recorded = bank.recorded(VICTIM)
    with monkeypatch.context() as guard:
        off(guard, secure_codec, "_require_keys_ahead")
        assert riding(bank, VICTIM, request) == AdvertiseRequest()
    assert bank.recorded(VICTIM) == recorded
    assert isinstance(bank.step(VICTIM, request), MaskedInput | Confirmation | Shares)


def test_two_sums_by_riders_show_an_input_without_the_guards(bank: SecureBank, monkeypatch: Guard) -> None:
    """No journal has an entry, and so no site knows that it has given shares for one attempt when it is asked for another."""
    off(monkeypatch, secure_codec, "_require_keys_ahead")
    off(monkeypatch, SecureRounds, "answer", every_step)
    everybody, fewer = fresh(bank), replace(fresh(bank), roster=OTHERS)
    shown = opened_by_riders(everybody) - opened_by_riders(fewer)
    assert np.array_equal(shown, everybody.plain(VICTIM))
    assert [bank.recorded(site) for site in SITES] == [0] * 4


# Several runs at once, each with keys ahead.


def prepared_together(bank: SecureBank, runs: int) -> list[tuple[Sum, central.Confirming]]:
    """Inputs of several runs at once; keys for the first round of each ride along."""
    sums = [Sum(bank, run=another_run(number)) for number in range(runs)]
    steps = [asked.set_up() for asked in sums]
    for asked, step in zip(sums, steps, strict=True):
        rider = Frame(Sum(bank, Stage.TRAIN, 1, run=asked.run).attempt, AdvertiseRequest())
        for site in SITES:
            masking = asked.mask_request(step, site)
            sent, ahead = bank.steps(site, replace(masking, frames=(*masking.frames, rider)))
            assert isinstance(ahead.body, Advertisement)
            step.receive(sent.body)  # type: ignore[arg-type]
    return [(asked, step.close()) for asked, step in zip(sums, steps, strict=True)]


def opened_together(bank: SecureBank, runs: int) -> list[bool]:
    """Whether each of so many runs opens its sum."""
    prepared = prepared_together(bank, runs)
    totals = [asked.unmask(asked.confirm(confirming)) for asked, confirming in prepared]
    expected = sum(prepared[0][0].plain(site) for site in SITES)
    return [np.array_equal(total, expected) for total in totals]


def test_runs_that_a_site_takes_part_in_at_once_do_not_push_each_other_out(bank: SecureBank) -> None:
    assert opened_together(bank, 4) == [True] * 4


@pytest.mark.parametrize("kept", ["_KEPT_RUNS", "_KEPT_ATTEMPTS"])
def test_runs_push_each_other_out_of_a_memory_that_is_too_small(
    bank: SecureBank, monkeypatch: Guard, kept: str
) -> None:
    monkeypatch.setattr(secure_rounds, kept, 1)
    with pytest.raises(AssertionError, match="this site has no keys for this attempt"):
        opened_together(bank, 2)
