"""Attacks on one attempt, each named for itself. Every attack is shown to work with its guard off, and to fail with it on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from strategies.encoding import digest_of
from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import client as site_side
from strategies.secagg import cohort as cohorts
from strategies.secagg import labels, shamir
from strategies.secagg import server as central
from strategies.secagg.client import ProtocolAbort, advertise
from strategies.secagg.identities import Peers
from strategies.secagg.labels import ENVELOPE, MASK_OWN, MASK_PAIR, Attempt
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import (
    UPLOAD,
    Bound,
    Confirmation,
    ConfirmRequest,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    UnmaskRequest,
)
from strategies.secagg.server import TooFewSites
from strategies.secagg.shamir import SHARE_BYTES
from strategies.secagg.suites import (
    KeySeed,
    OwnSeed,
    PrivateKey,
    Suite,
    envelope_key,
    own_mask,
    pair_mask,
    seal,
    unseal,
)
from tests.strategies.secagg.attempt_for_tests import (
    RING,
    STATEMENT,
    Federation,
    Values,
    attempt_of,
    names,
    stream,
)

Guard = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def _fresh_labels() -> Iterator[None]:
    """Labels are remembered, and some controls make wrong ones."""
    labels._beginning.cache_clear()
    yield
    labels._beginning.cache_clear()


VICTIM = names(1)[0]


def off(guard: Guard, where: object, name: str, instead: Callable[..., object] = lambda *_: None) -> None:
    """Switch one guard off."""
    guard.setattr(where, name, instead)


def stripped(
    federation: Federation,
    ready: central.Ready,
    sent: MaskedInput,
    own: bytes,
    keys: dict[SiteName, PrivateKey],
) -> Values:
    """The victim's vector, for whoever has the seed of its own mask and the private mask keys of all its neighbours."""
    bound = Bound(federation.attempt, ready.cohort.digest, sent.statement)
    vector = RING.unpack(sent.packed, 5)
    add_mask(RING, vector, own_mask(OwnSeed(own), bound.label(MASK_OWN, VICTIM)), -1)
    for other, key in keys.items():
        seed = pair_mask(
            key.agree(ready.cohort.members[VICTIM].mask_key), bound.label(MASK_PAIR, VICTIM, other)
        )
        add_mask(RING, vector, seed, -1)
    return RING.decode(vector)


# A coordinator that swaps keys.


def swap_keys(federation: Federation) -> tuple[Values, Values]:
    """All keys but the victim's are the coordinator's: what it reads of the victim, and the victim's vector."""
    federation.advertised[VICTIM] = advertise(federation.client(VICTIM), federation.entropy)
    cohort = [federation.advertised[VICTIM].advertisement]
    owned: dict[SiteName, tuple[PrivateKey, PrivateKey]] = {}
    for site in federation.sites[1:]:
        mine = [PrivateKey(federation.suite, KeySeed(federation.entropy(32))) for _ in range(2)]
        owned[site] = (mine[0], mine[1])
        forged = replace(
            cohort[0], site=site, mask_key=mine[0].public, envelope_key=mine[1].public, signature=bytes(64)
        )
        cohort.append(forged)
    shared, envelopes = federation.shares_with(VICTIM, cohort)
    pairs = {}
    for site, (_, key) in owned.items():
        label = shared.cohort.label(ENVELOPE, VICTIM, site)
        agreed = key.agree(shared.cohort.members[VICTIM].envelope_key)
        pairs[site] = unseal(envelope_key(agreed, label), envelopes.sealed[site], label)
    own = combined(shared.cohort, {site: pair[SHARE_BYTES:] for site, pair in pairs.items()})
    back = {site: sealed_back(shared.cohort, site, owned[site][1]) for site in owned}
    vector = federation.vectors()[VICTIM]
    _, sent = shared.mask(
        MaskRequest(statement=STATEMENT, roster=federation.sites, envelopes=back), RING, vector
    )
    ready = central.Ready(federation.server, shared.cohort, {})
    return stripped(federation, ready, sent, own, {site: keys[0] for site, keys in owned.items()}), vector


