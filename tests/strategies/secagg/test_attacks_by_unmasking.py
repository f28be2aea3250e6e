"""A coordinator that asks for too much when it unmasks, or tells sites different things. Each attack fails, and its control works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from strategies.encoding import digest_of
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import client as site_side
from strategies.secagg.client import Confirmed, ProtocolAbort
from strategies.secagg.labels import MASK_OWN, MASK_PAIR
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import (
    CONFIRMATION,
    Bound,
    Confirmation,
    ConfirmRequest,
    Shares,
    UnmaskRequest,
)
from strategies.secagg.suites import KeySeed, OwnSeed, PrivateKey, own_mask, pair_mask
from tests.strategies.secagg.attacks_for_tests import (
    DIMENSION,
    OTHERS,
    VICTIM,
    Guard,
    agreed_with,
    combined,
    is_noise,
    off,
    stripped,
    without,
)
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, Values, names

# Both kinds of shares of one site.


def read_by_both_kinds(federation: Federation, given: dict[SiteName, tuple[Shares, Shares]]) -> Values:
    """The victim's vector from shares of its own seed and of its mask key."""
    cohort = federation.shared[VICTIM].cohort
    own = combined(
        cohort, {site: of_survivors.own_seeds[VICTIM] for site, (of_survivors, _) in given.items()}
    )
    key = combined(cohort, {site: of_dropped.mask_keys[VICTIM] for site, (_, of_dropped) in given.items()})
    agreed = agreed_with(cohort, PrivateKey(federation.suite, KeySeed(key)), OTHERS)
    return stripped(cohort, federation.sent[VICTIM], own, agreed)


def both_kinds(federation: Federation) -> Values:
    """Every other site is asked for shares of the victim as of a survivor and as of a dropped site at once."""
    step = federation.confirm(federation.until_masked())
    twice = replace(step.request, dropped=(VICTIM,))
    given = {site: federation.confirmed[site].unmask(twice) for site in OTHERS}
    return read_by_both_kinds(federation, {site: (shares, shares) for site, shares in given.items()})


def test_double_share_request_survivor_and_dropped() -> None:
    with pytest.raises(ProtocolAbort, match="named both survivor and dropped"):
        both_kinds(Federation())


def test_double_share_request_does_not_partition_the_roster_either(monkeypatch: Guard) -> None:
    without(monkeypatch, Confirmed, "unmask", "both survivor and dropped")
    with pytest.raises(ProtocolAbort, match="does not partition the roster"):
        both_kinds(Federation())


def test_double_share_request_gives_the_input_away_without_the_guard(monkeypatch: Guard) -> None:
    without(monkeypatch, Confirmed, "unmask", "both survivor and dropped", "does not partition the roster")
    federation = Federation()
    assert np.array_equal(both_kinds(federation), federation.vectors()[VICTIM])


def one_after_the_other(federation: Federation) -> Values:
    """The victim is a survivor in one request and dropped in the next, each of them right in itself."""
    step = federation.confirm(federation.until_masked())
    again = replace(step.request, survivors=OTHERS, dropped=(VICTIM,))
    states = {site: federation.confirmed[site] for site in OTHERS}
    given = {site: (state.unmask(step.request), state.unmask(again)) for site, state in states.items()}
    return read_by_both_kinds(federation, given)


def test_double_share_request_one_after_the_other() -> None:
    with pytest.raises(ProtocolAbort, match="not those that this site has confirmed"):
        one_after_the_other(Federation())


def test_double_share_request_one_after_the_other_gives_the_input_away_without_the_guard(
    monkeypatch: Guard,
) -> None:
    without(monkeypatch, Confirmed, "unmask", "not those that this site has confirmed")
    federation = Federation()
    assert np.array_equal(one_after_the_other(federation), federation.vectors()[VICTIM])


def test_a_second_distinct_request_after_the_confirmation() -> None:
    federation = Federation()
    request = federation.confirm(federation.until_masked()).request
    other = replace(request, survivors=request.survivors[:3], dropped=request.survivors[3:])
    with pytest.raises(ProtocolAbort, match="not those that this site has confirmed"):
        federation.confirmed[VICTIM].unmask(other)


