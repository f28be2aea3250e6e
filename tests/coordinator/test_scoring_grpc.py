"""The same answers and refusals over gRPC, against a real server process with tokens and TLS."""

from __future__ import annotations

import resource
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest

from coordinator.deploy.scoring.decisions import verify
from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES
from coordinator.deploy.scoring.serving import ServingState, write_state
from coordinator.tls import make_transport_certificates
from protos import inference_pb2 as pb
from simulation.deployment import free_port
from tests.coordinator.scoring_for_tests import INFER, output, package, question, reference, releases_in

SERVICE = "/inference.GRPCInferenceService/"


class Service:
    """A running `covenant score serve`."""

    def __init__(self, folder: Path, at: datetime, *options: str, grpc_port: int, port: int) -> None:
        self.folder, self.port, self.grpc_port = folder, port, grpc_port
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "coordinator.main", "score", "serve", "--state", str(folder)),
                *releases_in(folder, at).options,
                *("--port", str(port), "--grpc-port", str(grpc_port), *options),
            ],
            stderr=(folder / "stderr").open("wb"),
        )

    def call(
        self, method: str, request: Any, answer: Any, channel: grpc.Channel, token: str | None = None
    ) -> Any:
        function = channel.unary_unary(
            SERVICE + method,
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=answer.FromString,
        )
        metadata = [("authorization", f"Bearer {token}")] if token else []
        return function(request, metadata=metadata, timeout=20)

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(20)


def wait_until(ready: Any, service: Service) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert service.process.poll() is None, (service.folder / "stderr").read_text()
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    raise AssertionError((service.folder / "stderr").read_text())


def words(each: Sequence[str]) -> bytes:
    return b"".join(struct.pack("<I", len(word.encode())) + word.encode() for word in each)


def typed(**more: Any) -> Any:
    request = pb.ModelInferRequest(model_name="lending", id="q-7", **more)
    amount = request.inputs.add(name="amount", datatype="FP64", shape=[3, 1])
    amount.contents.fp64_contents.extend([100.0, 250.0, 5000.0])
    income = request.inputs.add(name="income", datatype="FP64", shape=[3, 1])
    income.contents.fp64_contents.extend([50_000.5, float("nan"), 0.0])
    term = request.inputs.add(name="term", datatype="BYTES", shape=[3, 1])
    term.contents.bytes_contents.extend([b"36", b"61", b""])
    return request


def raw() -> Any:
    request = typed()
    for each in request.inputs:
        each.ClearField("contents")
    request.raw_input_contents.extend(
        [
            np.array([100.0, 250.0, 5000.0]).tobytes(),
            np.array([50_000.5, np.nan, 0.0]).tobytes(),
            words(["36", "61", ""]),
        ]
    )
    return request