def sealed_back(cohort: cohorts.Cohort, site: SiteName, key: PrivateKey) -> bytes:
    label = cohort.label(ENVELOPE, site, VICTIM)
    return seal(envelope_key(key.agree(cohort.members[VICTIM].envelope_key), label), bytes(66), label)


def combined(cohort: cohorts.Cohort, shares: dict[SiteName, bytes]) -> bytes:
    """A secret from shares by site, as anybody can compute it."""
    by_point = {cohort.point(site): share for site, share in shares.items()}
    return shamir.combine(by_point, shamir.coefficients_at_zero(tuple(by_point)))


def test_key_substitution_by_the_coordinator() -> None:
    with pytest.raises(ProtocolAbort, match="keys of site-0001 are not signed by its identity"):
        swap_keys(Federation())


def test_key_substitution_by_the_coordinator_works_without_signatures() -> None:
    federation = Federation()
    federation.identities.verify = lambda *_: True  # type: ignore[method-assign]
    read, vector = swap_keys(federation)
    assert np.array_equal(read, vector)


def test_one_key_under_two_names() -> None:
    federation = Federation()
    federation.advertise()
    copied = federation.advertised[federation.sites[1]].advertisement
    thief = federation.client(federation.sites[2])
    signed = copied.signed_bytes(
        federation.attempt, thief.site, copied.mask_key, copied.envelope_key, copied.own_seed
    )
    stolen = replace(copied, site=thief.site, signature=thief.sign("covenant/secagg/1 advertisement", signed))
    cohort = [item for item in federation.advertisements() if item.site != thief.site]
    with pytest.raises(ProtocolAbort, match="advertise the same key"):
        federation.shares_with(VICTIM, [*cohort, stolen])


# A coordinator that fills the cohort with sites of its own.


def ghosts(count: int, ghostly: int) -> Federation:
    """The last `ghostly` of `count` sites are certified, but no honest site recognises them."""
    sites = names(count)
    honest = frozenset(sites[: count - ghostly])
    return Federation(count=count, recognised={site: honest - {site} for site in honest}, at_least=1)


@pytest.mark.parametrize(("count", "ghostly"), [(4, 2), (4, 3), (7, 3), (10, 4)])
def test_ghost_sites_that_fill_the_cohort(count: int, ghostly: int) -> None:
    federation = ghosts(count, ghostly)
    step = federation.advertise()
    with pytest.raises(ProtocolAbort, match="not among the peers that this site recognises"):
        federation.share(step)


def test_ghost_sites_that_fill_the_cohort_learn_an_input_if_they_are_recognised() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    vectors = federation.vectors()
    opened = federation.unmask(federation.confirm(federation.mask(ready, vectors)))
    theirs = np.sum([vectors[site] for site in federation.sites[1:]], axis=0)
    assert np.array_equal(opened.total - theirs, vectors[VICTIM])


def test_ghost_survivors_do_not_count() -> None:
    """Few enough to enter the cohort, but then real sites drop out and the ghosts would be in the majority of the sum."""
    federation = ghosts(7, 1)
    ready = federation.share(federation.advertise())
    confirming = federation.mask(ready, federation.vectors(), frozenset(federation.sites[1:3]))
    with pytest.raises(ProtocolAbort, match="of 5 survivors this site recognises 3 and itself; 5 are needed"):
        federation.confirm(confirming)


def test_a_site_that_asks_for_more_peers_than_survived() -> None:
    federation = Federation(at_least=3)
    ready = federation.share(federation.advertise())
    confirming = federation.mask(ready, federation.vectors(), frozenset(federation.sites[3:]))
    with pytest.raises(ProtocolAbort, match="recognises 2 peers; its configuration asks for 3"):
        federation.confirm(confirming)


# A coordinator that asks for too much when it unmasks.


def both_kinds(federation: Federation) -> dict[SiteName, tuple[bytes, bytes]]:
    """Every other site is asked for shares of the victim as of a survivor and as of a dropped site."""
    step = federation.confirm(federation.until_masked())
    twice = replace(step.request, dropped=(VICTIM,))
    given = {}
    for site in federation.sites[1:]:
        shares = federation.confirmed[site].unmask(twice)
        given[site] = (shares.own_seeds[VICTIM], shares.mask_keys[VICTIM])
    return given