@pytest.mark.parametrize("lost", [(), names(4)[3:]])
def test_a_request_that_does_not_partition_the_roster(lost: tuple[SiteName, ...]) -> None:
    federation = Federation()
    request = federation.until_confirmed(frozenset(lost))
    for wrong in (
        replace(request, survivors=request.survivors[:-1]),
        replace(request, dropped=(*request.dropped, SiteName("stranger"))),
    ):
        with pytest.raises(ProtocolAbort, match="does not partition the roster"):
            federation.confirmed[VICTIM].unmask(wrong)


# Lists of survivors that differ from site to site.


def patchwork(federation: Federation) -> tuple[Values, Values]:
    """Tell each of ten sites of other dropouts, so that shares fit together for a set that nobody was told: six survivors of ten.

    Returns what opens, and the sum over those six.
    """
    sites, vectors = federation.sites, federation.vectors()
    ready = federation.share(federation.advertise())
    collecting = ready.ask(STATEMENT, RING, DIMENSION)
    sent = {site: federation.masked_input(collecting, site, vectors[site]) for site in sites}
    wanted = frozenset(sites[:6])
    told = {site: _told(site, place, sites) for place, site in enumerate(sites)}
    owns: dict[SiteName, dict[SiteName, bytes]] = {site: {} for site in sites}
    keys: dict[SiteName, dict[SiteName, bytes]] = {site: {} for site in sites}
    for site in sites:
        survivors = tuple(other for other in sites if other not in told[site])
        state, _ = federation.masked[site].confirm(ConfirmRequest(survivors))
        request = UnmaskRequest(
            statement=STATEMENT,
            survivors=survivors,
            dropped=tuple(sorted(told[site])),
            confirmations=signed_by_whoever_was_told(federation, survivors, told),
        )
        shares = state.unmask(request)
        for owner, share in shares.own_seeds.items():
            owns[owner][site] = share
        for owner, share in shares.mask_keys.items():
            keys[owner][site] = share
    total = RING.zeros(DIMENSION)
    cohort = ready.cohort
    for site in wanted:
        total += RING.unpack(sent[site].packed, DIMENSION)
        seed = OwnSeed(combined(cohort, dict(list(owns[site].items())[:7])))
        add_mask(RING, total, own_mask(seed, collecting.bound.label(MASK_OWN, site)), -1)
    for site in sites[6:]:
        key = PrivateKey(federation.suite, KeySeed(combined(cohort, dict(list(keys[site].items())[:7]))))
        for other in wanted:
            seed = pair_mask(
                key.agree(cohort.members[other].mask_key), collecting.bound.label(MASK_PAIR, other, site)
            )
            add_mask(RING, total, seed, -1)
    return RING.decode(total), np.sum([vectors[site] for site in wanted], axis=0)


def _told(site: SiteName, place: int, sites: tuple[SiteName, ...]) -> frozenset[SiteName]:
    """Which three of the last four dropped, as `site` is told: never itself, each of the four by at least seven others."""
    others = [other for other in sites[6:] if other != site]
    if len(others) > 3:
        others.remove(sites[6 + place % 4])
    return frozenset(others)


def signed_by_whoever_was_told(
    federation: Federation, survivors: tuple[SiteName, ...], told: dict[SiteName, frozenset[SiteName]]
) -> dict[SiteName, bytes]:
    """The confirmations that the coordinator can collect for one of its lists: each honest site signs the one it was told."""
    mine = [s for s in survivors if frozenset(federation.sites) - told[s] == frozenset(survivors)]
    return {site: federation.masked[site].confirm(ConfirmRequest(survivors))[1].signature for site in mine}


def test_inconsistent_survivor_lists_to_different_clients() -> None:
    with pytest.raises(ProtocolAbort, match="have confirmed the survivors; 7 are needed"):
        patchwork(Federation(count=10))


