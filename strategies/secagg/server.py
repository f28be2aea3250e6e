"""The coordinator's side of one attempt, as states. It keeps one sum, whatever the number of sites.

1. `Advertising` takes keys.                                                       `close` -> `Sharing`
2. `Sharing` takes envelopes, which it cannot open.                                `close` -> `Collecting`
3. `Collecting` adds masked inputs up as they come.                                `close` -> `Confirming`
4. `Confirming` takes the survivors' signatures (none in semi-honest mode).        `close` -> `Unmasking`
5. and 6. `Unmasking` takes shares, takes the masks off the sum, and opens it.

A message that breaks a rule is `Refused`, and its site counts as dropped. `close` raises `TooFewSites`: the attempt is void, and has
revealed nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from strategies.errors import Refused
from strategies.ids import Digest, SiteName
from strategies.secagg import messages
from strategies.secagg.cohort import Cohort, check_advertisement, checked_cohort
from strategies.secagg.identities import Verify
from strategies.secagg.labels import Attempt
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
from strategies.secagg.opening import open_sum
from strategies.secagg.parameters import Parameters
from strategies.secagg.rings import Ring, RingVector, Signed
from strategies.secagg.suites import secret_of


class TooFewSites(Refused):
    """Fewer sites than the threshold are left in this attempt. It is void; nothing was opened."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the coordinator brings to an attempt."""

    attempt: Attempt
    parameters: Parameters
    verify: Verify


@dataclass(frozen=True, slots=True)
class Advertising:
    """Step 1: keys come in."""

    server: Server
    _taken: dict[SiteName, Advertisement] = field(default_factory=dict)

    def receive(self, item: Advertisement) -> None:
        """Take one site's keys. Raises Refused."""
        if item.site in self._taken:
            raise Refused(f"{item.site} has advertised keys for this attempt already")
        self._taken[item.site] = check_advertisement(item, self.server.attempt, self.server.verify)

    def close(self) -> Sharing:
        """The cohort is who has advertised, without the owners of keys that occur twice: no honest site's does. Raises TooFewSites."""
        suite = self.server.parameters.suite
        keys = Counter(secret_of(suite, key) for item in self._taken.values() for key in item.public_keys)
        cohort = [
            item
            for item in self._taken.values()
            if all(keys[secret_of(suite, key)] == 1 for key in item.public_keys)
        ]
        if len(cohort) < self.server.parameters.minimum:
            raise TooFewSites(
                f"{len(cohort)} sites have advertised keys of their own; {self.server.parameters.minimum} are needed"
            )
        # Signatures were verified as they came.
        return Sharing(
            self.server,
            checked_cohort(self.server.attempt, self.server.parameters, cohort, _verified_already),
        )


def _verified_already(*_: object) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Sharing:
    """Step 2: envelopes come in."""

    server: Server
    cohort: Cohort
    _sealed: dict[SiteName, Mapping[SiteName, bytes]] = field(default_factory=dict)

    @property
    def request(self) -> ShareRequest:
        """What every site of the cohort is asked."""
        return ShareRequest(tuple(self.cohort.members[site] for site in self.cohort.sites))

    def receive(self, item: Envelopes) -> None:
        """Take what a site has sealed for its neighbours. Raises Refused unless there is one for each, and no other."""
        site, envelopes = item.site, item.sealed
        if site not in self.cohort.members or site in self._sealed:
            raise Refused(f"{site} is not in the cohort, or has sent its envelopes already")
        if set(envelopes) != set(self.cohort.shape.graph.neighbours(site)):
            raise Refused(f"{site} has not sealed exactly one envelope for each of its neighbours")
        self._sealed[site] = dict(envelopes)

    def close(self) -> Ready:
        """Whoever has shared is ready to be asked for an input. Raises TooFewSites."""
        _require(self.cohort, self.server.parameters, self._sealed, "have shared their secrets")
        return Ready(self.server, self.cohort, self._sealed)