def test_double_share_request_survivor_and_dropped() -> None:
    with pytest.raises(ProtocolAbort, match="named both survivor and dropped"):
        both_kinds(Federation())


def test_double_share_request_gives_the_input_away_without_the_guard(monkeypatch: Guard) -> None:
    def unguarded(self: site_side.Confirmed, ask: UnmaskRequest) -> object:
        held = self.held
        return site_side.Shares(
            site=self.site,
            own_seeds={site: held[site][SHARE_BYTES:] for site in ask.survivors},
            mask_keys={site: held[site][:SHARE_BYTES] for site in ask.dropped},
        )

    off(monkeypatch, site_side.Confirmed, "unmask", unguarded)
    federation = Federation()
    given = both_kinds(federation)
    cohort = federation.shared[VICTIM].cohort
    own = combined(cohort, {site: pair[0] for site, pair in given.items()})
    key = PrivateKey(federation.suite, KeySeed(combined(cohort, {s: p[1] for s, p in given.items()})))
    assert key.public == cohort.members[VICTIM].mask_key
    bound = Bound(federation.attempt, cohort.digest, STATEMENT)
    vector = RING.unpack(federation.sent[VICTIM].packed, 5)
    add_mask(RING, vector, own_mask(OwnSeed(own), bound.label(MASK_OWN, VICTIM)), -1)
    for other in federation.sites[1:]:
        agreed = key.agree(cohort.members[other].mask_key)
        add_mask(RING, vector, pair_mask(agreed, bound.label(MASK_PAIR, VICTIM, other)), -1)
    assert np.array_equal(RING.decode(vector), federation.vectors()[VICTIM])


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


# A coordinator that tells sites different lists of survivors.


def patchwork(federation: Federation) -> tuple[Values, Values]:
    """Tell each of ten sites of other dropouts, so that shares fit together for a set that nobody was told: six survivors of ten.

    Returns what opens, and the sum over those six.
    """
    sites, vectors = federation.sites, federation.vectors()
    ready = federation.share(federation.advertise())
    collecting = ready.ask(STATEMENT, RING, 5)
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
    total = RING.zeros(5)
    cohort = ready.cohort
    for site in wanted:
        total += RING.unpack(sent[site].packed, 5)
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
            "covenant/secagg/1 confirmation", Confirmation.signed_bytes(elsewhere, site, step.request.digest)
        )
        for site in step.survivors
    }
    request = UnmaskRequest(statement=STATEMENT, survivors=step.survivors, dropped=(), confirmations=forged)
    with pytest.raises(ProtocolAbort, match="1 of the peers that this site recognises have confirmed"):
        state.unmask(request)


# A coordinator that tells one site something else than the others.


def told_apart(federation: Federation, victims: object, others: object) -> tuple[Values, Values]:
    """The victim is told `victims`, everybody else `others`, which makes them send zeros. Returns what opens, and the victim's vector."""
    vectors = {site: np.zeros(5, dtype=np.int64) for site in federation.sites}
    vectors[VICTIM] = federation.vectors()[VICTIM]
    ready = federation.share(federation.advertise())
    common = ready.ask(digest_of(others), RING, 5)
    for site in federation.sites[1:]:
        common.receive(federation.masked_input(common, site, vectors[site]))
    lied = ready.ask(digest_of(victims), RING, 5)
    sent = federation.masked_input(lied, VICTIM, vectors[VICTIM])
    resigned = replace(sent, statement=common.bound.statement)
    signed = MaskedInput.signed_bytes(common.bound, VICTIM, sent.packed)
    # A malicious coordinator does not check what the victim signed.
    forged = replace(resigned, signature=federation.identities.signer(VICTIM)(UPLOAD, signed))
    common.receive(forged)
    federation.masked[VICTIM] = replace(federation.masked[VICTIM], bound=common.bound)
    return federation.unmask(federation.confirm(common.close())).total, vectors[VICTIM]


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
    read, vector = told_apart(Federation(), victims, others)
    assert not np.array_equal(read, vector)
    assert np.abs(read).max() > 100 * np.abs(vector).max()  # uniform over the ring, where the vector is small


