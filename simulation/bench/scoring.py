"""`covenant bench scoring`: a real scoring service with tokens, contract, threshold, reasons and decision log, beside bare ONNX Runtime.

The model is the demo's: its contract's features, encoded to 73 columns, and a network of two hidden layers. Throughput is measured without a threshold,
as bare ONNX Runtime has none, again with one that declines a fifth of the rows, which then get reasons, and again without one by a service that counts its
decisions in windows (`--monitor`); everything else has it. Batches travel over gRPC in binary form, single applications over HTTP in JSON and over gRPC. Bare ONNX Runtime scores the same batches
from arrays that are ready, in this process, while the service waits, with one thread and with its own choice of threads; the better counts.
It runs the approved file as it is. The service runs the form that it prepares of that file at load (`coordinator.deploy.scoring.prepared`): columns of numbers
stacked, the encoded rows of words that the file knows kept. All words of these batches are known ones; others cost more.

The client that asks the service runs in this process, on the same processors, and its work counts against the service. On a machine with other work the
ratio flatters the service, which has several threads to be scheduled where one batch after another has one; processor time does not: it is told for
a batch of each side, the service's without the client's.
"""

from __future__ import annotations

import os
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime

from protos.shell import people
from simulation.bench.report import BenchResult
from simulation.bench.scored_service import BATCH, NAME, Served
from strategies.errors import CovenantError

_IN_FLIGHT: Final = 6

Feed = Mapping[str, npt.NDArray[Any]]


def measure(*, seconds: float, requests: int, reloads: int) -> BenchResult:
    """Throughput over `seconds` on each side, latency of `requests` single applications, and `reloads` under load. Raises CovenantError."""
    with tempfile.TemporaryDirectory(prefix="covenant-bench-") as folder:
        served = Served(Path(folder))
        bench = _Bench(served)
        with served.service():
            _tell(f"{requests} single applications over HTTP and over gRPC")
            http_ms, grpc_ms = (
                bench.latencies(bench.ask_http, requests),
                bench.latencies(bench.ask_grpc, requests),
            )
            _tell(f"batches of {BATCH} for {seconds:g} s on each side")
            bare, bare_cpu_ms = bench.bare(seconds)
            explained = bench.throughput(seconds)
            served.put(0, decline=False)
            rows, cpu_ms = bench.throughput_and_cost(seconds)
            served.put(0)
            _tell(f"{reloads} reloads under load")
            lost, asked, slowest = bench.reload(reloads)
        with served.service(watched=True):
            served.put(0, decline=False)
            _tell("the same batches, counted in windows")
            watched, watched_cpu_ms = bench.throughput_and_cost(seconds)
    ours = {
        "p50_ms": float(np.quantile(http_ms, 0.5)),
        "p99_ms": float(max(np.quantile(http_ms, 0.99), np.quantile(grpc_ms, 0.99))),
        "http_p99_ms": float(np.quantile(http_ms, 0.99)),
        "grpc_p99_ms": float(np.quantile(grpc_ms, 0.99)),
        "throughput_rows_s": rows,
        "throughput_with_reasons_rows_s": explained,
        "throughput_watched_rows_s": watched,
        "cpu_ms_per_batch": cpu_ms,
        "cpu_ms_per_batch_watched": watched_cpu_ms,
        "lost_requests": float(lost),
        "requests_during_reloads": float(asked),
        "reloads": float(reloads),
        "slowest_reload_s": slowest,
        "load_average": os.getloadavg()[0],
    }
    return BenchResult(
        bench="scoring",
        ours=ours,
        peer={"throughput_rows_s": bare, "cpu_ms_per_batch": bare_cpu_ms},
        ratio={
            "throughput": rows / bare,
            "throughput_with_reasons": explained / bare,
            "throughput_watched": watched / bare,
        },
        peer_name="bare ONNX Runtime",
    )


