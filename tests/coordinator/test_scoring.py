"""The scoring service speaks the protocol, refuses what is not a valid question, and serves only the expected file."""

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient

from coordinator.deploy.scoring import create_app
from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES, MAX_ROWS
from coordinator.registry.export import Exportable, onnx_bytes
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.features import CategoricalFeature, FeatureSpec, NumericFeature, Scaling
from strategies.ids import Digest
from strategies.models import DenseModel

SPEC = FeatureSpec(
    (
        NumericFeature(name="amount", low=0.0, high=1000.0),
        NumericFeature(name="income", low=0.0, high=1e6, transform="log1p", missing="indicator"),
        CategoricalFeature(name="term", vocabulary=("36", "60")),
    )
)
SCALING = Scaling(mean=(0.4, 0.8), std=(0.2, 0.1))
MODEL = DenseModel(inputs=SPEC.width, hidden=(5,))
VECTOR = np.random.default_rng(3).normal(0.0, 0.6, MODEL.size)
INFER = "/v2/models/lending/infer"


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = Exportable(
        features=SPEC,
        scaling=SCALING,
        model=MODEL,
        vector=VECTOR,
        plan_digest=Digest("ab" * 32),
        contract="loans@1",
    )
    path = tmp_path_factory.mktemp("models") / "model.onnx"
    path.write_bytes(onnx_bytes(source))
    return path


@pytest.fixture(scope="module")
def client(model_file: Path) -> Iterator[TestClient]:
    app = create_app(model_file, "lending", 3, expected_digest=sha256_hex(model_file.read_bytes()))
    with TestClient(app) as opened:
        yield opened


def tensor(name: str, datatype: str, data: list[Any], shape: list[int] | None = None) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape or [len(data), 1], "data": data}


def question(**replaced: dict[str, Any] | None) -> dict[str, Any]:
    """Three rows; an input is replaced by name, or left out with None."""
    inputs: dict[str, dict[str, Any] | None] = {
        "amount": tensor("amount", "FP64", [100.0, 250, 5000.0]),
        "income": tensor("income", "FP64", [50_000.5, None, 0]),
        "term": tensor("term", "BYTES", ["36", "61", None]),
        **replaced,
    }
    return {"inputs": [each for each in inputs.values() if each is not None]}


def reference() -> np.ndarray:
    table = {
        "amount": np.array([100.0, 250.0, 5000.0]),
        "income": np.array([50_000.5, np.nan, 0.0]),
        "term": np.array(["36", "61", None], dtype=object),
    }
    return MODEL.probabilities(VECTOR, SPEC.encode(table, SCALING))


def test_scores_are_those_of_the_model(client: TestClient) -> None:
    answer = client.post(INFER, json={"id": "q-7", **question()})
    assert answer.status_code == 200
    body = answer.json()
    (output,) = body["outputs"]
    assert (body["model_name"], body["model_version"], body["id"]) == ("lending", "3", "q-7")
    assert (output["name"], output["datatype"], output["shape"]) == ("probability", "FP32", [3, 1])
    np.testing.assert_allclose(output["data"], reference(), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    "replaced",
    [
        {"amount": tensor("amount", "FP64", [[100.0], [250], [5000.0]], [3, 1])},
        {"amount": tensor("amount", "FP32", [100.0, 250, 5000.0])},
        {"term": tensor("term", "BYTES", ["36", "61", ""])},
        {"term": tensor("term", "BYTES", [["36"], ["61"], [None]], [3, 1])},
    ],
    ids=["nested numbers", "FP32", "empty word", "nested words"],
)
def test_the_protocol_allows_several_spellings_of_one_question(
    client: TestClient, replaced: dict[str, Any]
) -> None:
    body = client.post("/v2/models/lending/versions/3/infer", json=question(**replaced)).json()
    np.testing.assert_allclose(body["outputs"][0]["data"], reference(), rtol=0.0, atol=1e-5)


def test_optional_members_of_the_protocol_are_accepted(client: TestClient) -> None:
    asked = {
        "parameters": {"trace": "x"},
        "outputs": [{"name": "probability", "parameters": {}}],
        **question(),
    }
    assert client.post(INFER, json=asked).status_code == 200


def test_health_and_metadata(client: TestClient) -> None:
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    server = client.get("/v2").json()
    assert server.keys() == {"name", "version", "extensions"}
    for model in ("/v2/models/lending", "/v2/models/lending/versions/3"):
        assert client.get(f"{model}/ready").json() == {"name": "lending", "ready": True}
        assert client.get(model).json() == {
            "name": "lending",
            "versions": ["3"],
            "platform": "onnx_onnxv1",
            "inputs": [
                {"name": "amount", "datatype": "FP64", "shape": [-1, 1]},
                {"name": "income", "datatype": "FP64", "shape": [-1, 1]},
                {"name": "term", "datatype": "BYTES", "shape": [-1, 1]},
            ],
            "outputs": [{"name": "probability", "datatype": "FP32", "shape": [-1, 1]}],
        }


