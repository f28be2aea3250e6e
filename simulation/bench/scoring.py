"""`covenant bench scoring`: a real scoring service with tokens, contract, threshold, reasons and decision log, beside bare ONNX Runtime.

The model is the demo's: its contract's features, encoded to 73 columns, and a network of two hidden layers. Throughput is measured without a threshold,
as bare ONNX Runtime has none, and again with one that declines a fifth of the rows, which then get reasons; everything else has it. Batches travel over gRPC in binary form, single applications over HTTP in JSON and over gRPC. Bare ONNX Runtime scores the same batches
from arrays that are ready, in this process, while the service waits, with one thread and with its own choice of threads; the better counts.

The client that asks the service runs in this process, on the same processors, and its work counts against the service. On a machine with other work the
ratio flatters the service, which has several threads to be scheduled where one batch after another has one; processor time does not: it is told for
a batch of each side, the service's without the client's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime

from coordinator.deploy.scoring.access import add_caller
from coordinator.deploy.scoring.arms import load
from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.exports import opened_from
from coordinator.deploy.scoring.serving import STATUS_PATH, ServingState, write_state
from coordinator.deploy.scoring.words import Words
from coordinator.registry.export import Exportable, onnx_bytes
from protos import inference_pb2 as pb
from protos.contract import Contract
from protos.documents import load_document
from protos.log_made import CONTRACT_FILE, PLAN_FILE
from protos.plan import Plan
from protos.shell import people
from simulation.bench.releases import Releases
from simulation.bench.report import BenchResult
from simulation.deployment import free_port
from strategies.errors import CovenantError
from strategies.features import NumericFeature, Scaling
from strategies.models import DenseModel

_DEMO: Final = Path(__file__).parent.parent / "demo"
_NAME: Final = "lending-default"
_HIDDEN: Final = (64, 32)
_BATCH: Final = 256
_IN_FLIGHT: Final = 6
_DECLINED_SHARE: Final = 0.2
_READY_WITHIN_S: Final = 60.0
_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"

Feed = Mapping[str, npt.NDArray[Any]]


def measure(*, seconds: float, requests: int, reloads: int) -> BenchResult:
    """Throughput over `seconds` on each side, latency of `requests` single applications, and `reloads` under load. Raises CovenantError."""
    with tempfile.TemporaryDirectory(prefix="covenant-bench-") as folder:
        bench = _Bench(Path(folder))
        with bench.service():
            _tell(f"{requests} single applications over HTTP and over gRPC")
            http_ms, grpc_ms = (
                bench.latencies(bench.ask_http, requests),
                bench.latencies(bench.ask_grpc, requests),
            )
            _tell(f"batches of {_BATCH} for {seconds:g} s on each side")
            bare, bare_cpu_ms = bench.bare(seconds)
            explained = bench.throughput(seconds)
            bench.put(0, decline=False)
            before = bench.cpu_s()
            rows = bench.throughput(seconds)
            cpu_ms = 1000.0 * (bench.cpu_s() - before) / bench.batches
            bench.put(0)
            _tell(f"{reloads} reloads under load")
            lost, asked, slowest = bench.reload(reloads)
    ours = {
        "p50_ms": float(np.quantile(http_ms, 0.5)),
        "p99_ms": float(max(np.quantile(http_ms, 0.99), np.quantile(grpc_ms, 0.99))),
        "http_p99_ms": float(np.quantile(http_ms, 0.99)),
        "grpc_p99_ms": float(np.quantile(grpc_ms, 0.99)),
        "throughput_rows_s": rows,
        "throughput_with_reasons_rows_s": explained,
        "cpu_ms_per_batch": cpu_ms,
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
        ratio={"throughput": rows / bare, "throughput_with_reasons": explained / bare},
        peer_name="bare ONNX Runtime",
    )


@dataclass
class _Lost:
    """What a client of the reloads met."""

    asked: int = 0
    failed: list[str] = field(default_factory=list)


class _Bench:
    """Two versions of one model in packages, a service, and requests to it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contract = load_document(_DEMO / "lending-club.yaml", Contract)
        self._features = load_document(_DEMO / "plan.yaml", Plan).features
        self._random = np.random.default_rng(1)
        self._releases = Releases.begun(folder, datetime.now(UTC))
        files = [self._files(version) for version in (1, 2)]
        self._packages = [
            self._releases.package(_NAME, version, each) for version, each in enumerate(files, 1)
        ]
        self._onnx = files[0]["model.onnx"]
        self._loaded = load(opened_from(_NAME, 1, files[0]))
        self._batches = [self._batch(_BATCH) for _ in range(16)]
        scores = np.concatenate(
            [self._loaded.model.score(self._loaded.rules.feed(each)) for each in self._batches]
        )
        self._decline_at = float(np.quantile(scores, 1.0 - _DECLINED_SHARE))
        self._token = add_caller(folder / "callers", "bench")
        self._port, self._grpc_port = free_port(), free_port()
        self._revision = 0
        self._call: Any = None
        self._pid = 0
        self.batches = 0
        self._put(0)

    @contextmanager
    def service(self) -> Iterator[None]:
        """The service, running."""
        command = [
            *(sys.executable, "-m", "coordinator.main", "score", "serve", "--state", str(self._folder)),
            *self._releases.options,
            *("--port", str(self._port), "--grpc-port", str(self._grpc_port)),
            *("--callers", str(self._folder / "callers"), "--rows-per-second", "1e9"),
        ]
        with (
            (self._folder / "service.log").open("wb") as log,
            subprocess.Popen(command, stderr=log) as process,
        ):
            try:
                self._pid = process.pid
                self._wait(process)
                options = [("grpc.enable_http_proxy", 0)]
                with grpc.insecure_channel(f"127.0.0.1:{self._grpc_port}", options=options) as channel:
                    self._call = channel.unary_unary(_METHOD)
                    yield
            finally:
                process.terminate()
                process.wait()

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
        connection = HTTPConnection("127.0.0.1", self._port, timeout=30)
        body, headers = (
            self._json(),
            {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"},
        )

        def ask() -> None:
            connection.request("POST", f"/v2/models/{_NAME}/infer", body=body, headers=headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:  # noqa: PLR2004  (HTTP's OK)
                raise CovenantError(f"the service answered {answer.status}: {said[:300]!r}")

        return ask

    def ask_grpc(self) -> Callable[[], None]:
        """The same over gRPC. Raises grpc.RpcError."""
        body = self._message(self._batch(1))
        return lambda: self._call(body, metadata=self._metadata, timeout=30)

    def cpu_s(self) -> float:
        """Processor time that the service has used (proc(5): fields 14 and 15)."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def bare(self, seconds: float) -> tuple[float, float]:
        """Rows a second of ONNX Runtime alone, and milliseconds of processor time a batch."""
        feeds = [self._loaded.rules.feed(each) for each in self._batches]
        return max(_rows_per_second(self._session(threads), feeds, seconds / 2) for threads in (0, 1))

    def throughput(self, seconds: float) -> float:
        """Rows a second through the service, a few requests at a time. Raises grpc.RpcError."""
        bodies = [self._message(each) for each in self._batches]
        done, place = 0, 0
        pending: list[Any] = []
        deadline: float | None = None
        began = time.perf_counter()
        while deadline is None or time.perf_counter() < deadline:
            while len(pending) < _IN_FLIGHT:
                pending.append(
                    self._call.future(bodies[place % len(bodies)], metadata=self._metadata, timeout=60)
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
        self.batches = place
        return done * _BATCH / took

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
                self.put(number % 2)
                slowest = max(slowest, time.perf_counter() - began)
        finally:
            ended.set()
            for client in clients:
                client.join()
        failed = [each for note in notes for each in note.failed]
        for each in failed[:3]:
            _tell(f"lost: {each}")
        return len(failed), sum(note.asked for note in notes), slowest

    def put(self, place: int, *, decline: bool = True) -> None:
        """Have one of the packages served; returns once it is."""
        self._put(place, decline=decline)
        while self._in_force() < self._revision:
            time.sleep(0.005)

    # --- parts ---------------------------------------------------------------------------------------------------------

    def _files(self, version: int) -> dict[str, bytes]:
        spec = self._contract.feature_spec(self._features)
        model = DenseModel(inputs=spec.width, hidden=_HIDDEN)
        count = len(spec.numeric)
        plan = (_DEMO / "plan.yaml").read_bytes()
        source = Exportable(
            features=spec,
            scaling=Scaling(mean=(0.3,) * count, std=(0.2,) * count),
            model=model,
            vector=model.initial(version),
            plan_digest=load_document(_DEMO / "plan.yaml", Plan).digest,
            contract=self._contract.ref,
        )
        return {"model.onnx": onnx_bytes(source), CONTRACT_FILE: self._contract.canonical, PLAN_FILE: plan}

    def _put(self, place: int, *, decline: bool = True) -> None:
        self._revision += 1
        at = self._decline_at if decline else None
        state = ServingState(revision=self._revision, stable=self._packages[place], decline_at=at)
        write_state(self._folder, state)

    def _batch(self, rows: int) -> Batch:
        spec = self._contract.feature_spec(self._features)
        numbers = [self._random.uniform(each.low, each.high, rows) for each in spec.numeric]
        words = [
            Words.of(str(word) for word in self._random.choice(each.vocabulary, rows))
            for each in spec.features
            if not isinstance(each, NumericFeature)
        ]
        return Batch(numbers=np.array(numbers), words=tuple(words))

    def _message(self, batch: Batch) -> bytes:
        request = pb.ModelInferRequest(model_name=_NAME)
        feed = self._loaded.rules.feed(batch)
        for each in self._loaded.rules.inputs:
            column = feed[each.name]
            request.inputs.add(name=each.name, datatype=each.accepted[0], shape=[batch.rows, 1])
            if each.accepted[0] == "BYTES":
                words = [word.encode() for word in column.ravel()]
                data = b"".join(len(word).to_bytes(4, "little") + word for word in words)
            else:
                data = column.astype("<f8").tobytes()
            request.raw_input_contents.append(data)
        return bytes(request.SerializeToString())

    def _json(self) -> bytes:
        feed = self._loaded.rules.feed(self._batch(1))
        inputs = [
            {
                "name": each.name,
                "datatype": each.accepted[0],
                "shape": [1, 1],
                "data": feed[each.name].ravel().tolist(),
            }
            for each in self._loaded.rules.inputs
        ]
        return json.dumps({"inputs": inputs}).encode()

    @property
    def _metadata(self) -> tuple[tuple[str, str], ...]:
        return (("authorization", f"Bearer {self._token}"),)

    def _session(self, threads: int) -> Any:  # noqa: ANN401  (no types)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        return onnxruntime.InferenceSession(self._onnx, options, providers=["CPUExecutionProvider"])

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + _READY_WITHIN_S
        while time.monotonic() < deadline and process.poll() is None:
            try:
                if self._in_force() == self._revision:
                    return
            except OSError:
                time.sleep(0.1)
        log = (self._folder / "service.log").read_text(errors="replace")
        raise CovenantError(f"the scoring service did not start: {log[-500:]}")

    def _in_force(self) -> int:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", STATUS_PATH, headers={"Authorization": f"Bearer {self._token}"})
            return int(json.loads(connection.getresponse().read())["revision"])
        finally:
            connection.close()


def _rows_per_second(session: Any, feeds: list[Feed], seconds: float) -> tuple[float, float]:  # noqa: ANN401
    for feed in feeds:
        session.run(None, feed)
    began, cpu_s, done = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() < began + seconds:
        session.run(None, feeds[done % len(feeds)])
        done += 1
    return done * _BATCH / (time.perf_counter() - began), 1000.0 * (time.process_time() - cpu_s) / done


def _ask_until(ask: Callable[[], None], ended: threading.Event, note: _Lost) -> None:
    while not ended.is_set():
        note.asked += 1
        try:
            ask()
        except (OSError, CovenantError, grpc.RpcError) as error:
            note.failed.append(str(error))


def _tell(words: str) -> None:
    people.print(words, highlight=False)