@dataclass(frozen=True)
class Ready:
    """Keys and shares are there: what can be made ahead of the round itself."""

    server: Server
    cohort: Cohort
    sealed: Mapping[SiteName, Mapping[SiteName, bytes]]

    @cached_property
    def sites(self) -> tuple[SiteName, ...]:
        """Who can be on the roster, sorted."""
        return tuple(sorted(self.sealed))

    def ask(self, statement: Digest, ring: Ring, dimension: int) -> Collecting:
        """Fix the statement, whose roster is `sites`, and the ring of the masked inputs."""
        bound = Bound(self.cohort.attempt, self.cohort.digest, statement)
        return Collecting(self, bound, ring, ring.zeros(dimension))


@dataclass(frozen=True, slots=True)
class Collecting:
    """Step 3: masked inputs come in, and are added up at once."""

    ready: Ready
    bound: Bound
    ring: Ring
    total: RingVector
    _uploaded: set[SiteName] = field(default_factory=set)

    def request_for(self, site: SiteName) -> MaskRequest:
        """What `site` is asked: the roster, and the envelopes that its neighbours on it have sealed for it."""
        sealed, near = self.ready.sealed, self.ready.cohort.shape.graph.neighbours(site)
        return MaskRequest(
            statement=self.bound.statement,
            roster=self.ready.sites,
            envelopes={sender: sealed[sender][site] for sender in near if sender in sealed},
        )

    def receive(self, item: MaskedInput) -> None:
        """Add one site's masked input. Raises Refused for a stranger, a second one, another statement, a bad signature or length."""
        if item.site not in self.ready.sealed:
            raise Refused(f"{item.site} is not on the roster; its input is not counted")
        if item.site in self._uploaded:
            raise Refused(f"{item.site} has sent its input already")
        if item.statement != self.bound.statement:
            raise Refused(f"{item.site} has masked its input for another statement")
        try:
            self.ring.check_packed(item.packed, len(self.total))
        except Refused as refused:
            raise Refused(f"the input of {item.site} is not a whole one: {refused}") from refused
        signed = MaskedInput.signed_digest(self.bound, item.site, item.digest)
        if not self.ready.server.verify(item.site, messages.UPLOAD, signed, item.signature):
            raise Refused(f"the input of {item.site} is not signed by its identity for this attempt")
        self.ring.add_packed(self.total, item.packed)
        self._uploaded.add(item.site)

    def close(self) -> Confirming:
        """The survivors are who has uploaded. Raises TooFewSites."""
        _require(
            self.ready.cohort, self.ready.server.parameters, self._uploaded, "have sent their masked input"
        )
        request = ConfirmRequest(tuple(sorted(self._uploaded)))
        return Confirming(self.ready, self.bound, self.ring, self.total, request)


@dataclass(frozen=True, slots=True)
class Confirming:
    """Step 4: survivors sign who survived; `request` is what each of them is asked."""

    ready: Ready
    bound: Bound
    ring: Ring
    total: RingVector
    request: ConfirmRequest
    _signed: dict[SiteName, bytes] = field(default_factory=dict)

    @property
    def survivors(self) -> tuple[SiteName, ...]:
        """Who has sent an input, sorted."""
        return self.request.survivors

    def receive(self, item: Confirmation) -> None:
        """Take one survivor's signature. Raises Refused."""
        signed = Confirmation.signed_bytes(self.bound, item.site, self.request.digest)
        if item.site not in self.survivors or item.site in self._signed:
            raise Refused(f"{item.site} is no survivor, or has confirmed already")
        if not self.ready.server.verify(item.site, messages.CONFIRMATION, signed, item.signature):
            raise Refused(f"{item.site} has signed other survivors, or another statement")
        self._signed[item.site] = item.signature

    def close(self) -> Unmasking:
        """From here on exactly one request for shares exists. Raises TooFewSites."""
        if self.ready.server.parameters.is_active:
            _require(
                self.ready.cohort,
                self.ready.server.parameters,
                self._signed,
                "have confirmed who survived",
            )
        roster = self.ready.sites
        request = UnmaskRequest(
            statement=self.bound.statement,
            survivors=self.survivors,
            dropped=tuple(site for site in roster if site not in self.survivors),
            confirmations=dict(self._signed),
        )
        lacking = _lacking(self.ready.cohort, request, self.survivors)
        if lacking:
            raise TooFewSites(f"too few neighbours of {', '.join(lacking)} have survived to open its masks")
        return Unmasking(self.ready.cohort, self.bound, self.ring, self.total, request)