BAD = {
    "unknown input": (
        question(amount=tensor("amuont", "FP64", [1, 2, 3])),
        "no input 'amuont'; the nearest is amount",
    ),
    "missing inputs": (
        question(amount=None, term=None),
        "the inputs amount, term are missing; the model needs all 3",
    ),
    "input given twice": (
        {"inputs": [*question()["inputs"], tensor("term", "BYTES", ["36"] * 3)]},
        "the input term is given twice",
    ),
    "text for a number": (question(amount=tensor("amount", "BYTES", ["1", "2", "3"])), "use FP64 or FP32"),
    "number for text": (
        question(term=tensor("term", "FP64", [36, 60, 36])),
        "has the datatype 'FP64'; use BYTES",
    ),
    "unknown datatype": (question(amount=tensor("amount", "INT8", [1, 2, 3])), "has the datatype 'INT8'"),
    "word in a number": (question(amount=tensor("amount", "FP64", [1, "2", 3])), "holds no number in row 1"),
    "truth in a number": (
        question(amount=tensor("amount", "FP64", [True, 2, 3])),
        "holds no number in row 0",
    ),
    "number in a text": (question(term=tensor("term", "BYTES", ["36", "60", 36])), "holds no text in row 2"),
    "missing but required": (
        question(amount=tensor("amount", "FP64", [1.0, 2.0, None])),
        "the input amount is missing in row 2; its contract requires a value",
    ),
    "beyond float64": (question(amount=tensor("amount", "FP64", [10**400, 2, 3])), "beyond"),
    "beyond float32": (question(amount=tensor("amount", "FP32", [1e39, 2, 3])), "is beyond FP32 in row 0"),
    "flat shape": (question(amount=tensor("amount", "FP64", [1, 2, 3], [3])), "shape [3]; use [N, 1]"),
    "wide shape": (question(amount=tensor("amount", "FP64", [1, 2, 3], [1, 3])), "shape [1, 3]; use [N, 1]"),
    "no rows": (question(amount=tensor("amount", "FP64", [], [0, 1])), "with N from 1 to 10000"),
    "negative rows": (question(amount=tensor("amount", "FP64", [], [-1, 1])), "with N from 1 to 10000"),
    "rows that differ": (
        question(term=tensor("term", "BYTES", ["36", "60"])),
        "the input term has the shape [2, 1]; every input of this request is [3, 1]",
    ),
    "fewer values than rows": (
        question(amount=tensor("amount", "FP64", [1, 2], [3, 1])),
        "holds 2 values; its shape [3, 1] needs 3",
    ),
    "mixed nesting": (
        question(amount=tensor("amount", "FP64", [[1], 2, 3], [3, 1])),
        "neither flat nor rows",
    ),
    "nested too wide": (
        question(amount=tensor("amount", "FP64", [[1, 2], [3]], [3, 1])),
        "neither flat nor rows",
    ),
    "nested too deep": (
        question(amount=tensor("amount", "FP64", [[[1]], [[2]], [[3]]], [3, 1])),
        "holds no number in row 0",
    ),
    "too many rows": (
        question(amount=tensor("amount", "FP64", [1.0] * (MAX_ROWS + 1))),
        "with N from 1 to 10000",
    ),
    "unknown output": ({**question(), "outputs": [{"name": "odds"}]}, "no output 'odds'"),
    "no inputs": ({"inputs": []}, "the inputs amount, income, term are missing"),
    "no inputs key": ({}, "at inputs: Field required"),
    "unknown key": ({**question(), "inpust": 1}, "at inpust: Extra inputs are not permitted"),
    "not an object": ([1], "is not an inference request"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_question_is_refused_in_one_sentence(client: TestClient, name: str) -> None:
    asked, sentence = BAD[name]
    answer = client.post(INFER, content=json.dumps(asked))
    assert answer.status_code == 400
    assert answer.json().keys() == {"error"}
    assert sentence in answer.json()["error"]
    assert "\n" not in answer.json()["error"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"inputs": [{"name": "\\ud800"}]}',
        b'{"inputs": [{"name": "amount", "shape": [1e400, 1], "datatype": "FP64", "data": []}]}',
    ],
    ids=["empty", "cut off", "not UTF-8", "nested endlessly", "half a character", "infinite shape"],
)
def test_bytes_that_are_not_a_question_are_refused(client: TestClient, body: bytes) -> None:
    answer = client.post(INFER, content=body)
    assert answer.status_code == 400
    assert "is not an inference request" in answer.json()["error"]


@pytest.mark.parametrize("literal", ["Infinity", "-Infinity", "1e999"])
def test_infinite_numbers_are_not_scored(client: TestClient, literal: str) -> None:
    body = json.dumps(question()).replace("100.0", literal, 1)
    assert client.post(INFER, content=body).status_code == 400


def test_a_nan_that_some_writers_put_into_json_is_a_missing_value(client: TestClient) -> None:
    nan, null = (
        question(income=tensor("income", "FP64", [1.0, missing, 2.0])) for missing in (float("nan"), None)
    )
    answers = [client.post(INFER, content=json.dumps(asked)).json()["outputs"] for asked in (nan, null)]
    assert answers[0] == answers[1]


