"""`covenant bench secagg`: what secure aggregation costs each side in compute and bytes, beside Flower's SecAgg+.

One attempt over real keys and real frames, every site and the coordinator in this process, one after the other. Sites beyond the first
few take each other's word for signatures that one of them has verified, which shortens the benchmark and is in no figure.
"""

from __future__ import annotations

import hashlib
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import mean
from typing import TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protos.identities import Identities
from protos.keys import SigningKey
from protos.secagg_codec import decode_frame, encode_frame
from simulation.bench.report import BenchResult
from simulation.bench.stock_peer import measure_stock_secagg
from strategies.encoding import Vector, sha256_hex
from strategies.errors import CovenantError
from strategies.ids import SiteName, run_id
from strategies.secagg import messages as said
from strategies.secagg import server as central
from strategies.secagg.client import Client, Masked, Shared, advertise
from strategies.secagg.fixedpoint import fitting_grid
from strategies.secagg.graph import MOST_ACTIVE_SITES
from strategies.secagg.identities import Peers, Verify
from strategies.secagg.labels import Attempt
from strategies.secagg.masks import add_mask
from strategies.secagg.parameters import Adversary, Parameters
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from strategies.secagg.suites import Suite

_MEASURED_SITES = 8
_MASK_WORDS = 1 << 20
_REPEATS = 7
_RANGE = 1.0
_COLLUDING_ONE_IN = 20
_COLLUDING_ONE_IN = 20
B = TypeVar("B", bound=said.Body)


