"""A prepared model scores what its file scores, whatever its contract; where it would not, or cannot be prepared, the file runs as it is."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from coordinator.deploy.scoring import prepared as module
from coordinator.deploy.scoring.arms import Loaded, load
from coordinator.deploy.scoring.columns import Batch
from coordinator.deploy.scoring.exports import opened_from
from coordinator.deploy.scoring.prepared import SCORES_WITHIN, Prepared, near, probes_of
from coordinator.deploy.scoring.stacking import Unlike, parts_of
from coordinator.deploy.scoring.words import Words
from tests.coordinator.scoring_for_tests import CONTRACT, contract, exportable, files, opened

WORDS = ("36", "60", "é", "a b", "A", "long" * 20)
bounds = st.tuples(
    st.floats(-1e6, 1e6, allow_nan=False).map(lambda low: round(low, 3)),
    st.sampled_from((0.5, 1.0, 30.0, 1e6)),
)
numbers = st.builds(
    lambda edge, transform, missing: {
        "type": "number",
        "unit": "USD",
        "range": [edge[0], edge[0] + edge[1]],
        "transform": transform,
        "missing": missing,
    },
    bounds,
    st.sampled_from(("none", "log1p")),
    st.sampled_from(("refuse", "indicator")),
)
categories = st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True).map(
    lambda words: {"type": "category", "vocabulary": words}
)


def loaded_under(columns: list[dict[str, object]], hidden: tuple[int, ...]) -> Loaded:
    said = yaml.safe_load(CONTRACT)
    said["columns"] = {f"c{place}": column for place, column in enumerate(columns)}
    agreed = contract(json.dumps(said, ensure_ascii=False))
    return load(opened(source=exportable(agreed, tuple(said["columns"]), hidden=hidden), agreed=agreed))


def rows_for(loaded: Loaded, rows: int, seed: int) -> Batch:
    random = np.random.default_rng(seed)
    constants = parts_of(loaded.model.judged).constants
    columns = [
        random.choice([*each, np.nan, -1e9, 1e9, *random.uniform(min(each), max(each), rows)], rows)
        for each in constants
    ]
    words = [random.choice([*WORDS, "", "unknown", "unknown too"], rows).tolist() for _ in loaded.rules.texts]
    return Batch(numbers=np.array(columns).reshape(len(columns), rows), words=tuple(map(Words.of, words)))


def require_same(loaded: Loaded, batch: Batch) -> None:
    scores, encoded = loaded.score(batch)
    of_file, encoded_of_file = loaded.model.score_and_encode(loaded.rules.feed(batch))
    assert near(encoded, encoded_of_file)
    np.testing.assert_allclose(scores, of_file, rtol=0.0, atol=SCORES_WITHIN)
    assert (scores.dtype, encoded.dtype) == (np.float32, np.float32)


@settings(max_examples=100, deadline=None)
@given(
    st.lists(numbers | categories, min_size=1, max_size=4),
    st.sampled_from(((), (3,), (4, 2))),
    st.integers(1, 600),
    st.integers(0, 2**32),
)
def test_every_export_is_prepared_and_scores_as_its_file(
    columns: list[dict[str, object]], hidden: tuple[int, ...], rows: int, seed: int
) -> None:
    loaded = loaded_under(columns, hidden)
    assert loaded.prepared is not None
    require_same(loaded, rows_for(loaded, rows, seed))


def test_words_that_only_one_text_input_does_not_know_are_encoded_by_the_file_s_operators() -> None:
    loaded = loaded_under([{"type": "category", "vocabulary": ["a", "b"]}] * 2 + [{"type": "boolean"}], ())
    batch = Batch(
        numbers=np.array([[0.0, 1.0, np.nan]]),
        words=(Words.of(["a", "b", ""]), Words.of(["x", "b", "y"])),
    )
    require_same(loaded, batch)
    _, encoded = loaded.score(batch)
    assert encoded[:, :6].tolist() == [[1, 0, 0, 0, 0, 1], [0, 1, 0, 0, 1, 0], [0, 0, 1, 0, 0, 1]]


def test_columns_of_one_form_are_one_chain_whatever_their_bounds() -> None:
    column = {"type": "number", "unit": "USD", "transform": "none", "missing": "refuse"}
    few, many = (
        parts_of(
            loaded_under([{**column, "range": [0, 1 + each]} for each in range(count)], ()).model.judged
        ).stacked
        for count in (1, 4)
    )
    assert few is not None
    assert many is not None
    assert [each.op_type for each in few.graph.node] == [each.op_type for each in many.graph.node]


def foreign(alter: str) -> Loaded:
    """A model whose file is allowed and of another form than exports have."""
    made = files(exportable())
    proto = onnx.ModelProto.FromString(made["model.onnx"])
    nodes = proto.graph.node
    concat = next(each for each in nodes if each.op_type == "Concat")
    at = list(nodes).index(concat)
    if alter == "operator":
        nodes.insert(at, onnx.helper.make_node("Relu", [concat.input[0]], ["/foreign"]))
    else:
        nodes.insert(at, onnx.helper.make_node("Add", [concat.input[0], concat.input[1]], ["/foreign"]))
    concat = next(each for each in nodes if each.op_type == "Concat")
    concat.input[0] = "/foreign"
    return load(opened_from("lending", 3, {**made, "model.onnx": proto.SerializeToString()}))


@pytest.mark.parametrize(
    ("alter", "why"), [("operator", "goes through Relu"), ("inputs", "made of other than one input")]
)
def test_a_graph_of_another_form_runs_as_its_file_is_and_the_log_says_so(alter: str, why: str) -> None:
    with capture_logs() as logs:
        loaded = foreign(alter)
    assert loaded.prepared is None
    assert [each for each in logs if why in str(each.get("why"))]
    batch = rows_for(load(opened()), 40, 1)
    scores, encoded = loaded.score(batch)
    of_file, encoded_of_file = loaded.model.score_and_encode(loaded.rules.feed(batch))
    assert (scores == of_file).all()
    assert (encoded == encoded_of_file).all()


def test_words_too_many_to_keep_are_left_to_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEPT", 5)
    assert load(opened()).prepared is None


def test_a_form_that_differs_from_its_file_is_not_used() -> None:
    loaded = load(opened())
    right = loaded.prepared
    assert right is not None
    probes = probes_of(parts_of(loaded.model.judged))
    module._require_same(right, loaded.model, loaded.rules, probes)
    text = right.texts[0]
    other = load(opened(source=exportable(seed=4))).prepared
    assert other is not None
    wrong: list[tuple[Prepared, str]] = [
        (replace(right, numeric=right.numeric[::-1].copy()), "encodes"),
        (replace(right, texts=(replace(text, rows=text.rows[::-1]),)), "encodes"),
        (replace(right, stacked=shifted(loaded)), "encodes"),
        (replace(right, dense=other.dense), "scores"),
    ]
    for each, what in wrong:
        with pytest.raises(Unlike, match=what):
            module._require_same(each, loaded.model, loaded.rules, probes)


def shifted(loaded: Loaded) -> object:
    """The stacked part with one bound a thousandth lower."""
    stacked = parts_of(loaded.model.judged).stacked
    assert stacked is not None
    for tensor in stacked.graph.initializer:
        if tensor.data_type == onnx.TensorProto.DOUBLE and 1000.0 in onnx.numpy_helper.to_array(tensor):
            tensor.CopyFrom(
                onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 0.999, tensor.name)
            )
            return module.session_of(stacked, "a part")
    raise AssertionError


def test_neighbours_in_float32_are_near_and_the_next_are_not() -> None:
    one = np.array([1.0, np.nan, np.inf, 0.0], dtype=np.float32)
    step = np.nextafter(one, np.float32(2.0))
    assert near(one, one)
    assert near(one[:1], step[:1])
    assert not near(one[:1], np.nextafter(step[:1], np.float32(2.0)) + np.float32(1e-6))
    assert not near(one, one[[1, 0, 2, 3]])
    assert not near(one, one[:2])
