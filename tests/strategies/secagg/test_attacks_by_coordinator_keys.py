"""A coordinator that shows a site keys or envelopes that are not what they should be. Each attack fails, and its control works."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import client as site_side
from strategies.secagg import cohort as cohorts
from strategies.secagg.client import Client, ProtocolAbort, advertise
from strategies.secagg.labels import MASK_PAIR, Attempt
from strategies.secagg.messages import (
    ADVERTISEMENT,
    Advertisement,
    MaskedInput,
    MaskRequest,
    ShareRequest,
)
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import KeySeed, PrivateKey, Suite, pair_mask
from tests.strategies.secagg.attacks_for_tests import (
    OTHERS,
    VICTIM,
    Guard,
    agreed_by,
    combined,
    off,
    posing_as_the_others,
    sealed_to,
    stripped,
    without,
)
from tests.strategies.secagg.attempt_for_tests import (
    RING,
    STATEMENT,
    Federation,
    Values,
    attempt_of,
    stream,
)

# Key substitution.


def swap_keys(federation: Federation) -> Values:
    """All keys but the victim's are the coordinator's: what it reads of the victim."""
    federation.advertised[VICTIM] = advertise(federation.client(VICTIM), federation.entropy)
    cohort = [federation.advertised[VICTIM].advertisement]
    owned: dict[SiteName, tuple[PrivateKey, PrivateKey]] = {}
    for site in OTHERS:
        mask, envelope = (PrivateKey(federation.suite, KeySeed(federation.entropy(32))) for _ in range(2))
        owned[site] = (mask, envelope)
        forged = replace(
            cohort[0], site=site, mask_key=mask.public, envelope_key=envelope.public, signature=bytes(64)
        )
        cohort.append(forged)
    return posing_as_the_others(federation, cohort, owned)


@pytest.mark.parametrize("suite", Suite)
def test_key_substitution_by_the_coordinator(suite: Suite) -> None:
    with pytest.raises(ProtocolAbort, match="keys of site-0001 are not signed by its identity"):
        swap_keys(Federation(suite=suite))


@pytest.mark.parametrize("suite", Suite)
def test_key_substitution_by_the_coordinator_works_without_signatures(
    monkeypatch: Guard, suite: Suite
) -> None:
    without(monkeypatch, cohorts, "check_advertisement", "are not signed by its identity")
    federation = Federation(suite=suite)
    assert np.array_equal(swap_keys(federation), federation.vectors()[VICTIM])


# One key under two names.


def stolen(federation: Federation, key: bytes) -> list[Advertisement]:
    """A cohort in which the third site advertises `key`, the second one's mask key or another way to write it."""
    copied = federation.advertised[OTHERS[0]].advertisement
    thief = federation.client(OTHERS[1])
    own = federation.advertised[thief.site].advertisement.envelope_key
    signed = copied.signed_bytes(federation.attempt, thief.site, key, own, copied.own_seed)
    theirs = replace(
        copied, site=thief.site, mask_key=key, envelope_key=own, signature=thief.sign(ADVERTISEMENT, signed)
    )
    return [*(item for item in federation.advertisements() if item.site != thief.site), theirs]


@pytest.mark.parametrize("suite", Suite)
def test_one_key_under_two_names(suite: Suite) -> None:
    federation = Federation(suite=suite)
    federation.advertise()
    key = federation.advertised[OTHERS[0]].advertisement.mask_key
    with pytest.raises(ProtocolAbort, match="site-0001 and site-0002 advertise the same key"):
        federation.shares_with(VICTIM, stolen(federation, key))


def other_bit(key: bytes) -> bytes:
    """The bit of a key of X25519 that the function ignores, the other way."""
    return bytes([*key[:-1], key[-1] ^ 0x80])


def mirrored(key: bytes) -> bytes:
    """The point of P-256 with the same x, of which agreement uses nothing else."""
    return bytes([key[0] ^ 1, *key[1:]])