def test_inconsistent_survivor_lists_open_what_nobody_approved_without_confirmations(
    monkeypatch: Guard,
) -> None:
    off(monkeypatch, site_side.Confirmed, "_check_confirmations")
    federation = Federation(count=10)
    assert federation.parameters.threshold(10) == 7
    read, six = patchwork(federation)
    assert np.array_equal(read, six)


def test_a_confirmation_for_another_statement_does_not_count() -> None:
    federation = Federation()
    step = federation.until_masked()
    state, _ = federation.masked[VICTIM].confirm(ConfirmRequest(step.survivors))
    elsewhere = replace(step.bound, statement=digest_of("another"))
    forged = {
        site: federation.identities.signer(site)(
            CONFIRMATION, Confirmation.signed_bytes(elsewhere, site, step.request.digest)
        )
        for site in step.survivors
    }
    request = UnmaskRequest(statement=STATEMENT, survivors=step.survivors, dropped=(), confirmations=forged)
    with pytest.raises(ProtocolAbort, match="1 of the peers that this site recognises have confirmed"):
        state.unmask(request)


# One site is told something else than the others.


def told_apart(federation: Federation, victims: object, others: object) -> Values:
    """The victim is told `victims`, everybody else `others`, which makes them send zeros: what the coordinator reads.

    It follows the protocol towards the others, and does without the victim once that has sent its input: it takes each own mask off
    under the statement that its owner was told, and adds the victim's vector to the sum unasked.
    """
    ready = federation.share(federation.advertise())
    common, lied = (ready.ask(digest_of(said), RING, DIMENSION) for said in (others, victims))
    for site in OTHERS:
        common.receive(federation.masked_input(common, site, np.zeros(DIMENSION, dtype=np.int64)))
    sent = federation.masked_input(lied, VICTIM, federation.vectors()[VICTIM])
    RING.add_packed(common.total, sent.packed)
    common._uploaded.add(VICTIM)
    unmasking = federation.confirm(common.close(), frozenset({VICTIM}))
    shares = {site: federation.confirmed[site].unmask(unmasking.request) for site in OTHERS}
    total = common.total.copy()
    for owner in federation.sites:
        seed = OwnSeed(combined(ready.cohort, {site: item.own_seeds[owner] for site, item in shares.items()}))
        bound: Bound = (lied if owner == VICTIM else common).bound
        add_mask(RING, total, own_mask(seed, bound.label(MASK_OWN, owner)), -1)
    return RING.decode(total)


TOLD = [
    pytest.param({"model": "trains"}, {"model": "dead"}, id="inconsistent model"),
    pytest.param(
        {"model": "same", "learning_rate": 0.1},
        {"model": "same", "learning_rate": 0.0},
        id="inconsistent configuration with the same model",
    ),
]


@pytest.mark.parametrize(("victims", "others"), TOLD)
def test_what_one_site_alone_was_told_opens_noise(victims: object, others: object) -> None:
    federation = Federation()
    assert is_noise(told_apart(federation, victims, others), federation.vectors()[VICTIM])


@pytest.mark.parametrize(("victims", "others"), TOLD)
def test_what_one_site_alone_was_told_opens_its_input_if_masks_are_not_bound_to_it(
    monkeypatch: Guard, victims: object, others: object
) -> None:
    bound = Bound.label
    off(monkeypatch, Bound, "label", lambda *parts: replace(bound(*parts), statement=None))
    federation = Federation()
    assert np.array_equal(told_apart(federation, victims, others), federation.vectors()[VICTIM])


def test_an_honest_coordinator_takes_another_statement_for_a_dropout() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    sent = federation.masked_input(
        ready.ask(digest_of("other"), RING, DIMENSION), VICTIM, federation.vectors()[VICTIM]
    )
    with pytest.raises(Refused, match="for another statement"):
        ready.ask(STATEMENT, RING, DIMENSION).receive(sent)


def test_a_request_to_unmask_for_another_statement() -> None:
    federation = Federation()
    request = replace(federation.until_confirmed(), statement=digest_of("another"))
    with pytest.raises(ProtocolAbort, match="another statement than the input was masked for"):
        federation.confirmed[VICTIM].unmask(request)
