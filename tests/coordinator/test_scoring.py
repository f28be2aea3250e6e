"""The scoring service speaks the protocol, refuses what is not a valid question, and serves only the expected file."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from fastapi.testclient import TestClient

from coordinator.deploy.scoring.arms import load
from coordinator.deploy.scoring.columns import MAX_ROWS
from coordinator.deploy.scoring.protocol import MAX_BODY_BYTES
from strategies.errors import Refused
from tests.coordinator.scoring_for_tests import (
    CONTRACT,
    INFER,
    contract,
    exportable,
    opened,
    question,
    reference,
    serving,
    tensor,
)


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    with serving(opened()) as made:
        yield made


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
            "outputs": [
                {"name": "probability", "datatype": "FP32", "shape": [-1, 1]},
                {"name": "reasons", "datatype": "BYTES", "shape": [-1, 4]},
            ],
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


RULES = (
    CONTRACT.replace("range: [0, 1000],", "range: [0, 1000], outside: refuse,").replace(
        'vocabulary: ["36", "60"]', 'vocabulary: ["36", "60"], unknown: refuse, missing: refuse'
    )
    + "  accounts: {type: integer, unit: accounts, range: [0, 50], missing: indicator}\n"
    + "  insured: {type: boolean}\n"
)


@pytest.fixture(scope="module")
def strict() -> Iterator[TestClient]:
    agreed = contract(RULES)
    with serving(opened(3, exportable(agreed, tuple(agreed.columns)), agreed)) as made:
        yield made


GOOD = {
    "amount": tensor("amount", "FP64", [1000.0, 0.0]),
    "income": tensor("income", "FP64", [None, 9e9]),
    "term": tensor("term", "BYTES", ["36", "60"]),
    "accounts": tensor("accounts", "INT64", [3, None]),
    "insured": tensor("insured", "BOOL", [True, False]),
}


@pytest.mark.parametrize(
    ("replaced", "sentence"),
    [
        ({}, None),
        ({"accounts": tensor("accounts", "FP64", [3.0, None])}, None),
        ({"insured": tensor("insured", "FP64", [1, 0.0])}, None),
        ({"amount": tensor("amount", "FP64", [0.0, 1000.5])}, "amount is outside [0.0, 1000.0] in row 1; its contract refuses that"),
        ({"accounts": tensor("accounts", "FP64", [0.5, 1])}, "accounts has a fraction in row 0; its contract says integer"),
        ({"accounts": tensor("accounts", "INT64", [1, 1.5])}, "accounts holds no number in row 1"),
        ({"insured": tensor("insured", "FP64", [1, 2])}, "insured is neither 0 nor 1 in row 1; its contract says boolean"),
        ({"insured": tensor("insured", "BOOL", [1, 0])}, "insured holds no BOOL in row 0; use true, false or null"),
        ({"insured": tensor("insured", "BOOL", [True, None])}, "insured is missing in row 1; its contract requires a value"),
        ({"term": tensor("term", "BYTES", ["36", "48"])}, "term has a word in row 1 that is not in its contract's vocabulary"),
        ({"term": tensor("term", "BYTES", ["36", ""])}, "term is missing in row 1; its contract requires a value"),
    ],
)  # fmt: skip
def test_what_a_site_refuses_is_refused(
    strict: TestClient, replaced: dict[str, Any], sentence: str | None
) -> None:
    answer = strict.post(INFER, json={"inputs": list({**GOOD, **replaced}.values())})
    assert answer.status_code == (200 if sentence is None else 400), answer.text
    if sentence is not None:
        assert sentence in answer.json()["error"]


def graph_with(node: onnx.NodeProto, **more: Any) -> bytes:
    """Our export with one operator more."""
    model = onnx.load_from_string(opened().onnx)
    model.graph.node.append(node)
    return model.SerializeToString()


def external() -> bytes:
    model = onnx.load_from_string(opened().onnx)
    tensor = model.graph.initializer[0]
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../../etc/passwd")
    return model.SerializeToString()


def other_opset() -> bytes:
    model = onnx.load_from_string(opened().onnx)
    model.opset_import[0].version = 21
    return model.SerializeToString()


def branch() -> bytes:
    body = onnx.helper.make_graph([], "b", [], [])
    return graph_with(onnx.helper.make_node("Relu", ["amount"], ["x"], then_branch=body))


def without_facts() -> bytes:
    model = onnx.load_from_string(opened().onnx)
    del model.metadata_props[:]
    return model.SerializeToString()


def other_weights() -> bytes:
    model = onnx.load_from_string(opened().onnx)
    (bias,) = [each for each in model.graph.initializer if each.name == "/layer0.bias"]
    bias.CopyFrom(onnx.numpy_helper.from_array(np.full(5, np.nan, dtype=np.float32), "/layer0.bias"))
    return model.SerializeToString()


def doubling() -> bytes:
    """Forty lines that ask for a column as often as there are no bytes in the world."""
    model = onnx.load_from_string(opened().onnx)
    for place in range(40):
        before = f"x{place - 1}" if place else "amount"
        model.graph.node.append(onnx.helper.make_node("Concat", [before, before], [f"x{place}"], axis=1))
    return model.SerializeToString()


def outer_sum() -> bytes:
    """Two short weights whose sum has 10^10 numbers, whatever it says of its own shape."""
    model = onnx.load_from_string(opened().onnx)
    for name, shape in (("row", (1, 100_000)), ("column", (100_000, 1))):
        data = np.zeros(shape, dtype=np.float32)
        model.graph.initializer.append(onnx.numpy_helper.from_array(data, name))
    model.graph.node.append(onnx.helper.make_node("Add", ["row", "column"], ["x"]))
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 1]))
    return model.SerializeToString()


def wide_input() -> bytes:
    model = onnx.load_from_string(opened().onnx)
    model.graph.input.append(onnx.helper.make_tensor_value_info("x", onnx.TensorProto.DOUBLE, ["N", 9]))
    return model.SerializeToString()


@pytest.mark.parametrize(
    ("data", "sentence"),
    [
        (b"not a model", "is not an ONNX model this version can load"),
        (b"", "is not an ONNX model this version can load"),
        (graph_with(onnx.helper.make_node("Loop", ["amount"], ["x"])), "has the operator 'Loop'"),
        (graph_with(onnx.helper.make_node("Relu", ["amount"], ["x"], domain="evil")), "has the operator 'evil.Relu'"),
        (branch(), "has a graph or a tensor within the operator Relu"),
        (external(), "keeps data in another file"),
        (other_opset(), "uses the operator sets"),
        (without_facts(), "was not exported by covenant"),
        (other_weights(), "was not exported by covenant"),
        (b"\0" * (64 * 2**20 + 1), "a model that is served has at most"),
        (doubling(), "columns of one row; at most"),
        (outer_sum(), "makes 'x', which is not so many columns a row"),
        (wide_input(), r"has the input 'x', which is not \[N, 1\]"),
    ],
    ids=["text", "empty", "operator", "domain", "subgraph", "external", "opset", "no facts", "not finite", "huge", "doubling", "outer sum", "wide"],
)  # fmt: skip
def test_a_file_that_is_not_our_export_is_never_loaded(data: bytes, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        load(replace(opened(), onnx=data))


def test_a_model_under_another_contract_is_refused() -> None:
    renamed = contract(CONTRACT.replace("version: 1", "version: 2"))
    looser = contract(CONTRACT.replace("range: [0, 1000],", "range: [0, 1000], missing: indicator,"))
    fewer = contract(CONTRACT.replace("  amount:", "  asked:"))
    wider = contract(CONTRACT.replace('"60"]', '"60", "84"]'))
    for agreed, sentence in (
        (renamed, "was trained under loans@1, and its package has loans@2"),
        (looser, "inputs of other kinds"),
        (fewer, "has an input 'amount' that is no feature of loans@1"),
        (wider, "has 6 encoded columns; loans@1 encodes to 7"),
    ):
        with pytest.raises(Refused, match=sentence):
            load(replace(opened(), contract=agreed))
