"""One attempt at secure aggregation, all parties in this process, with real keys: what tests and attacks start from."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from strategies.ids import Digest, SiteName, digest, run_id
from strategies.secagg import server as central
from strategies.secagg.client import Advertised, Client, Confirmed, Masked, Shared, advertise
from strategies.secagg.identities import Peers, Sign
from strategies.secagg.labels import Attempt, prefixed
from strategies.secagg.messages import (
    Advertisement,
    Envelopes,
    MaskedInput,
    ShareRequest,
    UnmaskRequest,
)
from strategies.secagg.parameters import Adversary, Parameters
from strategies.secagg.rings import Ring
from strategies.secagg.suites import Suite

RING = Ring(24)
STATEMENT = digest(hashlib.sha256(b"what every site was told").hexdigest())
Values = npt.NDArray[np.int64]


def names(count: int) -> tuple[SiteName, ...]:
    """Site names in the order of their number."""
    return tuple(SiteName(f"site-{number:04d}") for number in range(count))


def stream(seed: object) -> Callable[[int], bytes]:
    """Entropy that a test can repeat."""
    state = {"count": 0}

    def draw(count: int) -> bytes:
        state["count"] += 1
        return hashlib.shake_256(f"{seed} {state['count']}".encode()).digest(count)

    return draw


class Identities:
    """An Ed25519 key for each site, and the member list's answer to who signed."""

    def __init__(self, sites: tuple[SiteName, ...]) -> None:
        self.keys = {
            site: Ed25519PrivateKey.from_private_bytes(hashlib.sha256(site.encode()).digest())
            for site in sites
        }

    def signer(self, site: SiteName) -> Sign:
        return lambda purpose, message: self.keys[site].sign(prefixed(purpose.encode()) + message)

    def verify(self, site: SiteName, purpose: str, message: bytes, signature: bytes) -> bool:
        if site not in self.keys:
            return False
        try:
            self.keys[site].public_key().verify(signature, prefixed(purpose.encode()) + message)
        except InvalidSignature:
            return False
        return True


def attempt_of(number: int = 1, *, suite: Suite = Suite.X25519, attempt: int = 1) -> Attempt:
    return Attempt(
        suite=suite,
        plan=digest("ab" * 32),
        run=run_id("run-0123456789abcdef"),
        stage="TRAIN",
        round=number,
        attempt=attempt,
    )


@dataclass
class Federation:
    """Sites and a coordinator that follow the protocol, until a test makes one of them not to."""

    count: int = 4
    minimum: int = 3
    colluding: int = 1
    adversary: Adversary = Adversary.ACTIVE
    suite: Suite = Suite.X25519
    number: int = 1
    attempt_number: int = 1
    recognised: Mapping[SiteName, frozenset[SiteName]] = field(default_factory=dict)
    at_least: int = 2
    seed: object = 0
    dropouts: float = 0.1

    def __post_init__(self) -> None:
        self.attempt = attempt_of(self.number, suite=self.suite, attempt=self.attempt_number)
        self.sites = names(self.count)
        self.identities = Identities(self.sites)
        self.parameters = Parameters(
            adversary=self.adversary,
            suite=self.suite,
            minimum=self.minimum,
            colluding=self.colluding,
            dropouts=self.dropouts,
        )
        self.entropy = stream(self.seed)
        self.advertised: dict[SiteName, Advertised] = {}
        self.shared: dict[SiteName, Shared] = {}
        self.masked: dict[SiteName, Masked] = {}
        self.sent: dict[SiteName, MaskedInput] = {}
        self.confirmed: dict[SiteName, Confirmed] = {}

    def client(self, site: SiteName) -> Client:
        recognised = self.recognised.get(site, frozenset(self.sites) - {site})
        return Client(
            site=site,
            attempt=self.attempt,
            parameters=self.parameters,
            peers=Peers(recognised=recognised, at_least=self.at_least),
            sign=self.identities.signer(site),
            verify=self.identities.verify,
        )

    @property
    def server(self) -> central.Server:
        return central.Server(attempt=self.attempt, parameters=self.parameters, verify=self.identities.verify)

    def advertise(self, sites: tuple[SiteName, ...] | None = None) -> central.Sharing:
        step = central.Advertising(self.server)
        for site in self.sites if sites is None else sites:
            self.advertised[site] = advertise(self.client(site), self.entropy)
            step.receive(self.advertised[site].advertisement)
        return step.close()

    def advertisements(self) -> list[Advertisement]:
        return [state.advertisement for state in self.advertised.values()]

    def shares_with(self, site: SiteName, cohort: Iterable[Advertisement]) -> tuple[Shared, Envelopes]:
        """What `site` makes of a cohort that the coordinator shows to it alone."""
        return self.advertised[site].share(ShareRequest(tuple(cohort)), self.entropy)

    def share(self, step: central.Sharing, lost: frozenset[SiteName] = frozenset()) -> central.Ready:
        for site in step.cohort.sites:
            if site not in lost:
                self.shared[site], envelopes = self.advertised[site].share(step.request, self.entropy)
                step.receive(envelopes)
        return step.close()

    def mask(
        self,
        ready: central.Ready,
        vectors: Mapping[SiteName, Values],
        lost: frozenset[SiteName] = frozenset(),
        *,
        ring: Ring = RING,
        statement: Digest = STATEMENT,
    ) -> central.Confirming:
        dimension = len(next(iter(vectors.values())))
        step = ready.ask(statement, ring, dimension)
        for site in ready.sites:
            if site not in lost:
                step.receive(self.masked_input(step, site, vectors[site]))
        return step.close()

    def masked_input(self, step: central.Collecting, site: SiteName, vector: Values) -> MaskedInput:
        self.masked[site], self.sent[site] = self.shared[site].mask(step.request_for(site), step.ring, vector)
        return self.sent[site]

    def confirm(self, step: central.Confirming, lost: frozenset[SiteName] = frozenset()) -> central.Unmasking:
        for site in step.survivors:
            if site not in lost:
                self.confirmed[site], signed = self.masked[site].confirm(step.request)
                if self.parameters.is_active:
                    step.receive(signed)
        return step.close()

    def unmask(self, step: central.Unmasking, lost: frozenset[SiteName] = frozenset()) -> central.Opened:
        for site in step.request.survivors:
            if site not in lost and site in self.confirmed:
                step.receive(self.confirmed[site].unmask(step.request))
        return step.open()

    def until_masked(self, vectors: Mapping[SiteName, Values] | None = None) -> central.Confirming:
        return self.mask(self.share(self.advertise()), vectors or self.vectors())

    def until_confirmed(self, lost: frozenset[SiteName] = frozenset()) -> UnmaskRequest:
        ready = self.share(self.advertise())
        return self.confirm(self.mask(ready, self.vectors(), lost)).request

    def opens(
        self,
        vectors: Mapping[SiteName, Values],
        lost: frozenset[SiteName] = frozenset(),
        *,
        ring: Ring = RING,
    ) -> central.Opened:
        """A whole attempt in which `lost` send no input."""
        return self.unmask(self.confirm(self.mask(self.share(self.advertise()), vectors, lost, ring=ring)))

    def vectors(self, dimension: int = 5) -> dict[SiteName, Values]:
        source = np.random.Generator(np.random.Philox(7))
        return {site: source.integers(-1000, 1000, dimension) for site in self.sites}