@pytest.mark.parametrize(
    ("suite", "rewrite", "reason"),
    [
        (Suite.X25519, other_bit, "not written in the one canonical way"),
        (Suite.P256, mirrored, "advertise the same key"),
    ],
)
def test_one_key_under_two_names_in_another_writing(
    suite: Suite, rewrite: Callable[[bytes], bytes], reason: str
) -> None:
    federation = Federation(suite=suite)
    federation.advertise()
    key = rewrite(federation.advertised[OTHERS[0]].advertisement.mask_key)
    with pytest.raises(ProtocolAbort, match=reason):
        federation.shares_with(VICTIM, stolen(federation, key))


def test_one_key_under_two_names_gains_nothing_as_labels_name_the_parties() -> None:
    """The second line of defence: what the victim agrees on with both is the same, what it derives from it is not."""
    federation = Federation(suite=Suite.P256)
    step = federation.advertise()
    victim = federation.advertised[VICTIM].keys.mask
    key = federation.advertised[OTHERS[0]].advertisement.mask_key
    agreed = victim.agree(key)
    assert agreed == victim.agree(mirrored(key))
    owner, thief = (pair_mask(agreed, step.cohort.label(MASK_PAIR, VICTIM, site)) for site in OTHERS[:2])
    assert owner != thief


def test_one_key_for_both_purposes() -> None:
    """Its seed would be shared as that of a mask key, and give the envelopes."""
    federation = Federation()
    federation.advertise()
    item = federation.advertised[VICTIM].advertisement
    signed = item.signed_bytes(federation.attempt, VICTIM, item.mask_key, item.mask_key, item.own_seed)
    signature = federation.identities.signer(VICTIM)(ADVERTISEMENT, signed)
    both = replace(item, envelope_key=item.mask_key, signature=signature)
    with pytest.raises(Refused, match="one key for both purposes"):
        cohorts.check_advertisement(both, federation.attempt, federation.identities.verify)


# Cohorts that differ from site to site.


def test_a_cohort_that_holds_other_keys_of_this_site() -> None:
    federation = Federation()
    federation.advertise()
    older = federation.advertised[VICTIM]
    federation.advertise()
    with pytest.raises(ProtocolAbort, match="does not hold this site with the keys"):
        older.share(ShareRequest(tuple(federation.advertisements())), federation.entropy)


def two_cohorts(federation: Federation) -> MaskedInput:
    """The victim is shown one site with other keys than everybody else is, both properly signed: that site is the coordinator's."""
    federation.advertise()
    seen = federation.advertisements()
    twin = advertise(federation.client(OTHERS[2]), stream("twin"))
    mixed = [*seen[:3], twin.advertisement]
    shared, _ = federation.shares_with(VICTIM, mixed)
    sealed = {site: federation.shares_with(site, seen)[1].sealed[VICTIM] for site in OTHERS[:2]}
    _, theirs = twin.share(ShareRequest(tuple(mixed)), federation.entropy)
    sealed[OTHERS[2]] = theirs.sealed[VICTIM]
    request = MaskRequest(statement=STATEMENT, roster=federation.sites, envelopes=sealed)
    return shared.mask(request, RING, federation.vectors()[VICTIM])[1]


def test_sites_that_saw_different_cohorts_cannot_read_each_other() -> None:
    with pytest.raises(
        ProtocolAbort, match="envelope from site-0001 to site-0000 was not sealed by its sender"
    ):
        two_cohorts(Federation())


def test_sites_that_saw_different_cohorts_go_on_if_keys_are_not_bound_to_them(monkeypatch: Guard) -> None:
    bound = cohorts.Cohort.label
    off(monkeypatch, cohorts.Cohort, "label", lambda *parts: replace(bound(*parts), cohort=None))
    assert two_cohorts(Federation()).site == VICTIM


# Envelopes.


def test_an_envelope_for_somebody_else() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    request = ready.ask(STATEMENT, RING, 5).request_for(VICTIM)
    swapped = {**request.envelopes, OTHERS[0]: request.envelopes[OTHERS[1]]}
    with pytest.raises(ProtocolAbort, match="was not sealed by its sender"):
        federation.shared[VICTIM].mask(replace(request, envelopes=swapped), RING, np.zeros(5, np.int64))