@dataclass
class _Lost:
    """What a client of the reloads met."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)


class _Bench:
    """Requests to a service that runs; `asked` are the batches of the last throughput."""

    def __init__(self, served: Served) -> None:
        self._served = served
        self.asked = 0

    def latencies(self, ask: Callable[[], Callable[[], None]], requests: int) -> list[float]:
        """Milliseconds of single applications, one after the other on one connection, after a tenth as many that do not count."""
        one = ask()
        found = []
        for _ in range(requests + requests // 10):
            began = time.perf_counter()
            one()
            found.append(1000.0 * (time.perf_counter() - began))
        return found[requests // 10 :]

    def ask_http(self) -> Callable[[], None]:
        """Asks about one application over HTTP. Raises CovenantError for any answer but a score."""
        connection = HTTPConnection("127.0.0.1", self._served.port, timeout=30)
        body, headers = (
            self._served.json(),
            {"Authorization": f"Bearer {self._served.token}", "Content-Type": "application/json"},
        )

        def ask() -> None:
            connection.request("POST", f"/v2/models/{NAME}/infer", body=body, headers=headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:  # noqa: PLR2004  (HTTP's OK)
                raise CovenantError(f"the service answered {answer.status}: {said[:300]!r}")

        return ask

    def ask_grpc(self) -> Callable[[], None]:
        """The same over gRPC. Raises grpc.RpcError."""
        body = self._served.message(self._served.batch(1))
        return lambda: self._served.call(body, metadata=self._served.metadata, timeout=30)

    def bare(self, seconds: float) -> tuple[float, float]:
        """Rows a second of ONNX Runtime alone, and milliseconds of processor time a batch."""
        feeds = [self._served.loaded.rules.feed(each) for each in self._served.batches]
        return max(_rows_per_second(self._session(threads), feeds, seconds / 2) for threads in (0, 1))

    def throughput_and_cost(self, seconds: float) -> tuple[float, float]:
        """Rows a second through the service, and milliseconds of its processor time a batch."""
        before = self._served.cpu_s()
        rows = self.throughput(seconds)
        return rows, 1000.0 * (self._served.cpu_s() - before) / self.asked

    def throughput(self, seconds: float) -> float:
        """Rows a second through the service, a few requests at a time. Raises grpc.RpcError."""
        bodies = [self._served.message(each) for each in self._served.batches]
        done, place = 0, 0
        pending: list[Any] = []
        deadline: float | None = None
        began = time.perf_counter()
        while deadline is None or time.perf_counter() < deadline:
            while len(pending) < _IN_FLIGHT:
                pending.append(
                    self._served.call.future(
                        bodies[place % len(bodies)], metadata=self._served.metadata, timeout=60
                    )
                )
                place += 1
            pending.pop(0).result()
            done += 1
            if deadline is None and done == 2 * len(bodies):  # warm now
                began, done = time.perf_counter(), 0
                deadline = began + seconds
        took = time.perf_counter() - began
        for each in pending:
            each.result()
        self.asked = place
        return done * BATCH / took

    def reload(self, reloads: int) -> tuple[int, int, float]:
        """Requests lost, requests asked, and the slowest reload in seconds, while two clients ask without a pause."""
        ended = threading.Event()
        notes = [_Lost(), _Lost()]
        clients = [
            threading.Thread(target=_ask_until, args=(ask(), ended, note))
            for ask, note in zip((self.ask_http, self.ask_grpc), notes, strict=True)
        ]
        for client in clients:
            client.start()
        slowest = 0.0
        try:
            for number in range(1, reloads + 1):
                began = time.perf_counter()
                self._served.put(number % 2)
                slowest = max(slowest, time.perf_counter() - began)
        finally:
            ended.set()
            for client in clients:
                client.join()
        failed = [each for note in notes for each in note.failed]
        for each in failed[:3]:
            _tell(f"lost: {each}")
        return len(failed), sum(note.asked for note in notes), slowest

    def _session(self, threads: int) -> Any:  # noqa: ANN401  (no types)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(self._served.onnx, options, providers=["CPUExecutionProvider"])


def _rows_per_second(session: Any, feeds: list[Feed], seconds: float) -> tuple[float, float]:  # noqa: ANN401
    for feed in feeds:
        session.run(None, feed)
    began, cpu_s, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < began + seconds:
        session.run(None, feeds[done % len(feeds)])
        done += 1
    return done * BATCH / (time.perf_counter() - began), 1000.0 * (time.process_time() - cpu_s) / done


def _ask_until(ask: Callable[[], None], ended: threading.Event, note: _Lost) -> None:
    while not ended.is_set():
        note.asked += 1
        try:
            ask()
        except (OSError, CovenantError, grpc.RpcError) as error:
            note.failed.append(str(error))


def _tell(words: str) -> None:
    people.print(words, highlight=False)