def measure(*, clients: int, parameters: int, dropouts: float, with_peer: bool) -> BenchResult:
    """Seconds and bytes of one attempt; a share `dropouts` of the sites stops after its shares are out."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    bench = _Bench(clients, parameters, dropouts)
    error = bench.run()
    peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    ours = {
        "client_s": bench.client_s,
        "server_s": bench.server_s,
        "upload_bytes": bench.up / clients,
        "download_bytes": bench.down / clients,
        "upload_of_float32": bench.up / clients / (4 * parameters),
        "peak_memory_mib": peak,
        "masking_of_raw_aes": masking_of_raw_aes(),
        "largest_error": error,
        "clients": float(clients),
        "parameters": float(parameters),
        "dropped": float(len(bench.lost)),
        "neighbours": float(bench.degree),
    }
    if not with_peer:
        return BenchResult(bench="secagg", ours=ours)
    peer = measure_stock_secagg(clients=clients, parameters=parameters)
    ratio = {name: peer[f"{name}_s"] / ours[f"{name}_s"] for name in ("client", "server")}
    ratio["upload"] = peer["upload_bytes"] / ours["upload_bytes"]
    return BenchResult(bench="secagg", ours=ours, peer=peer, ratio=ratio)


def masking_of_raw_aes() -> float:
    """The throughput of adding a mask to a vector as a share of AES-256-CTR alone, over the same bytes on the same core."""
    ring, seed = Ring(32), MaskSeed(os.urandom(32))
    vector = ring.zeros(_MASK_WORDS)
    zeros, out = bytes(4 * _MASK_WORDS), bytearray(4 * _MASK_WORDS + 15)

    def raw() -> None:
        Cipher(algorithms.AES256(seed.reveal()), modes.CTR(bytes(16))).encryptor().update_into(zeros, out)

    def best(work: Callable[[], None]) -> float:
        return min(_seconds(work) for _ in range(_REPEATS))

    return best(raw) / best(lambda: add_mask(ring, vector, seed))


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


@dataclass
class _Bench:
    """One attempt with its clocks and scales."""

    clients: int
    parameters: int
    dropouts: float
    server_s: float = 0.0
    up: int = 0
    down: int = 0
    degree: int = 0
    _spent: dict[SiteName, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        adversary = Adversary.ACTIVE if self.clients <= MOST_ACTIVE_SITES else Adversary.SEMI_HONEST
        colluding = self.clients // _COLLUDING_ONE_IN
        self.rules = Parameters(
            adversary=adversary,
            suite=Suite.X25519,
            minimum=max(3, colluding + 2),
            colluding=colluding,
            dropouts=max(self.dropouts, 0.01),
        )
        self.attempt = Attempt(
            suite=Suite.X25519,
            plan=sha256_hex(b"bench"),
            run=run_id(f"run-{0:016x}"),
            stage="TRAIN",
            round=1,
            attempt=1,
        )
        self.sites = tuple(SiteName(f"site-{number:05d}") for number in range(self.clients))
        self.keys = {site: SigningKey.generate() for site in self.sites}
        self.identities = Identities({site: key.public for site, key in self.keys.items()})
        self.statement = sha256_hex(b"what all sites are told")
        self.lost = frozenset(self.sites[: round(self.dropouts * self.clients)])
        self.grid, self.ring = fitting_grid(_RANGE, self.clients)
        self._believed: set[tuple[SiteName, bytes, bytes]] = set()

    @property
    def client_s(self) -> float:
        """Seconds of one site, over those that verify every signature themselves and survive."""
        return mean(self._spent[site] for site in self._measured)

    @property
    def _measured(self) -> Sequence[SiteName]:
        return [site for site in self.sites if site not in self.lost][:_MEASURED_SITES]

    def run(self) -> float:
        """The attempt from keys to mean; the largest error of a coordinate."""
        ready = self._set_up()
        return self._open(self._confirm(*self._collect(ready)))

    def _set_up(self) -> central.Ready:
        with self._server():
            advertising = central.Advertising(
                central.Server(attempt=self.attempt, parameters=self.rules, verify=self.identities.verify)
            )
        states = {}
        for site in self.sites:
            self._send(said.AdvertiseRequest())
            with self._site(site):
                states[site] = advertise(self._client(site), os.urandom)
                sent = self._frame(states[site].advertisement)
            with self._server():
                advertising.receive(self._taken(sent, said.Advertisement))
        with self._server():
            sharing = advertising.close()
            request = encode_frame(said.Frame(self.attempt, sharing.request))
        self.degree = sharing.cohort.shape.graph.degree
        self.shared: dict[SiteName, Shared] = {}
        for site in self.sites:
            self.down += len(request)
            with self._site(site):
                ask = self._read(request, said.ShareRequest)
                self.shared[site], envelopes = states.pop(site).share(ask, os.urandom)
                sent = self._frame(envelopes)
            with self._server():
                sharing.receive(self._taken(sent, said.Envelopes))
        with self._server():
            return sharing.close()

    def _collect(self, ready: central.Ready) -> tuple[dict[SiteName, Masked], central.Confirming]:
        with self._server():
            collecting = ready.ask(self.statement, self.ring, self.parameters)
        masked: dict[SiteName, Masked] = {}
        for site in self.sites:
            with self._server():
                request = encode_frame(said.Frame(self.attempt, collecting.request_for(site)))
            self.down += len(request)
            if site in self.lost:
                continue
            vector = self._vector(site)
            with self._site(site):
                ask = self._read(request, said.MaskRequest)
                integers = self.grid.embed(vector, MaskSeed(hashlib.sha256(site.encode()).digest()))
                masked[site], item = self.shared.pop(site).mask(ask, self.ring, integers)
                sent = self._frame(item)
            with self._server():
                collecting.receive(self._taken(sent, said.MaskedInput))
        with self._server():
            return masked, collecting.close()

    def _confirm(self, masked: dict[SiteName, Masked], step: central.Confirming) -> central.Unmasking:
        with self._server():
            request = encode_frame(said.Frame(self.attempt, step.request))
        self.confirmed = {}
        for site, state in masked.items():
            self.down += len(request)
            with self._site(site):
                self.confirmed[site], confirmation = state.confirm(self._read(request, said.ConfirmRequest))
                sent = self._frame(confirmation)
            if self.rules.is_active:
                with self._server():
                    step.receive(self._taken(sent, said.Confirmation))
        with self._server():
            return step.close()

    def _open(self, step: central.Unmasking) -> float:
        with self._server():
            request = encode_frame(said.Frame(self.attempt, step.request))
        for site, state in self.confirmed.items():
            self.down += len(request)
            with self._site(site):
                shares = state.unmask(self._read(request, said.UnmaskRequest))
                sent = self._frame(shares)
            with self._server():
                step.receive(self._taken(sent, said.Shares))
        with self._server():
            opened = step.open()
            found = self.grid.value(opened.total) / len(opened.survivors)
        expected = np.zeros(self.parameters)
        for site in opened.survivors:
            expected += self._vector(site)
        return float(np.abs(found - expected / len(opened.survivors)).max())

    def _vector(self, site: SiteName) -> Vector:
        """An update of a size that training makes."""
        random = np.random.default_rng(int.from_bytes(hashlib.sha256(site.encode()).digest()[:8], "big"))
        return random.normal(scale=0.01, size=self.parameters)

    def _client(self, site: SiteName) -> Client:
        others = frozenset(self.sites) - {site}
        return Client(
            site=site,
            attempt=self.attempt,
            parameters=self.rules,
            peers=Peers(recognised=others, at_least=2),
            sign=self.keys[site].sign_raw,
            verify=self.identities.verify if site in self._measured else self._verify_once(),
        )

    def _verify_once(self) -> Verify:
        def verify(site: SiteName, label: str, message: bytes, signature: bytes) -> bool:
            known = (site, message, signature)
            if known not in self._believed:
                if not self.identities.verify(site, label, message, signature):
                    return False
                self._believed.add(known)
            return True

        return verify

    def _frame(self, body: said.Body) -> bytes:
        return encode_frame(said.Frame(self.attempt, body))

    def _send(self, body: said.Body) -> None:
        self.down += len(self._frame(body))

    def _taken(self, sent: bytes, kind: type[B]) -> B:
        self.up += len(sent)
        return self._read(sent, kind)

    @staticmethod
    def _read(data: bytes, kind: type[B]) -> B:
        body = decode_frame(data).body
        if not isinstance(body, kind):
            raise CovenantError(f"the benchmark took {type(body).__name__} for {kind.__name__}")
        return body

    @contextmanager
    def _server(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.server_s += time.perf_counter() - began

    @contextmanager
    def _site(self, site: SiteName) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._spent[site] = self._spent.get(site, 0.0) + time.perf_counter() - began
