"""`covenant bench secagg`: what secure aggregation costs each side in compute, memory and bytes, beside Flower's SecAgg+.

Attempts over real keys and real frames; short ones several times, of which the median counts. Seconds of a site and of the coordinator are measured with both
sides in this process, one site after the other, as Flower's are; the coordinator's memory in another attempt whose sites are in a process of their own.
`round_s` and `round_memory_mib` are of a whole round on this machine, with sites in as many processes as it has cores, all processes together;
`centre_memory_mib` of a coordinator that also keeps what it takes to go on after a crash, the model before the round and the one after it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protos.identities import Identities
from protos.secagg_codec import decode_frame, encode_frame, encode_opening
from simulation.bench.memory import peak_memory
from simulation.bench.repeat import repeated
from simulation.bench.report import BenchResult
from simulation.bench.secagg_processes import SitesProcesses
from simulation.bench.secagg_sites import RANGE, STATEMENT, Setting, Sites
from simulation.bench.stock_peer import measure_stock_secagg
from simulation.in_order import in_order
from strategies.encoding import Vector, vector_digest
from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.pieces import Bytes, joined
from strategies.secagg import messages as said
from strategies.secagg import server as central
from strategies.secagg.masks import add_mask
from strategies.secagg.payloads import WeightedUpdates
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed
from strategies.server_optimizers import FedAvg

_MASK_WORDS: Final = 1 << 20
_REPEATS: Final = 7
B = TypeVar("B", bound=said.Body)


def measure(*, clients: int, parameters: int, dropouts: float, with_peer: bool) -> BenchResult:
    """Seconds, memory and bytes of an attempt; a share `dropouts` of the sites stops after its shares are out."""
    setting = Setting(clients, parameters, dropouts)
    memory = _server_memory(setting)  # first, while this process is small
    ours = (
        repeated(lambda: _attempt(setting))
        | repeated(lambda: _round(setting))
        | memory
        | {
            "masking_of_raw_aes": masking_of_raw_aes(),
            "clients": float(clients),
            "parameters": float(parameters),
            "dropped": float(len(setting.lost)),
        }
    )
    if not with_peer:
        return BenchResult(bench="secagg", ours=ours)
    peer = measure_stock_secagg(clients=clients, parameters=parameters)
    ratio = {name: peer[f"{name}_s"] / ours[f"{name}_s"] for name in ("client", "server")}
    ratio["upload"] = peer["upload_bytes"] / ours["upload_bytes"]
    return BenchResult(bench="secagg", ours=ours, peer=peer, ratio=ratio)


def _attempt(setting: Setting) -> dict[str, float]:
    """Seconds and bytes of one attempt, and the largest error of a coordinate of its mean."""
    sites = Sites(setting)
    bench = _Bench(setting, sites)
    opened = bench.run()
    upload = bench.up / setting.clients
    return {
        "client_s": sites.seconds,
        "server_s": bench.server_s,
        "upload_bytes": upload,
        "download_bytes": bench.down / setting.clients,
        "upload_of_float32": upload / (4 * setting.parameters),
        "largest_error": _largest_error(setting, opened),
        "neighbours": float(bench.degree),
    }


def _round(setting: Setting) -> dict[str, float]:
    """Seconds and memory of a round with all cores, from the request for keys to the sum."""
    cores = min(len(os.sched_getaffinity(0)), setting.clients)
    with SitesProcesses(setting, cores) as sites, peak_memory() as peak:
        bench = _Bench(setting, sites, beside=cores)
        began = time.perf_counter()
        bench.run()
        taken = time.perf_counter() - began
        memory = sites.peak_mib
    return {
        "round_s": taken,
        "round_memory_mib": peak.whole_mib + memory,
        "round_processes": float(cores + 1),
    }


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


def _server_memory(setting: Setting) -> dict[str, float]:
    """What an attempt adds to the memory of the coordinator's process at its peak, and all of that process when it goes on to the next model, in MiB."""
    with SitesProcesses(setting, 1) as sites, peak_memory() as whole:
        model = np.full(setting.parameters, 0.5)
        bench = _Bench(setting, sites, keep=True)
        with peak_memory() as peak:
            opened = bench.run()
        # The first watch has begun anew with the second, which has seen the model too.
        update = _mean_update(setting, opened)
        del opened, bench
        optimizer = FedAvg()
        following, _ = optimizer.step(model, update, optimizer.initial(setting.parameters), into=update)
        vector_digest(following)
    return {"server_memory_mib": peak.mib, "centre_memory_mib": whole.whole_mib}


