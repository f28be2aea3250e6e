"""What a site checks of a roster, of survivors and of confirmations, and what a coordinator takes from one site once.

For each guard that a test of an attack does not reach: what it refuses, and that nothing else does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import client as site_side
from strategies.secagg import cohort as cohorts
from strategies.secagg import server as central
from strategies.secagg.client import Masked, ProtocolAbort, Shared, advertise
from strategies.secagg.messages import ConfirmRequest, MaskedInput
from tests.strategies.secagg.attacks_for_tests import DIMENSION, VICTIM, Guard, without
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, names, stream

STRANGER = SiteName("stranger")
SITES = names(5)
Receives = Callable[..., None]

LISTS = {
    "not sorted": SITES[::-1],
    "a site twice": (SITES[0], *SITES),
    "a stranger": (*SITES, STRANGER),
}


# The roster.


def masked_for(roster: tuple[SiteName, ...]) -> MaskedInput:
    """The victim is asked for an input with this roster, and has everybody's envelopes."""
    federation = Federation(count=5)
    ask = federation.share(federation.advertise()).ask(STATEMENT, RING, DIMENSION).request_for(VICTIM)
    _, sent = federation.shared[VICTIM].mask(
        replace(ask, roster=roster), RING, np.zeros(DIMENSION, dtype=np.int64)
    )
    return sent


@pytest.mark.parametrize("roster", LISTS.values(), ids=LISTS)
def test_a_roster_that_is_no_part_of_the_cohort(roster: tuple[SiteName, ...], monkeypatch: Guard) -> None:
    assert masked_for(SITES).site == VICTIM
    with pytest.raises(ProtocolAbort, match="the roster is not a sorted part of the cohort"):
        masked_for(roster)
    without(monkeypatch, Shared, "_check_roster", "is not a sorted part of the cohort")
    assert masked_for(roster).site == VICTIM


def test_a_roster_without_the_site_that_is_asked(monkeypatch: Guard) -> None:
    """Whoever is on it has no mask towards the victim, whose input nobody could ever open."""
    with pytest.raises(ProtocolAbort, match="the roster does not name this site"):
        masked_for(SITES[1:])
    without(monkeypatch, Shared, "_check_roster", "does not name this site")
    assert masked_for(SITES[1:]).site == VICTIM


# The survivors.


@pytest.mark.parametrize("survivors", LISTS.values(), ids=LISTS)
def test_survivors_that_are_no_part_of_the_roster(
    survivors: tuple[SiteName, ...], monkeypatch: Guard
) -> None:
    federation = Federation(count=5)
    federation.until_masked()
    with pytest.raises(ProtocolAbort, match="the survivors are not a sorted part of the roster"):
        federation.masked[VICTIM].confirm(ConfirmRequest(survivors))
    without(monkeypatch, Masked, "confirm", "are not a sorted part of the roster")
    assert federation.masked[VICTIM].confirm(ConfirmRequest(survivors))[1].site == VICTIM


def called_dropped(federation: Federation) -> bytes:
    """Of the victim, whose input came, others are told that it did not: the share of its own mask key that it gives itself."""
    step = federation.until_masked()
    others = replace(step, request=ConfirmRequest(SITES[1:]))
    for site in SITES[1:]:
        others.receive(federation.masked[site].confirm(others.request)[1])
    state, _ = federation.masked[VICTIM].confirm(others.request)
    return state.unmask(others.close().request).mask_keys[VICTIM]


def test_a_site_that_has_sent_its_input_confirms_no_survivors_without_it(monkeypatch: Guard) -> None:
    with pytest.raises(ProtocolAbort, match="has sent its input, and is not named among the survivors"):
        called_dropped(Federation(count=5))
    without(monkeypatch, Masked, "confirm", "is not named among the survivors")
    assert len(called_dropped(Federation(count=5))) == 33


# Confirmations of sites that are not recognised.