@pytest.mark.parametrize(("victims", "others"), TOLD)
def test_what_one_site_alone_was_told_opens_its_input_if_masks_are_not_bound_to_it(
    monkeypatch: Guard, victims: object, others: object
) -> None:
    bound = Bound.label

    def unbound(self: Bound, purpose: str, *parties: SiteName) -> object:
        return replace(bound(self, purpose, *parties), statement=None)

    off(monkeypatch, Bound, "label", unbound)
    read, vector = told_apart(Federation(), victims, others)
    assert np.array_equal(read, vector)


def test_an_honest_coordinator_takes_another_statement_for_a_dropout() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    sent = federation.masked_input(
        ready.ask(digest_of("other"), RING, 5), VICTIM, federation.vectors()[VICTIM]
    )
    with pytest.raises(Refused, match="for another statement"):
        ready.ask(STATEMENT, RING, 5).receive(sent)


# Messages of another time.


def test_replay_of_an_old_round() -> None:
    old, new = Federation(), Federation(number=2)
    old.advertise()
    new.advertise()
    replayed = [old.advertised[s].advertisement for s in old.sites[1:]]
    cohort = [new.advertised[VICTIM].advertisement, *replayed]
    with pytest.raises(ProtocolAbort, match="not signed by its identity for this attempt"):
        new.shares_with(VICTIM, cohort)


def test_replay_of_an_old_round_works_if_signatures_do_not_name_it(monkeypatch: Guard) -> None:
    off(monkeypatch, Attempt, "parts", lambda self: (self.suite,))
    old, new = Federation(), Federation(number=2)
    old.advertise()
    new.advertise()
    replayed = [old.advertised[s].advertisement for s in old.sites[1:]]
    shared, _ = new.shares_with(VICTIM, [new.advertised[VICTIM].advertisement, *replayed])
    assert shared.cohort.members[old.sites[1]] == replayed[0]


def retried(federation: Federation, again: Federation) -> tuple[Values, Values]:
    """The difference of the victim's uploads in two attempts, and of its two vectors (another batch, another sample)."""
    uploads = []
    vectors = federation.vectors()
    second = {site: vector + 3 for site, vector in vectors.items()}
    for which, inputs in ((federation, vectors), (again, second)):
        ready = which.share(which.advertise())
        sent = which.masked_input(ready.ask(STATEMENT, RING, 5), VICTIM, inputs[VICTIM])
        uploads.append(RING.unpack(sent.packed, 5))
    return RING.decode(uploads[1] - uploads[0]), second[VICTIM] - vectors[VICTIM]


def test_a_retry_of_the_same_round() -> None:
    shown, difference = retried(Federation(), Federation(attempt_number=2))
    assert not np.array_equal(shown, difference)


def test_a_retry_of_the_same_round_shows_a_difference_if_secrets_are_used_again() -> None:
    shown, difference = retried(Federation(seed=1), Federation(seed=1))
    assert np.array_equal(shown, difference)


# A coordinator that chooses what it must not choose.


def test_a_server_chosen_graph(monkeypatch: Guard) -> None:
    """Nothing that the coordinator says enters the graph but the signed keys; the control gives the victim neighbours of its choice."""
    federation = Federation()
    first = federation.advertise().cohort
    again = cohorts.checked_cohort(
        federation.attempt,
        federation.parameters,
        reversed(federation.advertisements()),
        federation.identities.verify,
    )
    assert first.shape == again.shape
    assert first.shape.graph.neighbours(VICTIM) == federation.sites[1:]


def test_suite_downgrade() -> None:
    federation = Federation(suite=Suite.P256)
    federation.attempt = attempt_of(suite=Suite.X25519)
    with pytest.raises(ProtocolAbort, match="names suite x25519-aes256-sha256; the plan's is p256"):
        federation.client(VICTIM)
    weak = Federation(suite=Suite.X25519)
    strong = Federation(suite=Suite.P256)
    weak.advertise()
    strong.advertise()
    cohort = [strong.advertised[VICTIM].advertisement, *weak.advertisements()[1:]]
    with pytest.raises(ProtocolAbort, match="a public key of p256-aes256-sha256 has 33 bytes"):
        strong.shares_with(VICTIM, cohort)