@pytest.fixture(scope="module")
def service(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[Service, str, grpc.Channel, httpx.Client]]:
    folder, now = tmp_path_factory.mktemp("service"), datetime.now(UTC)
    tls = folder / "tls"
    make_transport_certificates(
        tls, federation="test", hosts=["localhost", "127.0.0.1"], now=datetime.now(UTC)
    )
    token = subprocess.run(
        [
            sys.executable,
            "-m",
            "coordinator.main",
            "score",
            "token",
            "loan-desk",
            "--callers",
            str(folder / "callers"),
        ],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()
    assert token not in (folder / "callers").read_text()
    write_state(folder, ServingState(revision=1, stable=package(folder, 3, at=now), decline_at=0.5))
    options = (
        *("--callers", str(folder / "callers"), "--tls-certificate", str(tls / "superlink.crt")),
        *("--tls-key", str(tls / "superlink.key")),
    )
    service = Service(folder, now, *options, port=free_port(), grpc_port=free_port())
    channel = grpc.secure_channel(
        f"localhost:{service.grpc_port}",
        grpc.ssl_channel_credentials((tls / "ca.crt").read_bytes()),
        options=[("grpc.enable_http_proxy", 0)],
    )
    client = httpx.Client(
        base_url=f"https://localhost:{service.port}", verify=str(tls / "ca.crt"), trust_env=False
    )
    try:
        wait_until(lambda: client.get("/v2/health/ready").is_success, service)
        yield service, token, channel, client
        assert service.end() == 0
        assert verify(folder / "decisions").lines > 0
    finally:
        channel.close()
        client.close()
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()


Running = tuple[Service, str, grpc.Channel, httpx.Client]


@pytest.mark.parametrize("request_", [typed(), raw()], ids=["typed", "raw"])
def test_both_forms_are_scored_with_reasons(service: Running, request_: Any) -> None:
    running, token, channel, _ = service
    answer = running.call("ModelInfer", request_, pb.ModelInferResponse, channel, token)
    assert (answer.model_name, answer.model_version, answer.id) == ("lending", "3", "q-7")
    scores, reasons = answer.outputs
    assert (scores.name, scores.datatype, list(scores.shape)) == ("probability", "FP32", [3, 1])
    assert (reasons.name, reasons.datatype, list(reasons.shape)) == ("reasons", "BYTES", [3, 4])
    if answer.raw_output_contents:
        found = np.frombuffer(answer.raw_output_contents[0], "<f4")
        assert answer.raw_output_contents[1].count(b"\0\0\0\0") >= 4
    else:
        found = np.array(scores.contents.fp32_contents)
        assert len(reasons.contents.bytes_contents) == 12
    np.testing.assert_allclose(found, reference(), rtol=0, atol=1e-5)


def test_https_says_the_same(service: Running) -> None:
    _, token, _, client = service
    answer = client.post(INFER, json=question(), headers={"Authorization": f"Bearer {token}"}).json()
    np.testing.assert_allclose(output(answer)["data"], reference(), rtol=0, atol=1e-5)


def test_health_and_metadata(service: Running) -> None:
    running, token, channel, _ = service
    assert running.call("ServerLive", pb.ServerLiveRequest(), pb.ServerLiveResponse, channel).live
    assert running.call("ServerReady", pb.ServerReadyRequest(), pb.ServerReadyResponse, channel).ready
    assert running.call(
        "ModelReady", pb.ModelReadyRequest(name="lending", version="3"), pb.ModelReadyResponse, channel, token
    ).ready
    server = running.call(
        "ServerMetadata", pb.ServerMetadataRequest(), pb.ServerMetadataResponse, channel, token
    )
    assert server.name == "covenant"
    found = running.call(
        "ModelMetadata", pb.ModelMetadataRequest(name="lending"), pb.ModelMetadataResponse, channel, token
    )
    assert [(each.name, each.datatype) for each in found.inputs] == [
        ("amount", "FP64"),
        ("income", "FP64"),
        ("term", "BYTES"),
    ]
    assert list(found.versions) == ["3"]


def broken(change: Any, *, form: Any = typed) -> Any:
    request = form()
    change(request)
    return request


@pytest.mark.parametrize(
    ("request_", "code", "sentence"),
    [
        (broken(lambda r: setattr(r, "model_name", "other")), "NOT_FOUND", "one model, lending"),
        (broken(lambda r: setattr(r.inputs[0], "datatype", "FP16")), "INVALID_ARGUMENT", "use FP64 or FP32"),
        (broken(lambda r: r.inputs.pop()), "INVALID_ARGUMENT", "term are missing"),
        (broken(lambda r: r.inputs[0].contents.fp64_contents.pop()), "INVALID_ARGUMENT", "holds 2 values"),
        (broken(lambda r: r.outputs.add(name="odds")), "INVALID_ARGUMENT", "no output 'odds'"),
        (broken(lambda r: r.parameters["key"].CopyFrom(pb.InferParameter(int64_param=3))), "INVALID_ARGUMENT", "key is no text"),
        (broken(lambda r: r.inputs[0].contents.fp64_contents.__setitem__(1, float("inf"))), "INVALID_ARGUMENT", "is beyond FP64 in row 1"),
        (broken(lambda r: r.inputs[0].contents.fp64_contents.__setitem__(1, float("nan"))), "INVALID_ARGUMENT", "amount is missing in row 1"),
        (broken(lambda r: r.inputs[2].contents.bytes_contents.__setitem__(0, b"\xff")), "INVALID_ARGUMENT", "not UTF-8"),
        (broken(lambda r: r.raw_input_contents.pop(), form=raw), "INVALID_ARGUMENT", "2 raw contents for 3 inputs"),
        (broken(lambda r: r.raw_input_contents.__setitem__(0, b"123"), form=raw), "INVALID_ARGUMENT", "3 bytes, which are no whole number of FP64"),
        (broken(lambda r: r.raw_input_contents.__setitem__(2, b"\xff\xff\xff\x7f"), form=raw), "INVALID_ARGUMENT", "not 3 words that each follow"),
        (broken(lambda r: r.raw_input_contents.__setitem__(2, bytes(4 * 1_000_000)), form=raw), "INVALID_ARGUMENT", "not 3 words that each follow"),
        (broken(lambda r: r.inputs[0].shape.__setitem__(0, 1_000_000)), "INVALID_ARGUMENT", "with N from 1 to 10000"),
    ],
)  # fmt: skip
def test_bad_requests_are_refused_in_one_sentence(
    service: Running, request_: Any, code: str, sentence: str
) -> None:
    running, token, channel, _ = service
    with pytest.raises(grpc.RpcError) as refused:
        running.call("ModelInfer", request_, pb.ModelInferResponse, channel, token)
    assert (refused.value.code().name, sentence in refused.value.details()) == (code, True), (
        refused.value.details()
    )


def test_a_huge_message_is_refused_before_it_is_parsed_and_the_service_goes_on(service: Running) -> None:
    running, token, channel, client = service
    huge = broken(lambda r: r.raw_input_contents.__setitem__(0, bytes(MAX_BODY_BYTES + 1)), form=raw)
    with pytest.raises(grpc.RpcError) as refused:
        running.call("ModelInfer", huge, pb.ModelInferResponse, channel, token)
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    body = b" " * (100 * 2**20)
    try:
        refusal = client.post(INFER, content=body, headers={"Authorization": f"Bearer {token}"})
        assert refusal.status_code == 413
    except httpx.TransportError:
        pass  # the connection ended while the rest was still being sent
    assert running.call("ModelInfer", typed(), pb.ModelInferResponse, channel, token).id == "q-7"


def test_nobody_is_answered_without_a_known_token(service: Running) -> None:
    running, token, channel, client = service
    for wrong in (None, "x" * 43, token[:-1] + ("A" if token[-1] != "A" else "B")):
        with pytest.raises(grpc.RpcError) as refused:
            running.call("ModelInfer", typed(), pb.ModelInferResponse, channel, wrong)
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
        headers = {} if wrong is None else {"Authorization": f"Bearer {wrong}"}
        for path in ("/v2", "/v2/models/lending", "/metrics", "/covenant/v1/status"):
            assert client.get(path, headers=headers).status_code == 401
        assert client.post(INFER, json=question(), headers=headers).status_code == 401


def test_metrics_and_status_tell_no_value(service: Running) -> None:
    running, token, channel, client = service
    running.call("ModelInfer", typed(), pb.ModelInferResponse, channel, token)
    headers = {"Authorization": f"Bearer {token}"}
    metrics = client.get("/metrics", headers=headers).text
    assert 'covenant_scoring_requests_total{arm="stable",model="lending",version="3"}' in metrics
    assert 'covenant_scoring_latency_seconds_bucket{arm="stable"' in metrics
    status = client.get("/covenant/v1/status", headers=headers).json()
    assert (status["revision"], status["ready"], status["stable"]["version"]) == (1, True, 3)
    assert sum(status["stable"]["scores"]) == status["stable"]["rows"] > 0
    logged = "".join(path.read_text() for path in sorted((running.folder / "decisions").glob("*.jsonl")))
    assert '"caller":"loan-desk"' in logged
    for value in ("50000.5", "5000.0", "q-7", token):
        assert value not in logged
    assert (running.folder / "decisions.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.slow
def test_a_service_whose_log_cannot_grow_answers_nothing_more_and_ends_with_an_error(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    write_state(tmp_path, ServingState(revision=1, stable=package(tmp_path, 3, at=now)))
    service = Service(tmp_path, now, "--no-auth-on-loopback", port=free_port(), grpc_port=free_port())
    told = 0
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{service.port}", trust_env=False) as client:
            wait_until(lambda: client.get("/v2/health/ready").is_success, service)
            resource.prlimit(service.process.pid, resource.RLIMIT_FSIZE, (4096, 4096))
            try:
                while client.post(INFER, json=question()).status_code == 200:
                    told += 1
                    assert told < 100
            except httpx.TransportError:
                pass
            assert service.process.wait(30) == 1
    finally:
        if service.process.poll() is None:
            service.process.kill()
            service.process.wait()
    (path,) = (tmp_path / "decisions").glob("*.jsonl")
    # Every answer that was told has its whole line; the one that did not fit was not told.
    assert path.read_bytes().count(b"\n") == told > 0
