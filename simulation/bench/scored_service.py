"""What the benchmark of scoring asks: a service in a process of its own, with packages of two versions of the demo's model, and requests for it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import grpc
import numpy as np

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
from simulation.bench.releases import Releases
from simulation.deployment import free_port
from strategies.errors import CovenantError
from strategies.features import NumericFeature, Scaling
from strategies.models import DenseModel

NAME: Final = "lending-default"
BATCH: Final = 256
_DEMO: Final = Path(__file__).parent.parent / "demo"
_HIDDEN: Final = (64, 32)
_BATCHES: Final = 16
_DECLINED_SHARE: Final = 0.2
_READY_WITHIN_S: Final = 60.0
_MONITOR: Final = f"""
covenant: monitor/v1
model: {NAME}
window: 1h
profile_bins: 10
score_bins: 100
score_scale: logit
privacy: {{noise: 8.0, limit: {{epsilon: 8, delta: 1e-6}}, period: 30d}}
"""
_METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"


class Served:
    """Two versions of one model in packages in `folder`, and a service of them. `batches` are what is asked, `onnx` is the first version's file."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._contract = load_document(_DEMO / "lending-club.yaml", Contract)
        self._features = load_document(_DEMO / "plan.yaml", Plan).features
        self._random = np.random.default_rng(1)
        self._releases = Releases.begun(folder, datetime.now(UTC))
        files = [self._files(version) for version in (1, 2)]
        self._packages = [
            self._releases.package(NAME, version, each) for version, each in enumerate(files, 1)
        ]
        self.onnx = files[0]["model.onnx"]
        self.loaded = load(opened_from(NAME, 1, files[0]))
        self.batches = [self.batch(BATCH) for _ in range(_BATCHES)]
        scores = np.concatenate(
            [self.loaded.model.score(self.loaded.rules.feed(each)) for each in self.batches]
        )
        self._decline_at = float(np.quantile(scores, 1.0 - _DECLINED_SHARE))
        self.token = add_caller(folder / "callers", "bench")
        self.port, self._grpc_port = free_port(), free_port()
        self._revision = 0
        self.call: Any = None
        self._pid = 0
        self._put(0)

    @contextmanager
    def service(self, *, watched: bool = False) -> Iterator[None]:
        """The service, running; `watched` counts its decisions in windows, ten bins a number and a hundred of scores."""
        command = [
            *(sys.executable, "-m", "coordinator.main", "score", "serve", "--state", str(self._folder)),
            *self._releases.options,
            *("--port", str(self.port), "--grpc-port", str(self._grpc_port)),
            *("--callers", str(self._folder / "callers"), "--rows-per-second", "1e9"),
            *(("--monitor", str(self._folder / "monitor.yaml")) if watched else ()),
        ]
        (self._folder / "monitor.yaml").write_text(_MONITOR)
        with (
            (self._folder / "service.log").open("wb") as log,
            subprocess.Popen(command, stderr=log) as process,
        ):
            try:
                self._pid = process.pid
                self._wait(process)
                options = [("grpc.enable_http_proxy", 0)]
                with grpc.insecure_channel(f"127.0.0.1:{self._grpc_port}", options=options) as channel:
                    self.call = channel.unary_unary(_METHOD)
                    yield
            finally:
                process.terminate()
                process.wait()

    def cpu_s(self) -> float:
        """Processor time that the service has used (proc(5): fields 14 and 15)."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def put(self, place: int, *, decline: bool = True) -> None:
        """Have one of the packages served; returns once it is."""
        self._put(place, decline=decline)
        while self._in_force() < self._revision:
            time.sleep(0.005)

    def batch(self, rows: int) -> Batch:
        """Applications within the contract's ranges and vocabularies."""
        spec = self._contract.feature_spec(self._features)
        numbers = [self._random.uniform(each.low, each.high, rows) for each in spec.numeric]
        words = [
            Words.of(str(word) for word in self._random.choice(each.vocabulary, rows))
            for each in spec.features
            if not isinstance(each, NumericFeature)
        ]
        return Batch(numbers=np.array(numbers), words=tuple(words))

    def message(self, batch: Batch) -> bytes:
        """A batch as a request of gRPC in binary form."""
        request = pb.ModelInferRequest(model_name=NAME)
        feed = self.loaded.rules.feed(batch)
        for each in self.loaded.rules.inputs:
            column = feed[each.name]
            request.inputs.add(name=each.name, datatype=each.accepted[0], shape=[batch.rows, 1])
            if each.accepted[0] == "BYTES":
                words = [word.encode() for word in column.ravel()]
                data = b"".join(len(word).to_bytes(4, "little") + word for word in words)
            else:
                data = column.astype("<f8").tobytes()
            request.raw_input_contents.append(data)
        return bytes(request.SerializeToString())

    def json(self) -> bytes:
        """One application as the body of a request over HTTP."""
        feed = self.loaded.rules.feed(self.batch(1))
        inputs = [
            {
                "name": each.name,
                "datatype": each.accepted[0],
                "shape": [1, 1],
                "data": feed[each.name].ravel().tolist(),
            }
            for each in self.loaded.rules.inputs
        ]
        return json.dumps({"inputs": inputs}).encode()

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The token of the caller, as gRPC takes it."""
        return (("authorization", f"Bearer {self.token}"),)

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
        connection = HTTPConnection("127.0.0.1", self.port, timeout=10)
        try:
            connection.request("GET", STATUS_PATH, headers={"Authorization": f"Bearer {self.token}"})
            return int(json.loads(connection.getresponse().read())["revision"])
        finally:
            connection.close()
