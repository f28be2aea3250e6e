"""An export computes what the model computes, from raw applications, and is the same bytes every time."""

import json
import struct
import subprocess
import sys
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save

from coordinator.registry.export import (
    OPSET,
    Exportable,
    onnx_bytes,
    onnx_pieces,
    safetensors_bytes,
    safetensors_pieces,
)
from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Columns, FeatureSpec, NumericFeature, Scaling
from strategies.ids import Digest
from strategies.models import DenseModel

TOLERANCE = 1e-5
FEATURES = FeatureSpec(
    (
        NumericFeature(name="amount", low=0.0, high=50_000.0),
        CategoricalFeature(name="term", vocabulary=("36 months", "60 months")),
        NumericFeature(name="income", low=-10.0, high=1e7, transform="log1p", missing="indicator"),
        CategoricalFeature(name="état", vocabulary=("Île-de-France", "a'b\"c", " ", "3")),
        NumericFeature(name="constant", low=3.0, high=5.0, transform="log1p"),
        NumericFeature(name="rate", low=-1.0, high=1.0, missing="indicator"),
    )
)
SCALING = Scaling(mean=(0.31, 0.77, 0.5, 0.52), std=(0.2, 0.08, 0.0, 0.29))
TABLE: Columns = {
    "amount": np.array([0.0, 50_000.0, 12_345.678, -5.0, 1e300, np.inf, 1e-300]),
    "term": np.array(
        ["36 months", "60 months", "", None, "61 months", "60 MONTHS", "36 months"], dtype=object
    ),
    "income": np.array([np.nan, -10.0, 1e7, 52_000.0, -np.inf, np.nan, -9.999999]),
    "état": np.array(["Île-de-France", "a'b\"c", " ", "3", "  ", "ile", ""], dtype=object),
    "constant": np.array([3.0, 5.0, 4.0, 4.000001, 3.5, 3.0, 5.0]),
    "rate": np.array([0.0, np.nan, -0.0, 1.0, -1.0, 0.25, np.nan]),
}


def exportable(
    hidden: tuple[int, ...] = (), spec: FeatureSpec = FEATURES, scaling: Scaling = SCALING
) -> Exportable:
    model = DenseModel(inputs=spec.width, hidden=hidden)
    vector = np.random.default_rng(5).normal(0.0, 0.5, model.size)
    return Exportable(
        features=spec,
        scaling=scaling,
        model=model,
        vector=vector,
        plan_digest=Digest("ab" * 32),
        contract="loans@1",
    )


def scored(source: Exportable, table: Columns) -> np.ndarray:
    """What onnxruntime answers; a missing word travels as the empty string."""
    session = onnxruntime.InferenceSession(onnx_bytes(source))
    feeds = {
        name: (np.array([word or "" for word in column], dtype=object) if column.dtype == object else column)[
            :, None
        ]
        for name, column in table.items()
    }
    (probability,) = session.run(["probability"], feeds)
    assert probability.dtype == np.float32
    assert probability.shape == (
        len(table["amount"]) if "amount" in table else len(next(iter(table.values()))),
        1,
    )
    return np.asarray(probability[:, 0], dtype=np.float64)


def reference(source: Exportable, table: Columns) -> np.ndarray:
    return source.model.probabilities(source.vector, source.features.encode(table, source.scaling))


@pytest.mark.parametrize("hidden", [(), (1,), (16, 8), (64, 32, 16)])
def test_onnx_scores_raw_applications_like_the_model(hidden: tuple[int, ...]) -> None:
    source = exportable(hidden, scaling=replace(SCALING, std=(0.2, 0.08, 0.3, 0.29)))
    np.testing.assert_allclose(scored(source, TABLE), reference(source, TABLE), rtol=0.0, atol=TOLERANCE)


def test_onnx_agrees_on_a_column_that_was_constant_in_training() -> None:
    """Its deviation is at the floor of 1e-6, so scores saturate; float32 has to round as the encoder does."""
    source = exportable()
    np.testing.assert_allclose(scored(source, TABLE), reference(source, TABLE), rtol=0.0, atol=TOLERANCE)


numbers = st.floats(min_value=-1e6, max_value=1e6) | st.just(float("nan"))
words = st.sampled_from(["a", "b", "c", "", "A", "é"]) | st.text(max_size=5).filter(
    lambda word: "\0" not in word
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    data=st.data(),
    low=st.floats(-1000.0, 900.0),
    span=st.floats(1.0, 1e5),
    transform=st.sampled_from(["none", "log1p"]),
    vocabulary=st.lists(words.filter(bool), min_size=1, max_size=4, unique=True),
    mean=st.floats(-0.5, 1.5),
    std=st.floats(0.01, 2.0),
)
def test_onnx_agrees_for_any_feature(data, low, span, transform, vocabulary, mean, std) -> None:
    spec = FeatureSpec(
        (
            NumericFeature(name="x", low=low, high=low + span, transform=transform, missing="indicator"),
            CategoricalFeature(name="c", vocabulary=tuple(vocabulary)),
        )
    )
    source = exportable((4,), spec, Scaling(mean=(mean,), std=(std,)))
    rows = data.draw(st.integers(1, 6))
    table = {
        "x": np.array(data.draw(st.lists(numbers, min_size=rows, max_size=rows))),
        "c": np.array(
            data.draw(st.lists(words | st.sampled_from(vocabulary), min_size=rows, max_size=rows)),
            dtype=object,
        ),
    }
    np.testing.assert_allclose(scored(source, table), reference(source, table), rtol=0.0, atol=TOLERANCE)


