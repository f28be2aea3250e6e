"""A site's side of one attempt, as states. Each step checks what it is asked before it touches a secret, and yields the next state.

1. `advertise`: two fresh key pairs and a fresh seed, the public keys signed.                       -> `Advertised`
2. `Advertised.share`: everybody's keys are checked; shares are sealed for the neighbours.          -> `Shared`
3. `Shared.mask`: neighbours' envelopes are opened, the vector is masked for exactly this roster and statement.  -> `Masked`
4. `Masked.confirm`: who survived is signed, once.                                                  -> `Confirmed`
5. `Confirmed.unmask`: shares are given for that partition, once enough survivors have signed the same.  -> done

Steps raise `ProtocolAbort`; the attempt is then over for this site, and nothing more of it leaves. Python cannot consume a state, so
whoever drives it journals each step before its reply leaves, and never steps from one state twice.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import messages, shamir
from strategies.secagg.cohort import Cohort, checked_cohort
from strategies.secagg.identities import Peers, Sign, Verify
from strategies.secagg.labels import ENVELOPE, MASK_OWN, MASK_PAIR, Attempt, seed_label
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import (
    Advertisement,
    Bound,
    Confirmation,
    ConfirmRequest,
    Envelopes,
    MaskedInput,
    MaskRequest,
    ShareRequest,
    Shares,
    UnmaskRequest,
)
from strategies.secagg.parameters import Parameters
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import SECRET_BYTES
from strategies.secagg.shamir import SHARE_BYTES, Entropy
from strategies.secagg.suites import (
    Agreed,
    KeySeed,
    OwnSeed,
    PrivateKey,
    commitment,
    envelope_key,
    own_mask,
    pair_mask,
    seal,
    unseal,
)


class ProtocolAbort(Refused):
    """What this site was asked breaks a rule of the protocol; it takes no further part in the attempt.

    `accused` is the site whose envelope cannot be used, if that is why: either it sealed it wrongly, or the coordinator changed it.
    """

    def __init__(self, reason: str, *, accused: SiteName | None = None) -> None:
        super().__init__(reason)
        self.accused = accused


@contextmanager
def _aborting(*, accused: SiteName | None = None) -> Iterator[None]:
    """Whatever a check refuses in here ends the attempt for this site."""
    try:
        yield
    except Refused as refused:
        raise ProtocolAbort(str(refused), accused=accused) from refused


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """What a site brings to an attempt. `attempt` names the plan's suite, which is the parameters'."""

    site: SiteName
    attempt: Attempt
    parameters: Parameters
    peers: Peers
    sign: Sign
    verify: Verify

    def __post_init__(self) -> None:
        if self.attempt.suite != self.parameters.suite:
            raise ProtocolAbort(
                f"the attempt names suite {self.attempt.suite}; the plan's is {self.parameters.suite}"
            )


@dataclass(frozen=True, slots=True)
class _Keys:
    """The secrets of one attempt. `mask_seed` and `own_seed` are shared with the neighbours; the envelope key never is."""

    mask_seed: KeySeed
    own_seed: OwnSeed
    mask: PrivateKey
    envelope: PrivateKey


def advertise(client: Client, entropy: Entropy) -> Advertised:
    """Begin an attempt with fresh secrets."""
    suite = client.parameters.suite
    mask_seed = KeySeed(entropy(SECRET_BYTES))
    keys = _Keys(
        mask_seed,
        OwnSeed(entropy(SECRET_BYTES)),
        PrivateKey(suite, mask_seed),
        PrivateKey(suite, KeySeed(entropy(SECRET_BYTES))),
    )
    own = commitment(keys.own_seed, seed_label(client.attempt, client.site))
    public = (keys.mask.public, keys.envelope.public)
    signed = Advertisement.signed_bytes(client.attempt, client.site, *public, own)
    advertisement = Advertisement(
        site=client.site,
        mask_key=public[0],
        envelope_key=public[1],
        own_seed=own,
        signature=client.sign(messages.ADVERTISEMENT, signed),
    )
    return Advertised(client, keys, advertisement)


@dataclass(frozen=True, slots=True)
class Advertised:
    """Keys are made; `advertisement` may leave."""

    client: Client
    keys: _Keys
    advertisement: Advertisement

    def share(self, ask: ShareRequest, entropy: Entropy) -> tuple[Shared, Envelopes]:
        """Check the cohort and share both secrets with the neighbours: an envelope for each."""
        client = self.client
        with _aborting():
            cohort = checked_cohort(client.attempt, client.parameters, ask.cohort, client.verify)
        if cohort.members.get(client.site) != self.advertisement:
            raise ProtocolAbort("the cohort does not hold this site with the keys that it advertised")
        _check_strangers(client, cohort)
        holders = cohort.holders(client.site)
        points = [cohort.point(holder) for holder in holders]
        threshold = cohort.shape.threshold
        masks = shamir.split(self.keys.mask_seed.reveal(), threshold, points, entropy)
        owns = shamir.split(self.keys.own_seed.reveal(), threshold, points, entropy)
        pairs = {h: masks[cohort.point(h)] + owns[cohort.point(h)] for h in holders}
        kept = pairs.pop(client.site)
        with _aborting():
            agreed = {h: self.keys.envelope.agree(cohort.members[h].envelope_key) for h in pairs}
        sealed: dict[SiteName, bytes] = {}
        for holder, pair in pairs.items():
            label = cohort.label(ENVELOPE, client.site, holder)
            sealed[holder] = seal(envelope_key(agreed[holder], label), pair, label)
        return Shared(client, self.keys, cohort, kept, agreed), Envelopes(site=client.site, sealed=sealed)


def _check_strangers(client: Client, cohort: Cohort) -> None:
    """Whoever this site does not recognise counts as colluding, and so may not outweigh the threshold."""
    if not client.parameters.is_active:
        return
    strangers = len(cohort.sites) - 1 - client.peers.among(frozenset(cohort.sites))
    colluding = client.parameters.colluding + strangers
    bearable = 2 * cohort.shape.threshold - len(cohort.sites) - 1
    if colluding > bearable:
        raise ProtocolAbort(
            f"{strangers} of {len(cohort.sites)} sites are not among the peers that this site recognises; with"
            f" {client.parameters.colluding} colluding ones that is {colluding}, and a threshold of"
            f" {cohort.shape.threshold} bears {bearable}"
        )


@dataclass(frozen=True, slots=True)
class Shared:
    """Shares are out, and this site keeps one of its own (`kept`). `agreed`: with each neighbour, for envelopes of both directions."""

    client: Client
    keys: _Keys
    cohort: Cohort
    kept: bytes = field(repr=False)
    agreed: Mapping[SiteName, Agreed]

    def check(self, ask: MaskRequest) -> None:
        """Raise where `mask` would: before anything is computed, and charged, for a request that cannot be answered."""
        self._check_roster(ask.roster)
        self._open(ask)

    def mask(
        self, ask: MaskRequest, ring: Ring, integers: npt.NDArray[np.int64]
    ) -> tuple[Masked, MaskedInput]:
        """Mask `integers`, (d,) int64 that the caller has bounded, for exactly this roster and statement."""
        self._check_roster(ask.roster)
        held = self._open(ask)
        bound = Bound(self.cohort.attempt, self.cohort.digest, ask.statement)
        vector = ring.encode(integers)
        site = self.client.site
        add_mask(ring, vector, own_mask(self.keys.own_seed, bound.label(MASK_OWN, site)))
        for other in held:
            if other != site:
                with _aborting():
                    agreed = self.keys.mask.agree(self.cohort.members[other].mask_key)
                first, second = sorted((site, other))
                seed = pair_mask(agreed, bound.label(MASK_PAIR, first, second))
                add_mask(ring, vector, seed, 1 if site == first else -1)
        packed = ring.pack(vector)
        signed = MaskedInput.signed_bytes(bound, site, packed)
        masked = MaskedInput(
            site=site,
            statement=ask.statement,
            packed=packed,
            signature=self.client.sign(messages.UPLOAD, signed),
        )
        return Masked(self.client, self.cohort, bound, ask.roster, held), masked

    def _check_roster(self, roster: tuple[SiteName, ...]) -> None:
        if roster != tuple(sorted(set(roster))) or not set(roster) <= set(self.cohort.sites):
            raise ProtocolAbort("the roster is not a sorted part of the cohort")
        if self.client.site not in roster:
            raise ProtocolAbort("the roster does not name this site")
        _check_survivors(self.client, self.cohort, roster)

    def _open(self, ask: MaskRequest) -> Mapping[SiteName, bytes]:
        """The pairs of shares that this site holds of each neighbour on the roster, and of itself."""
        site = self.client.site
        held = {site: self.kept}
        for other in self.cohort.shape.graph.neighbours(site):
            if other not in ask.roster:
                continue
            if other not in ask.envelopes:
                raise ProtocolAbort(f"{other} is on the roster, but its envelope did not come")
            label = self.cohort.label(ENVELOPE, other, site)
            with _aborting(accused=other):
                pair = unseal(envelope_key(self.agreed[other], label), ask.envelopes[other], label)
            if len(pair) != 2 * SHARE_BYTES:
                raise ProtocolAbort(f"{other} sealed something that is not two shares", accused=other)
            held[other] = pair
        if len(held) < self.cohort.shape.threshold:
            raise ProtocolAbort("fewer neighbours than the threshold are on the roster")
        return held


def _check_survivors(client: Client, cohort: Cohort, sites: tuple[SiteName, ...]) -> None:
    """Enough sites, of which enough are recognised by this one."""
    recognised = client.peers.among(frozenset(sites))
    fewest = client.parameters.fewest_survivors(cohort.shape)
    if len(sites) < fewest:
        raise ProtocolAbort(f"{len(sites)} survivors; at least {fewest} must be in a sum that is opened")
    if recognised + 1 < fewest:
        raise ProtocolAbort(
            f"of {len(sites)} survivors this site recognises {recognised} and itself; {fewest} are needed"
        )
    if recognised < client.peers.at_least:
        raise ProtocolAbort(
            f"of the survivors this site recognises {recognised} peers; its configuration asks for {client.peers.at_least}"
        )


@dataclass(frozen=True, slots=True)
class Masked:
    """The masked input is out. `held` are the pairs of shares of the roster's neighbours and of this site itself."""

    client: Client
    cohort: Cohort
    bound: Bound
    roster: tuple[SiteName, ...]
    held: Mapping[SiteName, bytes] = field(repr=False)

    def confirm(self, ask: ConfirmRequest) -> tuple[Confirmed, Confirmation]:
        """Sign who survived, and what they were told. In semi-honest mode the signature need not travel."""
        survivors = ask.survivors
        if survivors != tuple(sorted(set(survivors))) or not set(survivors) <= set(self.roster):
            raise ProtocolAbort("the survivors are not a sorted part of the roster")
        if self.client.site not in survivors:
            raise ProtocolAbort("this site has sent its input, and is not named among the survivors")
        _check_survivors(self.client, self.cohort, survivors)
        signed = Confirmation.signed_bytes(self.bound, self.client.site, ask.digest)
        signature = self.client.sign(messages.CONFIRMATION, signed)
        confirmed = Confirmed(
            site=self.client.site,
            bound=self.bound,
            roster=self.roster,
            survivors=survivors,
            held=self.held,
            needed=self.cohort.shape.threshold if self.client.parameters.is_active else 0,
            recognised=self.client.peers.recognised,
            verify=self.client.verify,
        )
        return confirmed, Confirmation(site=self.client.site, signature=signature)


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirmed:
    """This site has signed `survivors`, and can give shares for no other, and only once `needed` sites have signed the same.

    It stands by itself, so that a site can keep it on disk: a sum that survivors have confirmed is opened by them or by nobody.
    """

    site: SiteName
    bound: Bound
    roster: tuple[SiteName, ...]
    survivors: tuple[SiteName, ...]
    held: Mapping[SiteName, bytes] = field(repr=False)
    needed: int
    recognised: frozenset[SiteName]
    verify: Verify

    def unmask(self, ask: UnmaskRequest) -> Shares:
        """The shares that open the sum over the survivors. The last step: whoever drives it forgets the state before the reply leaves."""
        if ask.statement != self.bound.statement:
            raise ProtocolAbort("the request is for another statement than the input was masked for")
        if set(ask.survivors) & set(ask.dropped):
            raise ProtocolAbort("a site is named both survivor and dropped")
        if tuple(sorted((*ask.survivors, *ask.dropped))) != self.roster:
            raise ProtocolAbort("the request does not partition the roster")
        if ask.survivors != self.survivors:
            raise ProtocolAbort("the survivors are not those that this site has confirmed")
        self._check_confirmations(ask.confirmations)
        return Shares(
            site=self.site,
            own_seeds={s: self.held[s][SHARE_BYTES:] for s in ask.survivors if s in self.held},
            mask_keys={s: self.held[s][:SHARE_BYTES] for s in ask.dropped if s in self.held},
        )

    def _check_confirmations(self, confirmations: Mapping[SiteName, bytes]) -> None:
        """At least a threshold of survivors, itself and peers that this site recognises, have signed these survivors and this statement."""
        counted = {self.site}
        survivors = ConfirmRequest(self.survivors).digest
        for site in sorted(confirmations.keys() & self.recognised & frozenset(self.survivors)):
            if len(counted) >= self.needed:
                break
            signed = Confirmation.signed_bytes(self.bound, site, survivors)
            if self.verify(site, messages.CONFIRMATION, signed, confirmations[site]):
                counted.add(site)
        if len(counted) < self.needed:
            raise ProtocolAbort(
                f"{len(counted)} of the peers that this site recognises have confirmed the survivors; {self.needed} are needed"
            )