def confirmed_by_a_stranger(federation: Federation) -> int:
    """Of seven sites the victim does not recognise the last, and sees five signatures: its own, the last site's, three peers'."""
    step = federation.confirm(federation.until_masked())
    chosen = (VICTIM, *federation.sites[1:4], federation.sites[-1])
    signed = {site: step.request.confirmations[site] for site in chosen}
    return len(federation.confirmed[VICTIM].unmask(replace(step.request, confirmations=signed)).own_seeds)


def seven() -> Federation:
    sites = names(7)
    return Federation(count=7, recognised={VICTIM: frozenset(sites[1:-1])})


def test_a_confirmation_by_a_site_that_is_not_recognised_does_not_count(monkeypatch: Guard) -> None:
    with pytest.raises(ProtocolAbort, match=r"4 of the peers that this site recognises .*; 5 are needed"):
        confirmed_by_a_stranger(seven())
    assert confirmed_by_a_stranger(Federation(count=7)) == 7
    check = site_side.Confirmed._check_confirmations
    monkeypatch.setattr(
        site_side.Confirmed,
        "_check_confirmations",
        lambda state, signed: check(replace(state, recognised=frozenset(names(7))), signed),
    )
    assert confirmed_by_a_stranger(seven()) == 7


# One site twice in a cohort.


def test_a_site_that_advertises_twice_in_one_cohort(monkeypatch: Guard) -> None:
    """With two pairs of keys, both properly signed: sites could take one pair or the other for it."""
    federation = Federation(count=5)
    federation.advertise()
    again = advertise(federation.client(SITES[1]), stream("again")).advertisement
    shown = [*federation.advertisements(), again]
    with pytest.raises(ProtocolAbort, match="a site advertises twice in one cohort"):
        federation.shares_with(VICTIM, shown)
    without(monkeypatch, cohorts, "checked_cohort", "advertises twice")
    cohort = cohorts.checked_cohort(
        federation.attempt, federation.parameters, shown, federation.identities.verify
    )
    backwards = cohorts.checked_cohort(
        federation.attempt,
        federation.parameters,
        [again, *federation.advertisements()],
        federation.identities.verify,
    )
    assert cohort.members[SITES[1]] != backwards.members[SITES[1]]


# The coordinator takes one message of a site at each step.


def twice(federation: Federation, step: str) -> tuple[Receives, object]:
    """Where the victim's message of a step is received, and the message, which was taken once."""
    advertising = central.Advertising(federation.server)
    sharing = federation.advertise()
    item: object = federation.advertised[VICTIM].advertisement
    advertising.receive(federation.advertised[VICTIM].advertisement)
    if step == "advertise":
        return advertising.receive, item
    ready = federation.share(sharing)
    if step == "share":
        _, item = federation.shares_with(VICTIM, federation.advertisements())
        return sharing.receive, item
    collecting = ready.ask(STATEMENT, RING, DIMENSION)
    for site in federation.sites:
        collecting.receive(federation.masked_input(collecting, site, federation.vectors()[site]))
    if step == "mask":
        return collecting.receive, federation.sent[VICTIM]
    confirming = collecting.close()
    unmasking = federation.confirm(confirming)
    if step == "confirm":
        return confirming.receive, federation.masked[VICTIM].confirm(confirming.request)[1]
    federation.unmask(unmasking)
    return unmasking.receive, federation.confirmed[VICTIM].unmask(unmasking.request)


SECOND: dict[str, tuple[type, str]] = {
    "advertise": (central.Advertising, "has advertised keys for this attempt already"),
    "share": (central.Sharing, "has sent its envelopes already"),
    "mask": (central.Collecting, "has sent its input already"),
    "confirm": (central.Confirming, "or has confirmed already"),
    "unmask": (central.Unmasking, "or has given its shares already"),
}


@pytest.mark.parametrize("step", SECOND)
def test_a_second_message_of_one_site_at_a_step(step: str, monkeypatch: Guard) -> None:
    where, words = SECOND[step]
    receive, item = twice(Federation(), step)
    with pytest.raises(Refused, match=words):
        receive(item)
    without(monkeypatch, where, "receive", words)
    receive, item = twice(Federation(), step)
    receive(item)