@pytest.mark.parametrize(
    "spec",
    [
        FeatureSpec((NumericFeature(name="x", low=0.0, high=1.0),)),
        FeatureSpec((CategoricalFeature(name="c", vocabulary=("only",)),)),
    ],
    ids=["one number", "one category"],
)
def test_onnx_of_a_single_feature(spec: FeatureSpec) -> None:
    source = exportable(spec=spec, scaling=Scaling.identity(len(spec.numeric)))
    table = {"x": np.array([0.3])} if spec.numeric else {"c": np.array(["only", "other"], dtype=object)}
    np.testing.assert_allclose(scored(source, table), reference(source, table), rtol=0.0, atol=TOLERANCE)


def test_onnx_declares_its_inputs_opset_and_origin() -> None:
    model = onnx.load_from_string(onnx_bytes(exportable()))
    kinds = {each.name: each.type.tensor_type.elem_type for each in model.graph.input}
    assert list(kinds) == [feature.name for feature in FEATURES.features]
    assert kinds["amount"] == onnx.TensorProto.DOUBLE
    assert kinds["term"] == onnx.TensorProto.STRING
    assert [(each.domain, each.version) for each in model.opset_import] == [("", OPSET)]
    facts = {each.key: each.value for each in model.metadata_props}
    assert facts["covenant.plan_digest"] == "ab" * 32
    assert facts["covenant.contract"] == "loans@1"
    assert json.loads(facts["covenant.scaling"]) == {"mean": list(SCALING.mean), "std": list(SCALING.std)}
    assert json.loads(facts["covenant.required"]) == ["amount", "constant"]


def test_safetensors_hold_the_float32_parameters_and_their_origin() -> None:
    source = exportable((3,))
    data = safetensors_bytes(source)
    tensors = load(data)
    expected = source.model.named(source.vector)
    assert tensors.keys() == expected.keys()
    for name, tensor in expected.items():
        np.testing.assert_array_equal(tensors[name], tensor)
    (length,) = struct.unpack_from("<Q", data)
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    assert header["__metadata__"] == source.metadata


def test_both_files_are_those_that_their_libraries_write() -> None:
    source = exportable((300, 2))
    data = onnx_bytes(source)
    model = onnx.load_from_string(data)
    assert data == model.SerializeToString(deterministic=True)
    onnx.checker.check_model(model, full_check=True)
    for tensor in model.graph.initializer[-2 * len(source.model.layers) :]:
        expected = onnx.numpy_helper.from_array(source.tensors[tensor.name.removeprefix("/")], tensor.name)
        assert tensor == expected
    theirs, ours = save(dict(source.tensors), metadata=source.metadata), safetensors_bytes(source)
    (length,) = struct.unpack_from("<Q", theirs)
    assert ours[: 8 + length].startswith(theirs[:8])
    assert json.loads(ours[8 : 8 + length]) == json.loads(theirs[8 : 8 + length])
    assert ours[8 + length :] == theirs[8 + length :]


def test_neither_file_copies_the_weights() -> None:
    source = exportable((300, 200))
    weight = source.tensors["layer1.weight"]
    for file in (onnx_pieces(source), safetensors_pieces(source)):
        views = [np.frombuffer(part, dtype=np.uint8) for part in file.parts if len(part) == weight.nbytes]
        assert any(np.shares_memory(view, weight) for view in views)


def test_a_graph_that_onnx_finds_wrong_is_not_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where only the shape of a weight is: it is checked as an input of the graph."""
    source = exportable((3,))
    wrong = {name: tensor.T if name == "layer0.weight" else tensor for name, tensor in source.tensors.items()}
    monkeypatch.setitem(source.__dict__, "tensors", wrong)
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx_pieces(source)


SCRIPT = """
from tests.coordinator.test_export import exportable
from coordinator.registry.export import onnx_bytes, safetensors_bytes
from strategies.encoding import sha256_hex
print(sha256_hex(safetensors_bytes(exportable((3,)))), sha256_hex(onnx_bytes(exportable((3,)))))
"""


def test_exports_are_the_same_bytes_in_every_process() -> None:
    """Also within one: safetensors' own writer shuffles metadata from call to call."""
    assert len({safetensors_bytes(exportable((3,))) for _ in range(10)}) == 1
    printed = {
        subprocess.run([sys.executable, "-c", SCRIPT], check=True, capture_output=True, text=True).stdout
        for _ in range(2)
    }
    assert len(printed) == 1


@pytest.mark.parametrize("name", ["probability", "/0/IsNaN"])
def test_a_feature_may_not_take_a_name_of_the_graph(name: str) -> None:
    spec = FeatureSpec((NumericFeature(name=name, low=0.0, high=1.0),))
    with pytest.raises(UsageError, match="rename the column"):
        onnx_bytes(exportable(spec=spec, scaling=Scaling.identity(1)))


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(UsageError, match=r"takes 3 inputs; its features encode to \d+"):
        replace(exportable(), model=DenseModel(inputs=3))
    with pytest.raises(UsageError, match="the scaling is for 1 numeric features; there are 4"):
        replace(exportable(), scaling=Scaling.identity(1))
    overflowing = exportable()
    overflowing.vector[0] = 1e300
    with pytest.raises(UsageError, match="not finite in float32"):
        safetensors_bytes(overflowing)
