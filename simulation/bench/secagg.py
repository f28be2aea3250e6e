"""`covenant bench secagg`: what secure aggregation costs each side in compute, memory and bytes, beside Flower's SecAgg+.

Attempts over real keys and real frames, one site after the other; short ones several times, of which the median counts. Seconds are measured with both sides in this process, as Flower's
are; the coordinator's memory in a second attempt whose sites are in another.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import IO, Final, Protocol, Self, TypeVar

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from protos.egress import child_environment
from protos.identities import Identities
from protos.secagg_codec import decode_frame, encode_frame
from simulation.bench.memory import peak_memory
from simulation.bench.repeat import repeated
from simulation.bench.report import BenchResult
from simulation.bench.secagg_sites import STATEMENT, Setting, Sites, receive, send
from simulation.bench.stock_peer import measure_stock_secagg
from strategies.errors import CovenantError
from strategies.ids import SiteName
from strategies.secagg import messages as said
from strategies.secagg import server as central
from strategies.secagg.masks import add_mask
from strategies.secagg.rings import Ring
from strategies.secagg.secrets import MaskSeed

_MASK_WORDS: Final = 1 << 20
_REPEATS: Final = 7
B = TypeVar("B", bound=said.Body)


def measure(*, clients: int, parameters: int, dropouts: float, with_peer: bool) -> BenchResult:
    """Seconds, memory and bytes of an attempt; a share `dropouts` of the sites stops after its shares are out."""
    setting = Setting(clients, parameters, dropouts)
    memory = _server_memory(setting)  # first, while this process is small
    ours = repeated(lambda: _attempt(setting)) | {
        "server_memory_mib": memory,
        "masking_of_raw_aes": masking_of_raw_aes(),
        "clients": float(clients),
        "parameters": float(parameters),
        "dropped": float(len(setting.lost)),
    }
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


def _server_memory(setting: Setting) -> float:
    """What an attempt adds to the memory of the coordinator's process at its peak, in MiB."""
    with _SitesProcess(setting) as sites:
        bench = _Bench(setting, sites)
        with peak_memory() as peak:
            bench.run()
    return peak.mib


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

    def answer(self, site: SiteName, frame: bytes) -> bytes:
        """What `site` answers."""
        ...


class _SitesProcess:
    """`Sites` in a process of their own, which ends with the block."""

    def __init__(self, setting: Setting) -> None:
        numbers = (str(setting.clients), str(setting.parameters), str(setting.dropouts))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "simulation.bench.secagg_sites", *numbers],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=child_environment(),
        )
        self.keys: dict[SiteName, str] = json.loads(self._receive())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            _there(stream).close()

    def answer(self, site: SiteName, frame: bytes) -> bytes:
        """See `_Answering`."""
        for part in (site.encode(), frame):
            send(_there(self._process.stdin), part)
        return self._receive()

    def _receive(self) -> bytes:
        data = receive(_there(self._process.stdout))
        if not data:
            raise CovenantError("the process of the benchmark's sites has ended; its error stands above")
        return data


def _there(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise CovenantError("the process of the benchmark's sites has no pipe")
    return stream


@dataclass
class _Bench:
    """The coordinator's side, with its clock, and the bytes of both directions."""

    setting: Setting
    sites: _Answering
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
        self._exchange(self._surviving, unmasking.request, said.Shares, unmasking.receive)
        with self._clock():
            return unmasking.open()

    def _collected(self, sharing: central.Sharing) -> central.Confirming:
        with self._clock():
            ready = sharing.close()
            collecting = ready.ask(STATEMENT, self.setting.fit[1], self.setting.parameters)
        for site in self.setting.sites:
            with self._clock():
                request = self._frame(collecting.request_for(site))
            if site in self.setting.lost:
                self.down += len(request)
            else:
                self._ask(site, request, said.MaskedInput, collecting.receive)
        with self._clock():
            return collecting.close()

    def _exchange(
        self, sites: Iterable[SiteName], request: said.Body, kind: type[B], take: Callable[[B], object]
    ) -> None:
        """Ask each of `sites` the same."""
        with self._clock():
            frame = self._frame(request)
        for site in sites:
            self._ask(site, frame, kind, take)

    def _ask(self, site: SiteName, frame: bytes, kind: type[B], take: Callable[[B], object]) -> None:
        sent = self.sites.answer(site, frame)
        self.down, self.up = self.down + len(frame), self.up + len(sent)
        with self._clock():
            body = decode_frame(sent).body
            if not isinstance(body, kind):
                raise CovenantError(f"the benchmark took {type(body).__name__} for {kind.__name__}")
            take(body)

    def _frame(self, body: said.Body) -> bytes:
        return encode_frame(said.Frame(self.setting.attempt, body))

    @contextmanager
    def _clock(self) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.server_s += time.perf_counter() - began