@dataclass(frozen=True, slots=True)
class Unmasking:
    """Step 5: shares come in. Whatever is needed to go on after a crash is in the fields without an underscore."""

    cohort: Cohort
    bound: Bound
    ring: Ring
    total: RingVector
    request: UnmaskRequest
    _shares: dict[SiteName, Shares] = field(default_factory=dict)

    def receive(self, item: Shares) -> None:
        """Take one survivor's shares. Raises Refused where they are not those that were asked for."""
        if item.site not in self.request.survivors or item.site in self._shares:
            raise Refused(f"{item.site} is no survivor, or has given its shares already")
        near = {*self.cohort.shape.graph.neighbours(item.site), item.site}
        if set(item.own_seeds) != near & set(self.request.survivors) or set(item.mask_keys) != near & set(
            self.request.dropped
        ):
            raise Refused(f"{item.site} has given other shares than those that were asked for")
        self._shares[item.site] = item

    @property
    def waiting_for(self) -> tuple[SiteName, ...]:
        """Survivors that have not given their shares."""
        return tuple(site for site in self.request.survivors if site not in self._shares)

    def open(self) -> Opened:
        """The sum over the survivors. Raises TooFewSites, or Refused if shares lie and too few are left without them."""
        lacking = _lacking(self.cohort, self.request, self._shares)
        if lacking:
            raise TooFewSites(
                f"{len(self._shares)} survivors have given their shares, too few for the secrets of {', '.join(lacking)};"
                f" {self.cohort.shape.threshold} are needed for each"
            )
        total, doubted = open_sum(
            self.cohort, self.bound, self.ring, self.total, self.request, tuple(self._shares.values())
        )
        return Opened(self.ring.decode_in_place(total), self.request.survivors, doubted)


def _lacking(cohort: Cohort, request: UnmaskRequest, givers: Collection[SiteName]) -> list[SiteName]:
    """Whose secrets could not be rebuilt if `givers` gave their shares: survivors, and the dropped whose masks are in the sum."""
    survivors, near = set(request.survivors), cohort.shape.graph.neighbours
    dropped = [site for site in request.dropped if survivors & set(near(site))]
    if cohort.shape.graph.is_complete:  # everybody holds a share of everything
        return [] if len(givers) >= cohort.shape.threshold else [*request.survivors, *dropped]
    return [
        site
        for site in (*request.survivors, *dropped)
        if sum(holder in givers for holder in cohort.holders(site)) < cohort.shape.threshold
    ]


@dataclass(frozen=True, slots=True)
class Opened:
    """What came of an attempt: the sum, (d,) integers as wide as the ring's words, over `survivors`. `doubted` gave shares that did not fit: they or
    their dealers lied."""

    total: Signed
    survivors: tuple[SiteName, ...]
    doubted: tuple[SiteName, ...]


def _require(cohort: Cohort, parameters: Parameters, sites: Collection[SiteName], have: str) -> None:
    fewest = parameters.fewest_survivors(cohort.shape)
    if len(sites) < fewest:
        missing = ", ".join(site for site in cohort.sites if site not in sites)
        raise TooFewSites(f"{len(sites)} sites {have}; {fewest} are needed (missing: {missing})")