def test_suite_downgrade_is_signed_for_the_suite_that_is_used(monkeypatch: Guard) -> None:
    """Without the suite in what is signed, keys signed for one suite pass in an attempt of another with keys of equal form."""
    federation, other = Federation(), Federation()
    other.attempt = replace(other.attempt, suite="another-suite")
    signed = replace(federation.attempt, suite="another-suite")
    assert signed.parts() != federation.attempt.parts()
    off(monkeypatch, Attempt, "parts", lambda self: (self.plan, self.run))
    assert signed.parts() == federation.attempt.parts()


# Sums over too few.


def lonely(federation: Federation) -> MaskedInput:
    """The victim is asked for an input with itself alone on the roster."""
    federation.share(federation.advertise())
    request = MaskRequest(statement=STATEMENT, roster=(VICTIM,), envelopes={})
    return federation.shared[VICTIM].mask(request, RING, federation.vectors()[VICTIM])[1]


def test_a_roster_below_the_threshold() -> None:
    with pytest.raises(ProtocolAbort, match="1 survivors; at least 3 must be in a sum"):
        lonely(Federation())


def test_a_roster_below_the_threshold_gives_the_input_away_without_the_guard(monkeypatch: Guard) -> None:
    """Masked for itself alone, the victim adds no mask but its own, and the others give that one's seed as they should."""
    federation = Federation()
    ready = federation.share(federation.advertise())
    with monkeypatch.context() as guard:
        off(guard, site_side, "_check_survivors")
        off(guard, site_side.Shared, "_open", lambda self, _: {VICTIM: self.kept})
        request = MaskRequest(statement=STATEMENT, roster=(VICTIM,), envelopes={})
        _, sent = federation.shared[VICTIM].mask(request, RING, federation.vectors()[VICTIM])
    step = federation.confirm(federation.mask(ready, federation.vectors()))
    given = {s: federation.confirmed[s].unmask(step.request) for s in federation.sites[1:]}
    own = combined(ready.cohort, {site: shares.own_seeds[VICTIM] for site, shares in given.items()})
    assert np.array_equal(stripped(federation, ready, sent, own, {}), federation.vectors()[VICTIM])


# Sites that do not keep to the protocol.


def lie(federation: Federation) -> central.Opened:
    """One survivor adds 1 to each share that it gives."""
    step = federation.confirm(federation.until_masked())
    for site in step.request.survivors:
        shares = federation.confirmed[site].unmask(step.request)
        if site == VICTIM:
            wrong = {s: bytes([*v[:-1], v[-1] ^ 1]) for s, v in shares.own_seeds.items()}
            shares = replace(shares, own_seeds=wrong)
        step.receive(shares)
    return step.open()


def test_a_client_that_lies_about_its_share() -> None:
    federation = Federation()
    opened = lie(federation)
    assert np.array_equal(opened.total, sum(federation.vectors().values()))
    assert opened.liars == (VICTIM,)


def test_a_client_that_lies_about_its_share_spoils_the_sum_without_commitments(monkeypatch: Guard) -> None:
    federation = Federation()
    monkeypatch.setattr(
        "strategies.secagg.opening.commitment",
        lambda seed, label: federation.advertised[label.parties[0]].advertisement.own_seed,
    )
    assert not np.array_equal(lie(federation).total, sum(federation.vectors().values()))


def test_a_client_that_lies_where_no_share_can_be_spared() -> None:
    federation = Federation(count=3, colluding=0)
    with pytest.raises(Refused, match="do not fit what site-0000 has signed"):
        lie(federation)


def test_a_masked_input_from_a_client_not_in_the_roster(monkeypatch: Guard) -> None:
    federation, outsider = Federation(), SiteName("site-0004")
    five = Federation(count=5)
    stranger = five.share(five.advertise())
    sent = five.masked_input(stranger.ask(STATEMENT, RING, 5), outsider, np.full(5, 9))
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, 5)
    with pytest.raises(Refused, match="site-0004 is not on the roster"):
        step.receive(sent)
    np.add(step.total, RING.unpack(sent.packed, 5), out=step.total)  # what counting it would do
    for site in federation.sites:
        step.receive(federation.masked_input(step, site, federation.vectors()[site]))
    opened = federation.unmask(federation.confirm(step.close()))
    assert not np.array_equal(opened.total, sum(federation.vectors().values()) + 9)


