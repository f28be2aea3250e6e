"""The sites of `covenant bench secagg`: in the coordinator's process where seconds of one site are measured, in others for memory and a whole round.

`python -m simulation.bench.secagg_sites CLIENTS PARAMETERS DROPOUTS PART PARTS` has each PARTS-th of the sites. It writes their public keys, reads those of
all sites, and answers frames until an empty name comes; each message is its length in eight bytes, then its bytes, and a request names its site
before. Sites beyond the first few take each other's word for signatures that one of their process has verified: in truth each is on a machine of its own.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
import sys
import time
from dataclasses import dataclass, field
from functools import cached_property
from statistics import mean
from typing import IO, Final

import numpy as np

from protos.envelope import PIECE_BYTES
from protos.identities import Identities
from protos.keys import SigningKey
from protos.secagg_codec import decode_frame, encode_frame
from strategies.encoding import Vector, sha256_hex
from strategies.errors import CovenantError
from strategies.ids import Digest, SiteName, run_id
from strategies.pieces import Bytes, Pieces, joined, pieces_of
from strategies.secagg import messages as said
from strategies.secagg.client import Advertised, Client, Confirmed, Masked, Shared, advertise
from strategies.secagg.fixedpoint import Grid, fitting_grid
from strategies.secagg.graph import MOST_ACTIVE_SITES
from strategies.secagg.identities import Peers, Verify
from strategies.secagg.labels import Attempt
from strategies.secagg.parameters import Adversary, Parameters
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from strategies.secagg.suites import Suite

HEAD: Final = struct.Struct(">Q")
STATEMENT: Final = sha256_hex(b"what all sites are told")
_MEASURED_SITES: Final = 8
RANGE: Final = 1.0
_COLLUDING_ONE_IN: Final = 20
State = Advertised | Shared | Masked | Confirmed


@dataclass(frozen=True)
class Setting:
    """One attempt: who takes part, what they send, and who stops after its shares are out."""

    clients: int
    parameters: int
    dropouts: float

    @cached_property
    def sites(self) -> tuple[SiteName, ...]:
        """All sites, sorted."""
        return tuple(SiteName(f"site-{number:05d}") for number in range(self.clients))

    @cached_property
    def lost(self) -> frozenset[SiteName]:
        """The sites that stop."""
        return frozenset(self.sites[: round(self.dropouts * self.clients)])

    @cached_property
    def rules(self) -> Parameters:
        """Against an active coordinator as long as the protocol has that, with one site in twenty colluding."""
        colluding = self.clients // _COLLUDING_ONE_IN
        return Parameters(
            adversary=Adversary.ACTIVE if self.clients <= MOST_ACTIVE_SITES else Adversary.SEMI_HONEST,
            suite=Suite.X25519,
            minimum=max(3, colluding + 2),
            colluding=colluding,
            dropouts=max(self.dropouts, 0.01),
        )

    @cached_property
    def attempt(self) -> Attempt:
        """The one attempt."""
        plan: Digest = sha256_hex(b"bench")
        run = run_id(f"run-{0:016x}")
        return Attempt(suite=Suite.X25519, plan=plan, run=run, stage="TRAIN", round=1, attempt=1)

    @cached_property
    def fit(self) -> tuple[Grid, Ring]:
        """Grid and ring of the cohort."""
        return fitting_grid(RANGE, self.clients)

    def vector(self, site: SiteName) -> Vector:
        """An update of a size that training makes, (parameters,) float64; the same in either process."""
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(site.encode()).digest()[:8], "big"))
        return random.normal(scale=0.01, size=self.parameters)


@dataclass
class Sites:
    """Every `parts`-th of all sites, from number `part` on, one after the other. `identities` are of all sites once they are there."""

    setting: Setting
    part: int = 0
    parts: int = 1
    _states: dict[SiteName, State] = field(default_factory=dict)
    _spent: dict[SiteName, float] = field(default_factory=dict)
    _believed: set[tuple[SiteName, bytes, bytes]] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._keys = {site: SigningKey.generate() for site in self.setting.sites[self.part :: self.parts]}
        self.keys = {site: key.public for site, key in self._keys.items()}
        self.identities = Identities(self.keys)

    @property
    def seconds(self) -> float:
        """Of one site, over those that verify every signature themselves and survive."""
        return mean(self._spent[site] for site in self._measured)

    def answer(self, site: SiteName, frame: Bytes) -> Bytes:
        """One step of `site`, on its clock but for making up its update."""
        vector = self.setting.vector(site) if isinstance(self._states.get(site), Shared) else None
        began = time.perf_counter()
        reply = encode_frame(said.Frame(self.setting.attempt, self._step(site, frame, vector)))
        self._spent[site] = self._spent.get(site, 0.0) + time.perf_counter() - began
        return reply

    def _step(self, site: SiteName, frame: Bytes, vector: Vector | None) -> said.Body:
        match self._states.pop(site, None), decode_frame(frame).body:
            case None, said.AdvertiseRequest():
                state = self._states[site] = advertise(self._client(site), os.urandom)
                return state.advertisement
            case Advertised() as advertised, said.ShareRequest() as ask:
                self._states[site], envelopes = advertised.share(ask, os.urandom)
                return envelopes
            case Shared() as shared, said.MaskRequest() as ask if vector is not None:
                grid, ring = self.setting.fit
                integers = grid.embed(vector, MaskSeed(hashlib.sha256(site.encode()).digest()))
                self._states[site], sent = shared.mask(ask, ring, integers)
                return sent
            case Masked() as masked, said.ConfirmRequest() as ask:
                self._states[site], confirmation = masked.confirm(ask)
                return confirmation
            case Confirmed() as confirmed, said.UnmaskRequest() as ask:
                return confirmed.unmask(ask)
            case _, body:
                raise CovenantError(f"{site} is not at the step for a {type(body).__name__}")

    @cached_property
    def _measured(self) -> frozenset[SiteName]:
        surviving = [site for site in self.setting.sites if site not in self.setting.lost]
        return frozenset(surviving[:_MEASURED_SITES])

    def _client(self, site: SiteName) -> Client:
        return Client(
            site=site,
            attempt=self.setting.attempt,
            parameters=self.setting.rules,
            peers=Peers(recognised=frozenset(self.setting.sites) - {site}, at_least=2),
            sign=self._keys[site].sign_raw,
            verify=self.identities.verify if site in self._measured else self._verify_once,
        )

    @property
    def _verify_once(self) -> Verify:
        def verify(site: SiteName, label: str, message: bytes, signature: bytes) -> bool:
            known = (site, message, signature)
            if known not in self._believed:
                if not self.identities.verify(site, label, message, signature):
                    return False
                self._believed.add(known)
            return True

        return verify


def send(stream: IO[bytes], data: Bytes) -> None:
    """Write one message."""
    stream.write(HEAD.pack(len(data)))
    for part in pieces_of(data).parts:
        stream.write(part)
    stream.flush()


def receive(stream: IO[bytes]) -> Bytes:
    """Read one message, in pieces as a transport would hand it over; nothing at the end of the stream."""
    head = stream.read(HEAD.size)
    left = HEAD.unpack(head)[0] if head else 0
    if left <= PIECE_BYTES:
        return stream.read(left)
    sizes = [min(PIECE_BYTES, left - begin) for begin in range(0, left, PIECE_BYTES)]
    return Pieces([stream.read(size) for size in sizes])


def main(setting: Setting, part: int, parts: int) -> None:
    """Answer until an empty name comes."""
    source, sink = sys.stdin.buffer, sys.stdout.buffer
    sites = Sites(setting, part, parts)
    send(sink, json.dumps(sites.keys).encode())
    sites.identities = Identities(json.loads(joined(receive(source))))
    while name := receive(source):
        send(sink, sites.answer(SiteName(joined(name).decode()), receive(source)))


if __name__ == "__main__":
    main(Setting(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])), int(sys.argv[4]), int(sys.argv[5]))