def _mean_update(setting: Setting, opened: central.Opened) -> Vector:
    """As a driver reads an opened sum, (parameters,) float64."""
    rule = WeightedUpdates(bound=RANGE, weights=dict.fromkeys(setting.sites, 1))
    return rule.mean(opened.total, opened.survivors)


def _seconds(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def _largest_error(setting: Setting, opened: central.Opened) -> float:
    """Of a coordinate of the mean, against the mean in float64."""
    grid, _ = setting.fit
    expected = np.zeros(setting.parameters)
    for site in opened.survivors:
        expected += setting.vector(site)
    return float(np.abs(grid.value(opened.total) - expected).max() / len(opened.survivors))


class _Answering(Protocol):
    """Sites, wherever they are."""

    keys: dict[SiteName, str]

    def answer(self, site: SiteName, frame: Bytes) -> Bytes:
        """What `site` answers."""
        ...


@dataclass
class _Bench:
    """The coordinator's side, with its clock, and the bytes of both directions."""

    setting: Setting
    sites: _Answering
    beside: int = 1
    """How many sites answer at a time."""
    keep: bool = False
    """Whether what opens the sum is kept beside it, as the coordinator does until a round is committed."""
    server_s: float = 0.0
    up: int = 0
    down: int = 0
    degree: int = 0
    _surviving: tuple[SiteName, ...] = field(init=False)

    def __post_init__(self) -> None:
        lost = self.setting.lost
        self._surviving = tuple(site for site in self.setting.sites if site not in lost)

    def run(self) -> central.Opened:
        """The attempt from keys to sum."""
        everybody, verify = self.setting.sites, Identities(self.sites.keys).verify
        with self._clock():
            step = central.Advertising(
                central.Server(attempt=self.setting.attempt, parameters=self.setting.rules, verify=verify)
            )
        self._exchange(everybody, said.AdvertiseRequest(), said.Advertisement, step.receive)
        with self._clock():
            sharing = step.close()
        self.degree = sharing.cohort.shape.graph.degree
        self._exchange(everybody, sharing.request, said.Envelopes, sharing.receive)
        confirming = self._collected(sharing)
        if self.setting.rules.is_active:
            self._exchange(self._surviving, confirming.request, said.Confirmation, confirming.receive)
        else:
            self._exchange(self._surviving, confirming.request, said.Confirmation, lambda _: None)
        with self._clock():
            unmasking = confirming.close()
            kept = joined(encode_opening(unmasking)) if self.keep else b""
            del confirming, kept
        self._exchange(self._surviving, unmasking.request, said.Shares, unmasking.receive)
        with self._clock():
            return unmasking.open()

    def _collected(self, sharing: central.Sharing) -> central.Confirming:
        with self._clock():
            ready = sharing.close()
            collecting = ready.ask(STATEMENT, self.setting.fit[1], self.setting.parameters)
        self._take(self._requests_for(collecting), said.MaskedInput, collecting.receive)
        with self._clock():
            return collecting.close()

    def _exchange(
        self, sites: Iterable[SiteName], request: said.Body, kind: type[B], take: Callable[[B], object]
    ) -> None:
        """Ask each of `sites` the same."""
        with self._clock():
            frame = self._frame(request)
        self._take(((site, frame) for site in sites), kind, take)

    def _requests_for(self, collecting: central.Collecting) -> Iterator[tuple[SiteName, Bytes]]:
        """Each site's own request; those that stop are sent theirs too."""
        for site in self.setting.sites:
            with self._clock():
                request = self._frame(collecting.request_for(site))
            if site in self.setting.lost:
                self.down += len(request)
            else:
                yield site, request

    def _take(
        self, requests: Iterable[tuple[SiteName, Bytes]], kind: type[B], take: Callable[[B], object]
    ) -> None:
        """Ask, and take what is answered in the order of the requests."""
        for sent in in_order(self._answer, self._counted(requests), self.beside):
            self.up += len(sent)
            with self._clock():
                body = decode_frame(sent).body
                if not isinstance(body, kind):
                    raise CovenantError(f"the benchmark took {type(body).__name__} for {kind.__name__}")
                take(body)

    def _counted(self, requests: Iterable[tuple[SiteName, Bytes]]) -> Iterator[tuple[SiteName, Bytes]]:
        for site, frame in requests:
            self.down += len(frame)
            yield site, frame

    def _answer(self, request: tuple[SiteName, Bytes]) -> Bytes:
        return self.sites.answer(*request)

    def _frame(self, body: said.Body) -> Bytes:
        return encode_frame(said.Frame(self.setting.attempt, body))

    @contextmanager
    def _clock(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.server_s += time.perf_counter() - began
