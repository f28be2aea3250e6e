"""Takes the masks off a sum: secrets are put together from shares, and each is checked against what its owner had signed beforehand.

Where the first threshold of shares gives another secret, all of them are decoded as the code that they are, which finds the wrong ones. A
wrong share says that its giver or its dealer lies, and not which of them; givers are therefore doubted, and still heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, islice
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

_MOST_TRIES: Final = 2000
_Found = tuple[bytes, frozenset[SiteName]]
"""A secret, and whose shares are not of it."""


def open_sum(
    cohort: Cohort,
    bound: Bound,
    ring: Ring,
    masked: RingVector,
    request: UnmaskRequest,
    shares: Sequence[Shares],
) -> tuple[RingVector, tuple[SiteName, ...]]:
    """The sum without its masks, as words of the ring, and who gave shares that did not fit. Raises Refused where too few fit."""
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
    return ring.reduce(total), tuple(sorted(rebuilder.doubted))


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
    doubted: set[SiteName] = field(default_factory=set)
    _coefficients: dict[tuple[SiteName, ...], dict[int, int]] = field(default_factory=dict)

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
        """The secret of `owner`: from a threshold of shares of sites that are not doubted, or else from all."""
        threshold = self.cohort.shape.threshold
        believed = sorted(shares)
        if self.doubted:
            believed.sort(key=self.doubted.__contains__)
        believed = believed[:threshold]
        if len(believed) == threshold:
            secret = self._combine(believed, shares)
            if secret is not None and fits(secret):
                return secret
        decoded = self._decoded(shares, fits) or self._searched(shares, fits)
        if decoded is None:
            raise Refused(
                f"the shares of the secrets of {owner} do not fit what {owner} has signed: it shared something else, or too many of those"
                " who hold them lie"
            )
        secret, wrong = decoded
        self.doubted |= wrong
        return secret

    def _decoded(self, shares: dict[SiteName, bytes], fits: Callable[[bytes], bool]) -> _Found | None:
        """As a code: whoever is wrong, if they are at most half of those beyond the threshold."""
        by_point = {self.cohort.point(holder): holder for holder in shares}
        try:
            secret, wrong = shamir.corrected(
                {point: shares[holder] for point, holder in by_point.items()}, self.cohort.shape.threshold
            )
        except Refused:
            return None
        return (secret, frozenset(by_point[point] for point in wrong)) if fits(secret) else None

    def _searched(self, shares: dict[SiteName, bytes], fits: Callable[[bytes], bool]) -> _Found | None:
        """By trying: in small cohorts, whoever is wrong as long as a threshold is right."""
        groups = combinations(sorted(shares), self.cohort.shape.threshold)
        for group in islice(groups, _MOST_TRIES):
            secret = self._combine(group, shares)
            if secret is not None and fits(secret):
                return secret, frozenset(h for h in shares if not self._agrees(h, group, shares))
        return None

    def _agrees(self, holder: SiteName, group: Sequence[SiteName], shares: dict[SiteName, bytes]) -> bool:
        """Whether the share of `holder` is of the polynomial of `group`."""
        by_point = {self.cohort.point(each): shares[each] for each in group}
        expected = shamir.value_at(by_point, self.cohort.point(holder))
        return expected == int.from_bytes(shares[holder], "big")

    def _combine(self, holders: Sequence[SiteName], shares: dict[SiteName, bytes]) -> bytes | None:
        group = tuple(holders)
        if group not in self._coefficients:
            points = tuple(self.cohort.point(holder) for holder in group)
            self._coefficients[group] = shamir.coefficients_at_zero(points)
        coefficients = self._coefficients[group]
        by_point = {point: shares[holder] for point, holder in zip(coefficients, group, strict=True)}
        try:
            return shamir.combine(by_point, coefficients)
        except Refused:
            return None