def test_an_envelope_that_does_not_come() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    request = ready.ask(STATEMENT, RING, 5).request_for(VICTIM)
    missing = {site: sealed for site, sealed in request.envelopes.items() if site != OTHERS[0]}
    with pytest.raises(ProtocolAbort, match="its envelope did not come"):
        federation.shared[VICTIM].mask(replace(request, envelopes=missing), RING, np.zeros(5, np.int64))


# Suite downgrade.


def downgrade(federation: Federation) -> Values:
    """Under a plan that says P-256 the coordinator asks for an attempt in X25519, and has broken that: what it reads of the victim.

    "Broken" means that it gets the private key of any X25519 public key. All else it has from messages.
    """
    federation.attempt = attempt_of(suite=Suite.X25519)
    ready = federation.share(federation.advertise())
    sent = federation.masked_input(ready.ask(STATEMENT, RING, 5), VICTIM, federation.vectors()[VICTIM])
    keys = [key for state in federation.advertised.values() for key in (state.keys.mask, state.keys.envelope)]
    broken = {key.public: key for key in keys if key.suite is Suite.X25519}
    cohort = ready.cohort
    owns = {}
    for site in OTHERS:
        sealed = ready.sealed[VICTIM][site]
        owns[site] = sealed_to(cohort, VICTIM, broken[cohort.members[site].envelope_key], sealed)[
            SHARE_BYTES:
        ]
    masks = {site: broken[cohort.members[site].mask_key] for site in OTHERS}
    return stripped(cohort, sent, combined(cohort, owns), agreed_by(cohort, masks))


def test_suite_downgrade() -> None:
    with pytest.raises(ProtocolAbort, match="names suite x25519-aes256-sha256; the plan's is p256"):
        downgrade(Federation(suite=Suite.P256))


def test_suite_downgrade_gives_the_input_away_where_suites_are_negotiated(monkeypatch: Guard) -> None:
    """The control: a site that takes the suite that it is asked for, as a protocol with negotiation would have it."""

    def negotiate(self: Client) -> None:
        asked = replace(self.parameters, suite=Suite(self.attempt.suite))
        object.__setattr__(self, "parameters", asked)

    off(monkeypatch, site_side.Client, "__post_init__", negotiate)
    federation = Federation(suite=Suite.P256)
    assert np.array_equal(downgrade(federation), federation.vectors()[VICTIM])


def test_suite_downgrade_by_single_keys() -> None:
    weak, strong = Federation(suite=Suite.X25519), Federation(suite=Suite.P256)
    weak.advertise()
    strong.advertise()
    cohort = [strong.advertised[VICTIM].advertisement, *weak.advertisements()[1:]]
    with pytest.raises(ProtocolAbort, match="a public key of p256-aes256-sha256 has 33 bytes"):
        strong.shares_with(VICTIM, cohort)


def signature_holds_for_another_suite(federation: Federation) -> bool:
    item = federation.advertised[VICTIM].advertisement
    other = replace(federation.attempt, suite="x448-aes256-sha512")
    signed = item.signed_bytes(other, VICTIM, item.mask_key, item.envelope_key, item.own_seed)
    return federation.identities.verify(VICTIM, ADVERTISEMENT, signed, item.signature)


def test_suite_downgrade_is_signed_for_the_suite_that_is_used() -> None:
    """Keys of two suites may have one form, as those of X25519 and of a later suite on the same curve would."""
    federation = Federation()
    federation.advertise()
    assert not signature_holds_for_another_suite(federation)


def test_suite_downgrade_passes_with_signatures_that_do_not_name_the_suite(monkeypatch: Guard) -> None:
    off(monkeypatch, Attempt, "parts", lambda self: (self.plan, self.run, self.stage, str(self.round)))
    federation = Federation()
    federation.advertise()
    assert signature_holds_for_another_suite(federation)
