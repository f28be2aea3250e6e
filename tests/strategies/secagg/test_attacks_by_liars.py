"""Survivors that give wrong shares, and dealers that sealed wrong ones: how many a sum stands, and who is doubted.

Each attack fails, and its control works.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import pytest

from protos.codec_fields import CodecError
from protos.secagg_codec import decode_frame, encode_frame
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import opening
from strategies.secagg import server as central
from strategies.secagg.client import ProtocolAbort, Shared
from strategies.secagg.labels import ENVELOPE
from strategies.secagg.messages import Frame, Shares
from strategies.secagg.shamir import PRIME, SHARE_BYTES, share_value
from strategies.secagg.suites import envelope_key, seal
from tests.strategies.secagg.attacks_for_tests import OTHERS, VICTIM, Guard, off, without
from tests.strategies.secagg.attempt_for_tests import RING, STATEMENT, Federation, names


def changed(share: bytes, site: SiteName) -> bytes:
    """A share that is none, and not the one that another liar makes of it."""
    return ((share_value(share) + 1 + names(200).index(site)) % PRIME).to_bytes(SHARE_BYTES, "big")


def lied(federation: Federation, liars: Collection[SiteName]) -> central.Unmasking:
    """All survivors have given their shares, these ones wrong ones of everybody's seed."""
    step = federation.confirm(federation.until_masked())
    for site in step.request.survivors:
        shares = federation.confirmed[site].unmask(step.request)
        if site in liars:
            wrong = {owner: changed(share, site) for owner, share in shares.own_seeds.items()}
            shares = replace(shares, own_seeds=wrong)
        step.receive(shares)
    return step


def is_right(federation: Federation, opened: central.Opened) -> bool:
    return np.array_equal(opened.total, np.sum(list(federation.vectors().values()), axis=0))


# Three of ten, of which seven make a threshold: more than a code corrects, and few enough to be searched for.


@pytest.mark.parametrize("liars", [names(3), names(10)[5:8], names(10)[3:5], names(10)[::5]])
def test_liars_where_a_threshold_of_sites_is_honest(liars: tuple[SiteName, ...]) -> None:
    federation = Federation(count=10)
    opened = lied(federation, liars).open()
    assert is_right(federation, opened)
    assert opened.doubted == liars


def test_liars_whose_shares_are_not_needed_are_not_looked_for() -> None:
    federation = Federation(count=10)
    opened = lied(federation, names(10)[7:]).open()
    assert is_right(federation, opened)
    assert opened.doubted == ()


def test_liars_where_less_than_a_threshold_is_honest() -> None:
    federation = Federation(count=10)
    with pytest.raises(Refused, match="the shares of the secrets of site-0000 do not fit"):
        lied(federation, names(4)).open()


def test_liars_keep_a_sum_closed_where_nobody_searches_for_them(monkeypatch: Guard) -> None:
    off(monkeypatch, opening._Rebuilder, "_searched")
    with pytest.raises(Refused, match="do not fit"):
        lied(Federation(count=10), names(3)).open()


# Forty, of which twenty-seven make a threshold: too many to try groups, so shares are decoded as a code.

FORTY, RADIUS = 40, (40 - 27) // 2


@pytest.fixture
def few_tries(monkeypatch: Guard) -> None:
    """A search that would end after a second and find nothing ends at once."""
    monkeypatch.setattr(opening, "_MOST_TRIES", 20)


@pytest.mark.usefixtures("few_tries")
@pytest.mark.parametrize("liars", [names(RADIUS), names(FORTY)[26 : 26 + RADIUS]])
def test_liars_in_a_cohort_that_is_too_large_to_search(liars: tuple[SiteName, ...]) -> None:
    federation = Federation(count=FORTY)
    step = lied(federation, liars)
    assert step.cohort.shape.threshold == 27
    opened = step.open()
    assert is_right(federation, opened)
    assert opened.doubted == liars


@pytest.mark.usefixtures("few_tries")
def test_one_liar_more_than_a_code_corrects() -> None:
    with pytest.raises(Refused, match="do not fit"):
        lied(Federation(count=FORTY), names(RADIUS + 1)).open()


@pytest.mark.usefixtures("few_tries")
def test_liars_keep_a_large_sum_closed_where_shares_are_not_decoded(monkeypatch: Guard) -> None:
    off(monkeypatch, opening._Rebuilder, "_decoded")
    with pytest.raises(Refused, match="do not fit"):
        lied(Federation(count=FORTY), names(RADIUS)).open()


# A dealer that seals something else than two shares, or nothing that can be opened.


def sealed_wrongly(federation: Federation, content: bytes | None) -> central.Ready:
    """The second site seals `content` for the victim, or replaces its envelope by noise."""
    step, dealer = federation.advertise(), OTHERS[0]
    for site in federation.sites:
        federation.shared[site], envelopes = federation.advertised[site].share(
            step.request, federation.entropy
        )
        if site == dealer:
            label = step.cohort.label(ENVELOPE, dealer, VICTIM)
            key = envelope_key(federation.shared[dealer].agreed[VICTIM], label)
            forged = bytes(82) if content is None else seal(key, content, label)
            envelopes = replace(envelopes, sealed={**envelopes.sealed, VICTIM: forged})
        step.receive(envelopes)
    return step.close()


NO_PAIRS = {"nothing": b"", "one share": bytes(SHARE_BYTES), "three": bytes(3 * SHARE_BYTES), "noise": None}


@pytest.mark.parametrize("content", list(NO_PAIRS))
def test_an_envelope_that_does_not_hold_two_shares_accuses_its_sender(content: str) -> None:
    federation = Federation()
    ready = sealed_wrongly(federation, NO_PAIRS[content])
    words = "was not sealed by its sender" if content == "noise" else "sealed something that is not two"
    with pytest.raises(ProtocolAbort, match=words) as aborted:
        federation.mask(ready, federation.vectors())
    assert aborted.value.accused == OTHERS[0]


def test_nobody_is_accused_of_what_the_coordinator_has_left_out() -> None:
    federation = Federation()
    request = federation.share(federation.advertise()).ask(STATEMENT, RING, 5).request_for(VICTIM)
    missing = {site: sealed for site, sealed in request.envelopes.items() if site != OTHERS[0]}
    with pytest.raises(ProtocolAbort, match="its envelope did not come") as aborted:
        federation.shared[VICTIM].mask(replace(request, envelopes=missing), RING, np.zeros(5, np.int64))
    assert aborted.value.accused is None


def test_an_envelope_that_does_not_hold_two_shares_makes_a_liar_of_its_receiver_without_the_guard(
    monkeypatch: Guard,
) -> None:
    """What it holds for a share is none, and no coordinator takes it."""
    without(monkeypatch, Shared, "_open", "sealed something that is not two shares")
    federation = Federation()
    ready = sealed_wrongly(federation, bytes(SHARE_BYTES))
    step = federation.confirm(federation.mask(ready, federation.vectors()))
    shares = federation.confirmed[VICTIM].unmask(step.request)
    assert isinstance(shares, Shares)
    with pytest.raises(CodecError, match="share has 0 bytes; it takes 33"):
        decode_frame(encode_frame(Frame(federation.attempt, shares)))
