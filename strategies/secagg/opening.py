"""Takes the masks off a sum: secrets are put together from shares, and each is checked against what its owner had signed beforehand.

A share that does not fit is found by leaving its giver out. A site that gives one wrong share is not believed in any other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Final

from strategies.errors import Refused
from strategies.ids import SiteName
from strategies.secagg import shamir
from strategies.secagg.cohort import Cohort
from strategies.secagg.labels import MASK_OWN, MASK_PAIR, seed_label
from strategies.secagg.masks import add_mask
from strategies.secagg.messages import Bound, Shares, UnmaskRequest
from strategies.secagg.rings import Ring, RingVector
from strategies.secagg.suites import KeySeed, OwnSeed, PrivateKey, Suite, commitment, own_mask, pair_mask

_MOST_LIARS: Final = 2
_MOST_TRIES: Final = 2000


def open_sum(
    cohort: Cohort,
    bound: Bound,
    ring: Ring,
    masked: RingVector,
    request: UnmaskRequest,
    shares: Sequence[Shares],
) -> tuple[RingVector, tuple[SiteName, ...]]:
    """The sum without its masks, as words of the ring, and whose shares did not fit. Raises Refused where too few shares fit."""
    total = masked.copy()
    rebuilder = _Rebuilder(cohort, shares)
    for site in request.survivors:
        seed = rebuilder.own_seed(site)
        add_mask(ring, total, own_mask(seed, bound.label(MASK_OWN, site)), -1)
    survivors = set(request.survivors)
    for site in request.dropped:
        near = [other for other in cohort.shape.graph.neighbours(site) if other in survivors]
        if near:
            _undo_pairs(cohort, bound, ring, total, site, near, rebuilder.mask_key(site))
    return ring.reduce(total), tuple(sorted(rebuilder.liars))


def _undo_pairs(
    cohort: Cohort,
    bound: Bound,
    ring: Ring,
    total: RingVector,
    dropped: SiteName,
    near: Sequence[SiteName],
    key: PrivateKey,
) -> None:
    """Take off the masks that survivors have added for a site whose own input never came."""
    for site in near:
        first, second = sorted((site, dropped))
        seed = pair_mask(key.agree(cohort.members[site].mask_key), bound.label(MASK_PAIR, first, second))
        add_mask(ring, total, seed, -1 if site == first else 1)


@dataclass
class _Rebuilder:
    """Secrets from shares."""

    cohort: Cohort
    shares: Sequence[Shares]
    liars: set[SiteName] = field(default_factory=set)
    _coefficients: dict[tuple[int, ...], dict[int, int]] = field(default_factory=dict)

    def own_seed(self, site: SiteName) -> OwnSeed:
        """The seed of a survivor's own mask, as it committed to."""
        label = seed_label(self.cohort.attempt, site)
        return OwnSeed(
            self._rebuild(
                site,
                {item.site: item.own_seeds[site] for item in self.shares if site in item.own_seeds},
                lambda secret: commitment(OwnSeed(secret), label) == self.cohort.members[site].own_seed,
            )
        )

    def mask_key(self, site: SiteName) -> PrivateKey:
        """The mask key of a dropped site, as it advertised."""
        suite = Suite(self.cohort.attempt.suite)
        secret = self._rebuild(
            site,
            {item.site: item.mask_keys[site] for item in self.shares if site in item.mask_keys},
            lambda secret: PrivateKey(suite, KeySeed(secret)).public == self.cohort.members[site].mask_key,
        )
        return PrivateKey(suite, KeySeed(secret))

    def _rebuild(
        self, owner: SiteName, shares: dict[SiteName, bytes], fits: Callable[[bytes], bool]
    ) -> bytes:
        """The secret of `owner`: from any threshold of shares, or else from one without those that do not fit."""
        for left_out in self._suspects(shares):
            believed = sorted(shares.keys() - left_out - self.liars)
            if len(believed) < self.cohort.shape.threshold:
                continue
            secret = self._combine(believed[: self.cohort.shape.threshold], shares)
            if secret is not None and fits(secret):
                self.liars |= left_out
                return secret
        raise Refused(
            f"the shares of the secrets of {owner} do not fit what {owner} has signed: it shared something else, or too many of those"
            f" who hold them lie; without {owner} a new attempt can be made"
        )

    def _suspects(self, shares: dict[SiteName, bytes]) -> Iterator[frozenset[SiteName]]:
        """Whom to leave out: nobody, then each site, then each pair of sites."""
        tries = 0
        for count in range(_MOST_LIARS + 1):
            for group in combinations(sorted(shares.keys() - self.liars), count):
                yield frozenset(group)
                tries += 1
                if tries >= _MOST_TRIES:
                    return

    def _combine(self, holders: Sequence[SiteName], shares: dict[SiteName, bytes]) -> bytes | None:
        points = tuple(self.cohort.point(holder) for holder in holders)
        if points not in self._coefficients:
            self._coefficients[points] = shamir.coefficients_at_zero(points)
        by_point = {self.cohort.point(holder): shares[holder] for holder in holders}
        try:
            return shamir.combine(by_point, self._coefficients[points])
        except Refused:
            return None
