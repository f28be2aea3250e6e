"""Whatever a real service is sent over HTTP and gRPC, or is given or carried to load, is refused in words, and the model that serves answers as before."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import onnx
import pytest

from coordinator.deploy.pieces import read_pieces, write_bundle
from coordinator.deploy.scoring.columns import MAX_ROWS
from coordinator.deploy.scoring.serving import PackageRef, ServingState, write_state
from coordinator.deploy.targets.edge import Acknowledgement
from protos import inference_pb2 as pb
from protos.keys import SigningKey
from simulation.bench.releases import TARGET, Releases
from simulation.deployment import free_port
from tests.coordinator.cli_for_tests import Command, commands_in
from tests.coordinator.scoring_for_tests import (
    CONTRACT,
    INFER,
    contract,
    exportable,
    files,
    output,
    question,
    tensor,
)
from tests.coordinator.test_scoring_packages import HOUR, running, until

pytestmark = pytest.mark.slow

AGREED = contract(CONTRACT.replace("range: [0, 1000],", "range: [0, 1000], outside: refuse,"))
ROWS = {
    "amount": tensor("amount", "FP64", [100.0, 250.0, 500.0]),
    "income": tensor("income", "FP64", [50_000.5, None, 0.0]),
}
MILLION = 1_000_000
HUGE = 100 * 2**20
METHOD = "/inference.GRPCInferenceService/ModelInfer"


def asked(**replaced: Any) -> dict[str, Any]:
    return question(**{**ROWS, **replaced})


def message(**replaced: dict[str, Any] | None) -> Any:
    """The same question as a message of gRPC."""
    request = pb.ModelInferRequest(model_name="lending")
    for each in asked(**replaced)["inputs"]:
        added = request.inputs.add(name=each["name"], datatype=each["datatype"], shape=each["shape"])
        if each["datatype"] == "BYTES":
            added.contents.bytes_contents.extend((word or "").encode() for word in each["data"])
        else:
            added.contents.fp64_contents.extend(
                float("nan") if value is None else value for value in each["data"]
            )
    return request


def in_binary(rows: int) -> Any:
    """A question of so many rows, in binary form."""
    request = message()
    for each in request.inputs:
        each.ClearField("contents")
        each.shape[0] = rows
    request.raw_input_contents.extend(
        [np.zeros(rows).tobytes(), b"", struct.pack("<I", 0) * min(rows, MAX_ROWS)]
    )
    return request


@dataclass(frozen=True)
class Place:
    """A machine whose service has version 5 in force."""

    folder: Path
    releases: Releases
    http: httpx.Client
    channel: grpc.Channel

    @property
    def state(self) -> Path:
        return self.folder / "state"

    def call(self, request: Any) -> Any:
        function = self.channel.unary_unary(
            METHOD,
            request_serializer=lambda each: each.SerializeToString(),
            response_deserializer=pb.ModelInferResponse.FromString,
        )
        return function(request, timeout=30)

    def answers(self) -> list[tuple[str, list[float]]]:
        """Version and scores over both transports, and that nothing else is in force."""
        status = self.status()
        assert (status["ready"], status["stable"]["version"]) == (True, 5)
        over_http = self.http.post(INFER, json=asked()).json()
        over_grpc = self.call(message())
        return [
            (over_http["model_version"], output(over_http)["data"]),
            (over_grpc.model_version, list(over_grpc.outputs[0].contents.fp32_contents)),
        ]

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = self.http.get("/covenant/v1/status").json()
        return found

    def made(self, version: int, changed: Mapping[str, bytes] | None = None, **more: Any) -> PackageRef:
        source = files(exportable(AGREED, seed=version), AGREED)
        return self.releases.package("lending", version, {**source, **(changed or {})}, **more)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder, port = tmp_path_factory.mktemp("place"), free_port()
    (folder / "state").mkdir()
    releases = Releases.begun(folder, datetime.now(UTC) - HOUR)
    options = ("--state", str(folder / "state"), *releases.options, "--no-auth-on-loopback")
    with (
        running(folder, *options, "--grpc-port", str(port)) as http,
        closing(
            grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.enable_http_proxy", 0)])
        ) as channel,
    ):
        place = Place(folder, releases, http, channel)
        write_state(place.state, ServingState(revision=5, stable=place.made(5, floor=5), decline_at=0.5))
        until(lambda: http.get("/v2/health/ready").is_success)
        yield place


@pytest.fixture(autouse=True)
def the_model_that_serves_answers_as_before(place: Place) -> Iterator[None]:
    before = place.answers()
    yield
    assert place.answers() == before


def rows_of(count: int) -> dict[str, Any]:
    numbers = {name: tensor(name, "FP64", [1] * count) for name in ("amount", "income")}
    return asked(**numbers, term=tensor("term", "BYTES", [""] * count))


REQUESTS: dict[str, tuple[Callable[[], Any], int, str]] = {
    "100 MB": (lambda: b" " * HUGE, 413, "more than 8388608 bytes; send fewer rows"),
    "100 MB that parse": (
        lambda: json.dumps({"id": "x" * HUGE, **asked()}).encode(),
        413,
        "more than 8388608 bytes; send fewer rows",
    ),
    "a million rows": (lambda: rows_of(MILLION), 400, "shape [1000000, 1]; use [N, 1] with N from 1 to 10000"),
    "a million rows by its shape": (
        lambda: asked(amount={**ROWS["amount"], "shape": [MILLION, 1]}),
        400,
        "shape [1000000, 1]; use [N, 1] with N from 1 to 10000",
    ),
    "a million values for three rows": (
        lambda: asked(amount={**ROWS["amount"], "data": [1] * MILLION}),
        400,
        "holds 1000000 values; its shape [3, 1] needs 3",
    ),
    "NaN where a value is required": (
        lambda: asked(amount=tensor("amount", "FP64", [1.0, float("nan"), 2.0])),
        400,
        "the input amount is missing in row 1; its contract requires a value",
    ),
    "infinite": (
        lambda: asked(income=tensor("income", "FP64", [1.0, float("inf"), 2.0])),
        400,
        "the input income is beyond FP64 in row 1",
    ),
    "out of range": (
        lambda: asked(amount=tensor("amount", "FP64", [1.0, 2.0, 1000.5])),
        400,
        "the input amount is outside [0.0, 1000.0] in row 2; its contract refuses that",
    ),
    "a missing feature": (lambda: asked(income=None), 400, "the inputs income are missing"),
    "an unknown feature": (
        lambda: asked(age=tensor("age", "FP64", [1.0, 2.0, 3.0])),
        400,
        "there is no input 'age'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REQUESTS)
def test_a_bad_request_over_http(place: Place, name: str) -> None:
    make, status, sentence = REQUESTS[name]
    body = make()
    if not isinstance(body, bytes):
        body = json.dumps(body, separators=(",", ":")).encode()
    answer = place.http.post(INFER, content=body)
    assert (answer.status_code, sentence in answer.json()["error"]) == (status, True), answer.text


CALLS: dict[str, tuple[Callable[[], Any], str, str]] = {
    "100 MB": (
        lambda: pb.ModelInferRequest(model_name="lending", raw_input_contents=[bytes(HUGE)]),
        "RESOURCE_EXHAUSTED",
        "larger than max",
    ),
    "a million rows": (
        lambda: in_binary(MILLION),
        "INVALID_ARGUMENT",
        "shape [1000000, 1]; use [N, 1] with N from 1 to 10000",
    ),
    **{
        name: (lambda make=make: message(**_replaced(make())), "INVALID_ARGUMENT", sentence)
        for name, (make, _, sentence) in REQUESTS.items()
        if name not in {"100 MB", "100 MB that parse", "a million rows"}
    },
}  # fmt: skip


def _replaced(body: dict[str, Any]) -> dict[str, Any]:
    given = {each["name"]: each for each in body["inputs"]}
    return {name: given.get(name) for name in ("amount", "income", "term", *given)}


@pytest.mark.parametrize("name", CALLS)
def test_a_bad_request_over_grpc(place: Place, name: str) -> None:
    make, code, sentence = CALLS[name]
    with pytest.raises(grpc.RpcError) as refused:
        place.call(make())
    assert (refused.value.code().name, sentence in refused.value.details()) == (code, True), (
        refused.value.details()
    )


def of_another(place: Place, version: int) -> PackageRef:
    """Files that nobody approved, with the approvals of version 5."""
    made, running = place.made(version, approvals=0), read_pieces(_in_force(place))
    (Path(made.package) / "approvals.json").write_bytes(running["approvals.json"])
    return made


def _in_force(place: Place) -> Path:
    return Path(json.loads((place.state / "serving.json").read_text())["stable"]["package"])


def tampered(place: Place, version: int) -> PackageRef:
    made = place.made(version)
    path = Path(made.package) / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    return made


def unknown_operator(place: Place, version: int) -> PackageRef:
    """Approved and released, and nothing that an export holds."""
    model = onnx.load_from_string(files(exportable(AGREED), AGREED)["model.onnx"])
    model.graph.node.append(onnx.helper.make_node("Loop", ["amount"], ["x"]))
    return place.made(version, {"model.onnx": model.SerializeToString()})


def expired(place: Place, version: int) -> PackageRef:
    return place.made(version, lasts=timedelta(minutes=30))


def older(place: Place, version: int) -> PackageRef:
    return place.made(version - 10)


PACKAGES: dict[str, tuple[Callable[[Place, int], PackageRef], int, str]] = {
    "nobody approved it": (lambda place, version: place.made(version, approvals=0), 11, "nobody has approved"),
    "one officer approved it": (
        lambda place, version: place.made(version, approvals=1),
        12,
        "0 of the 1 approvals as model_risk",
    ),
    "the approvals are another's": (of_another, 13, "approv"),
    "tampered": (tampered, 14, "has the digest"),
    "expired": (expired, 15, "was good until"),
    "older": (older, 14, "count no more"),
    "an unknown operator": (unknown_operator, 17, "has the operator 'Loop'"),
}  # fmt: skip


@pytest.mark.parametrize("name", PACKAGES)
def test_a_bad_package_in_the_state(place: Place, name: str) -> None:
    make, version, why = PACKAGES[name]
    before, revision = place.status()["revision"], 100 + list(PACKAGES).index(name)
    in_force = (place.state / "serving.json").read_bytes()
    write_state(place.state, ServingState(revision=revision, stable=make(place, version)))
    until(lambda: (place.status()["refused"] or {}).get("revision") == revision)
    status = place.status()
    assert why in status["refused"]["why"]
    assert status["revision"] == before
    place.answers()
    (place.state / "serving.json").write_bytes(in_force)


@pytest.mark.parametrize("name", PACKAGES)
def test_a_bad_bundle_that_was_carried_there(
    place: Place,
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    make, version, why = PACKAGES[name]
    covenant: Command = commands_in(tmp_path, monkeypatch, capsys)
    SigningKey.generate().save(tmp_path / "edge.key")
    bundle = tmp_path / "one.covenant"
    write_bundle(bundle, read_pieces(Path(make(place, version).package)))
    before = place.status()["revision"]
    code, _, told = covenant(
        *("deploy", "accept", str(bundle), *place.releases.options, "--state", str(place.state)),
        *("--url", str(place.http.base_url), "--key", "edge.key", "--out", str(tmp_path)),
    )
    assert (code, why in " ".join(told.split())) == (3, True), told
    (said,) = tmp_path.glob(f"{TARGET}-*.ack*")
    refused = Acknowledgement.from_canonical(said.read_bytes().rstrip())
    assert (refused.runs, why in (refused.refused or "")) == (False, True)
    assert place.status()["revision"] == before