def test_a_truncated_or_oversized_input() -> None:
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, 5)
    sent = federation.masked_input(step, VICTIM, federation.vectors()[VICTIM])
    for packed in (sent.packed[:3], sent.packed + b"\0", b""):
        signed = MaskedInput.signed_bytes(step.bound, VICTIM, packed)
        signature = federation.identities.signer(VICTIM)(UPLOAD, signed)
        with pytest.raises(Refused, match="takes 15 bytes in this ring"):
            step.receive(replace(sent, packed=packed, signature=signature))
    assert not step.total.any()


def test_a_truncated_input_would_be_added_to_every_coordinate(monkeypatch: Guard) -> None:
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, 5)
    one = RING.encode(np.asarray([7]))
    off(monkeypatch, type(RING), "add_packed", lambda _, total, __: np.add(total, one, out=total))
    step.receive(federation.masked_input(step, VICTIM, federation.vectors()[VICTIM]))
    assert np.array_equal(step.total, np.full(5, 7))


def test_an_input_sent_twice_counts_once() -> None:
    federation = Federation()
    step = federation.share(federation.advertise()).ask(STATEMENT, RING, 5)
    sent = federation.masked_input(step, VICTIM, federation.vectors()[VICTIM])
    step.receive(sent)
    with pytest.raises(Refused, match="has sent its input already"):
        step.receive(sent)


# Envelopes.


def test_an_envelope_for_somebody_else() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    request = ready.ask(STATEMENT, RING, 5).request_for(VICTIM)
    first, second = federation.sites[1:3]
    swapped = {**request.envelopes, first: request.envelopes[second]}
    with pytest.raises(ProtocolAbort, match="was not sealed by its sender"):
        federation.shared[VICTIM].mask(replace(request, envelopes=swapped), RING, np.zeros(5, np.int64))


def test_an_envelope_that_does_not_come() -> None:
    federation = Federation()
    ready = federation.share(federation.advertise())
    request = ready.ask(STATEMENT, RING, 5).request_for(VICTIM)
    missing = {site: sealed for site, sealed in request.envelopes.items() if site != federation.sites[1]}
    with pytest.raises(ProtocolAbort, match="its envelope did not come"):
        federation.shared[VICTIM].mask(replace(request, envelopes=missing), RING, np.zeros(5, np.int64))


def test_a_cohort_that_holds_other_keys_of_this_site() -> None:
    federation = Federation()
    federation.advertise()
    older = federation.advertised[VICTIM]
    federation.advertise()
    with pytest.raises(ProtocolAbort, match="does not hold this site with the keys"):
        older.share(ShareRequest(tuple(federation.advertisements())), federation.entropy)


def test_sites_that_saw_different_cohorts_cannot_read_each_other() -> None:
    """The coordinator shows the victim a cohort in which one site has other keys, both properly signed by it."""
    federation = Federation()
    federation.advertise()
    seen = list(federation.advertisements())
    twin = advertise(federation.client(federation.sites[3]), stream("twin")).advertisement
    shared, _ = federation.shares_with(VICTIM, [*seen[:3], twin])
    other, envelopes = federation.shares_with(federation.sites[1], seen)
    assert shared.cohort.digest != other.cohort.digest
    request = MaskRequest(
        statement=STATEMENT,
        roster=federation.sites,
        envelopes=dict.fromkeys(federation.sites, envelopes.sealed[VICTIM]),
    )
    with pytest.raises(ProtocolAbort, match="was not sealed by its sender"):
        shared.mask(request, RING, np.zeros(5, np.int64))


def test_the_coordinator_counts_nobody_it_should_not() -> None:
    federation = Federation()
    step = federation.until_masked()
    with pytest.raises(Refused, match="no survivor"):
        step.receive(Confirmation(site=SiteName("stranger"), signature=bytes(64)))
    with pytest.raises(Refused, match="has signed other survivors"):
        step.receive(Confirmation(site=VICTIM, signature=bytes(64)))
    with pytest.raises(TooFewSites):
        step.close()


def test_peers_count_only_those_among_the_sites() -> None:
    peers = Peers(recognised=frozenset(names(3)), at_least=1)
    assert peers.among(frozenset(names(2))) == 2