def test_words_outside_the_vocabulary_are_scored_as_other_whatever_they_are(client: TestClient) -> None:
    odd = question(term=tensor("term", "BYTES", ["\0", "36\0", "x" * 100_000]))
    other = question(term=tensor("term", "BYTES", ["", "", ""]))
    scores = [client.post(INFER, json=asked).json()["outputs"][0]["data"] for asked in (odd, other)]
    assert scores[0] == scores[1]


def test_the_largest_batch_is_scored(client: TestClient) -> None:
    asked = question(
        amount=tensor("amount", "FP64", [1.0] * MAX_ROWS),
        income=tensor("income", "FP64", [None] * MAX_ROWS),
        term=tensor("term", "BYTES", ["60"] * MAX_ROWS),
    )
    assert client.post(INFER, json=asked).json()["outputs"][0]["shape"] == [MAX_ROWS, 1]


def test_a_body_beyond_the_bound_is_refused_even_without_a_length(client: TestClient) -> None:
    def endless() -> Iterator[bytes]:
        for _ in range(9):
            yield b" " * 2**20

    for content in (b" " * (MAX_BODY_BYTES + 1), endless()):
        answer = client.post(INFER, content=content)
        assert answer.status_code == 413
        assert "8388608 bytes" in answer.json()["error"]


def test_values_of_a_person_are_never_repeated(client: TestClient) -> None:
    for asked in (
        question(amount=tensor("amount", "FP64", ["Jane Roe", 2, 3])),
        question(term=tensor("term", "BYTES", [{"Jane Roe": 1}, "60", "60"])),
        {"inputs": "Jane Roe"},
    ):
        answer = client.post(INFER, json=asked)
        assert answer.status_code == 400
        assert "Jane" not in answer.text


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/v2/models/other/infer", 404),
        ("POST", "/v2/models/lending/versions/4/infer", 404),
        ("GET", "/v2/models/other", 404),
        ("GET", "/v2/models/lending/versions/4/ready", 404),
        ("GET", INFER, 405),
        ("GET", "/", 404),
        ("GET", "/docs", 404),
        ("GET", "/redoc", 404),
        ("GET", "/openapi.json", 404),
    ],
)
def test_what_is_not_served_says_so(client: TestClient, method: str, path: str, status: int) -> None:
    answer = client.request(method, path)
    assert answer.status_code == status
    assert answer.json().keys() == {"error"}


def test_only_the_expected_file_is_loaded(model_file: Path, tmp_path: Path) -> None:
    digest = sha256_hex(model_file.read_bytes())
    altered = tmp_path / "altered.onnx"
    altered.write_bytes(model_file.read_bytes()[:-1] + b"\0")
    with pytest.raises(Refused, match=f"not the expected {digest}; fetch the registered file again"):
        create_app(altered, "lending", 3, expected_digest=digest)
    with pytest.raises(UsageError, match="cannot be read"):
        create_app(tmp_path / "absent.onnx", "lending", 3, expected_digest=digest)


def test_a_file_that_is_not_our_export_is_refused(tmp_path: Path) -> None:
    identity = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["x"], ["y"])],
            "g",
            [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])],
            [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])],
        ),
        ir_version=9,
        opset_imports=[onnx.helper.make_opsetid("", 19)],
    )
    cases = {
        b"not a model": "is not an ONNX model this version can load",
        b"": "is not an ONNX model this version can load",
        identity.SerializeToString(): "was not exported by covenant",
    }
    for data, sentence in cases.items():
        path = tmp_path / "model.onnx"
        path.write_bytes(data)
        with pytest.raises(Refused, match=sentence):
            create_app(path, "lending", 3, expected_digest=sha256_hex(data))


SERVE = """
import sys
from pathlib import Path
from coordinator.deploy.scoring import serve
serve(Path(sys.argv[1]), "lending", 3, expected_digest=sys.argv[2], port=int(sys.argv[3]))
"""


def test_the_real_server_listens_on_loopback_and_scores(model_file: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    digest = sha256_hex(model_file.read_bytes())
    server = subprocess.Popen([sys.executable, "-c", SERVE, str(model_file), digest, str(port)])
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            wait_until_ready(client, server)
            answer = client.post(INFER, json=question())
            np.testing.assert_allclose(answer.json()["outputs"][0]["data"], reference(), rtol=0.0, atol=1e-5)
            assert "server" not in answer.headers
            assert client.post(INFER, content=b" " * (MAX_BODY_BYTES + 1)).status_code == 413
        assert listening_addresses(port) == {"0100007F"}
    finally:
        server.terminate()
        server.wait(timeout=20)


def wait_until_ready(client: httpx.Client, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert server.poll() is None, "the server ended early"
        try:
            if client.get("/v2/health/ready").status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.05)
    pytest.fail("the server did not become ready")


def listening_addresses(port: int) -> set[str]:
    """Local addresses that listen on `port`, as /proc/net/tcp writes them: 0100007F is 127.0.0.1."""
    listening, found = "0A", set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, _, state, *_ = line.split()
        address, _, hexadecimal = local.partition(":")
        if state == listening and int(hexadecimal, 16) == port:
            found.add(address)
    return found
