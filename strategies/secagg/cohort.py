"""The sites of one attempt with their keys, after every check: who shares with whom follows from it, and every key is bound to its digest.

Two sites that were shown different keys, or different sites, derive different digests and can neither open each other's envelopes nor
cancel each other's masks.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from strategies.errors import Refused
from strategies.ids import Digest, SiteName
from strategies.secagg.identities import Verify
from strategies.secagg.labels import PROTOCOL, Attempt, Label, prefixed
from strategies.secagg.messages import ADVERTISEMENT, Advertisement, advertised
from strategies.secagg.parameters import Parameters, Shape
from strategies.secagg.suites import Suite, check_public_key, secret_of


@dataclass(frozen=True, slots=True)
class Cohort:
    """`checked_cohort` is its only maker."""

    attempt: Attempt
    members: Mapping[SiteName, Advertisement]
    digest: Digest
    shape: Shape

    @property
    def sites(self) -> tuple[SiteName, ...]:
        """All sites, sorted."""
        return self.shape.graph.sites

    def point(self, site: SiteName) -> int:
        """Where the shares that `site` holds are taken: its place among the sites, from 1."""
        return self.shape.graph.place(site) + 1

    def holders(self, site: SiteName) -> tuple[SiteName, ...]:
        """Who holds a share of the secrets of `site`: its neighbours and itself, sorted."""
        return tuple(sorted((*self.shape.graph.neighbours(site), site)))

    def label(self, purpose: str, *parties: SiteName) -> Label:
        """The label of a key that is made before the statement is known."""
        return Label(attempt=self.attempt, purpose=purpose, parties=parties, cohort=self.digest)


def check_advertisement(item: Advertisement, attempt: Attempt, verify: Verify) -> Advertisement:
    """`item`, if its site signed it for this attempt with keys of the plan's suite. Raises Refused."""
    suite = Suite(attempt.suite)
    for key in (item.mask_key, item.envelope_key):
        check_public_key(suite, key)
    if secret_of(suite, item.mask_key) == secret_of(suite, item.envelope_key):
        raise Refused(
            f"{item.site} advertises one key for both purposes, so sharing one would give the other"
        )
    signed = Advertisement.signed_bytes(attempt, item.site, item.mask_key, item.envelope_key, item.own_seed)
    if not verify(item.site, ADVERTISEMENT, signed, item.signature):
        raise Refused(f"the keys of {item.site} are not signed by its identity for this attempt")
    return item


def checked_cohort(
    attempt: Attempt, parameters: Parameters, advertisements: Iterable[Advertisement], verify: Verify
) -> Cohort:
    """The cohort of these advertisements. Raises Refused for a signature or key that is wrong, a key that occurs twice, or a bad size."""
    ordered = sorted(advertisements, key=lambda item: item.site)
    suite = Suite(attempt.suite)
    keys: dict[bytes, SiteName] = {}
    for item in ordered:
        check_advertisement(item, attempt, verify)
        for public in (item.mask_key, item.envelope_key):
            key = secret_of(suite, public)
            if key in keys:
                raise Refused(f"{keys[key]} and {item.site} advertise the same key; one of them stole it")
            keys[key] = item.site
    members = {item.site: item for item in ordered}
    if len(members) < len(ordered):
        raise Refused("a site advertises twice in one cohort")
    digest = _digest(attempt, ordered)
    return Cohort(attempt, members, digest, parameters.shape(tuple(members), digest))


def _digest(attempt: Attempt, ordered: Iterable[Advertisement]) -> Digest:
    """SHA-256 over the attempt and all keys, each part length-prefixed."""
    digest = hashlib.sha256()
    for part in (PROTOCOL, "cohort", *attempt.parts()):
        digest.update(prefixed(part.encode()))
    for item in ordered:
        digest.update(prefixed(item.site.encode()))
        digest.update(advertised(item.mask_key, item.envelope_key, item.own_seed))
    return Digest(digest.hexdigest())
