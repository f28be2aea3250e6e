"""Sites that do not keep to the protocol: lies about shares, inputs of outsiders. Each attack fails, and its control works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import opening
from strategies.secagg import server as central
from strategies.secagg.client import ProtocolAbort
from strategies.secagg.labels import ENVELOPE
from strategies.secagg.messages import UPLOAD, Confirmation, MaskedInput
from strategies.secagg.server import TooFewSites
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import envelope_key, seal
from tests.strategies.secagg.attacks_for_tests import DIMENSION, OTHERS, VICTIM, Guard, is_noise, off, without
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, Values, names

LIAR = names(1)[0]


def summed(federation: Federation, sites: tuple[SiteName, ...]) -> Values:
    vectors = federation.vectors()
    return np.asarray(np.sum([vectors[site] for site in sites], axis=0))


# A client that lies about its share.


def lie(federation: Federation, kind: str, lost: frozenset[SiteName] = frozenset()) -> central.Opened:
    """One survivor changes a bit of each share of one kind that it gives."""
    ready = federation.share(federation.advertise())
    step = federation.confirm(federation.mask(ready, federation.vectors(), lost))
    for site in step.request.survivors:
        shares = federation.confirmed[site].unmask(step.request)
        if site == LIAR:
            honest = getattr(shares, kind)
            assert honest
            shares = replace(shares, **{kind: {s: bytes([*v[:-1], v[-1] ^ 1]) for s, v in honest.items()}})
        step.receive(shares)
    return step.open()


KINDS = ["own_seeds", "mask_keys"]
GONE = names(7)[6]


def believe_all(guard: Guard) -> None:
    """Take whatever secret comes of the first shares for the one that was committed to."""
    rebuild = opening._Rebuilder._rebuild

    def unchecked(
        self: opening._Rebuilder, owner: SiteName, shares: dict[SiteName, bytes], _: Callable[[bytes], bool]
    ) -> bytes:
        return rebuild(self, owner, shares, lambda _: True)

    off(guard, opening._Rebuilder, "_rebuild", unchecked)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_lies_about_its_share(kind: str) -> None:
    federation = Federation(count=7)
    opened = lie(federation, kind, frozenset({GONE}))
    assert np.array_equal(opened.total, summed(federation, federation.sites[:6]))
    assert opened.doubted == (LIAR,)


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_that_lies_about_its_share_spoils_the_sum_without_commitments(
    monkeypatch: Guard, kind: str
) -> None:
    believe_all(monkeypatch)
    federation = Federation(count=7)
    opened = lie(federation, kind, frozenset({GONE}))
    assert is_noise(opened.total, summed(federation, federation.sites[:6]))
    assert opened.doubted == ()


def test_a_client_that_lies_where_no_share_can_be_spared() -> None:
    federation = Federation(count=3, colluding=0)
    with pytest.raises(Refused, match="do not fit what site-0000 has signed"):
        lie(federation, "own_seeds")


# A client that deals a wrong share.


def deal_wrongly(federation: Federation, to: SiteName) -> central.Opened:
    """One site seals something else than its shares for one other."""
    step = federation.advertise()
    for site in federation.sites:
        federation.shared[site], envelopes = federation.advertised[site].share(
            step.request, federation.entropy
        )
        if site == LIAR:
            label = step.cohort.label(ENVELOPE, site, to)
            key = envelope_key(federation.shared[site].agreed[to], label)
            forged = seal(key, bytes(2 * SHARE_BYTES), label)
            envelopes = replace(envelopes, sealed={**envelopes.sealed, to: forged})
        step.receive(envelopes)
    return federation.unmask(federation.confirm(federation.mask(step.close(), federation.vectors())))


def test_a_client_that_deals_a_wrong_share() -> None:
    """The sum is right. Named is who gave the share that does not fit, though here it is its owner that lies: nobody can tell from outside."""
    federation = Federation()
    opened = deal_wrongly(federation, OTHERS[0])
    assert np.array_equal(opened.total, summed(federation, federation.sites))
    assert opened.doubted == (OTHERS[0],)


def test_a_client_that_deals_a_wrong_share_spoils_the_sum_without_commitments(monkeypatch: Guard) -> None:
    believe_all(monkeypatch)
    federation = Federation()
    opened = deal_wrongly(federation, OTHERS[0])
    assert is_noise(opened.total, summed(federation, federation.sites))


# A masked input from a client not in the roster.


def uninvited(federation: Federation) -> central.Collecting:
    """The last site has advertised keys and shared nothing, so it is in the cohort and not on the roster; it sends nines, properly signed."""
    outsider = federation.sites[-1]
    ready = federation.share(federation.advertise(), frozenset({outsider}))
    step = ready.ask(STATEMENT, RING, DIMENSION)
    packed = RING.pack(RING.encode(np.full(DIMENSION, 9)))
    signed = MaskedInput.signed_bytes(step.bound, outsider, packed)
    signature = federation.identities.signer(outsider)(UPLOAD, signed)
    step.receive(MaskedInput(site=outsider, statement=STATEMENT, packed=packed, signature=signature))
    return step


def test_a_masked_input_from_a_client_not_in_the_roster() -> None:
    with pytest.raises(Refused, match="site-0004 is not on the roster"):
        uninvited(Federation(count=5))


def test_a_masked_input_from_a_client_not_in_the_roster_is_counted_without_the_guard(
    monkeypatch: Guard,
) -> None:
    """It is in the sum, and the attempt is lost for everybody: no honest site confirms a survivor that it was not told of."""
    without(monkeypatch, central.Collecting, "receive", "is not on the roster")
    federation = Federation(count=5)
    step = uninvited(federation)
    assert np.array_equal(RING.decode(step.total), np.full(DIMENSION, 9))
    for site in federation.sites[:4]:
        step.receive(federation.masked_input(step, site, federation.vectors()[site]))
    with pytest.raises(ProtocolAbort, match="survivors are not a sorted part of the roster"):
        federation.confirm(step.close())


def test_a_masked_input_of_another_cohort_from_a_client_not_in_the_roster() -> None:
    """A site that is not even in the cohort, with an input that it masked among others."""
    other = Federation(count=5)
    ready = other.share(other.advertise())
    sent = other.masked_input(ready.ask(STATEMENT, RING, DIMENSION), other.sites[4], np.full(DIMENSION, 9))
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, DIMENSION)
    with pytest.raises(Refused, match="site-0004 is not on the roster"):
        step.receive(sent)
    assert not step.total.any()


def test_the_coordinator_counts_nobody_it_should_not() -> None:
    federation = Federation()
    step = federation.until_masked()
    with pytest.raises(Refused, match="no survivor"):
        step.receive(Confirmation(site=SiteName("stranger"), signature=bytes(64)))
    with pytest.raises(Refused, match="has signed other survivors"):
        step.receive(Confirmation(site=VICTIM, signature=bytes(64)))
    with pytest.raises(TooFewSites):
        step.close()
