"""The ONNX graph of a model with its preprocessing, node by node.

Values that are not inputs or the output are called `/...`, which no feature may be, so names cannot collide.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from onnx import GraphProto, NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

from strategies.errors import UsageError
from strategies.features import CategoricalFeature, Feature, FeatureSpec, NumericFeature, Scaling
from strategies.models import DenseModel

PROBABILITY: Final = "probability"
_ROWS: Final = "N"


def weight_name(tensor: str) -> str:
    """What a graph calls the weights that a model calls `tensor`."""
    return f"/{tensor}"


def build_graph(features: FeatureSpec, scaling: Scaling, model: DenseModel) -> GraphProto:
    """Raw columns in, `probability` out, but for the weights, which nodes know as `weight_name`. Raises UsageError when a feature's name cannot be an input."""
    for feature in features.features:
        if feature.name == PROBABILITY or feature.name.startswith("/"):
            raise UsageError(
                f"a feature is called {feature.name!r}, which the export needs; rename the column"
            )
    graph = _Graph()
    encoded = _encode(graph, features, scaling)
    _predict(graph, model, encoded)
    return helper.make_graph(
        graph.nodes,
        "covenant",
        [_input(feature) for feature in features.features],
        [helper.make_tensor_value_info(PROBABILITY, TensorProto.FLOAT, [_ROWS, 1])],
        graph.constants,
    )


class _Graph:
    """Nodes and constants in the order in which they were added; every value is called after its place."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:  # noqa: ANN401
        """Append one node; returns the name of its output."""
        name = output or f"/{len(self.nodes)}/{operator}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name.strip("/"), **attributes))
        return name

    def number(self, value: float) -> str:
        """A float64 scalar."""
        return self.array(f"/constant/{len(self.constants)}", np.asarray(value, dtype=np.float64))

    def words(self, words: tuple[str, ...]) -> str:
        """A row of strings, [1, len(words)]."""
        return self.array(f"/constant/{len(self.constants)}", np.array([words], dtype=object))

    def array(self, name: str, values: npt.NDArray[Any]) -> str:
        """A constant of any shape, numbers or strings."""
        self.constants.append(numpy_helper.from_array(values, name))
        return name


def _input(feature: Feature) -> ValueInfoProto:
    kind = TensorProto.DOUBLE if isinstance(feature, NumericFeature) else TensorProto.STRING
    return helper.make_tensor_value_info(feature.name, kind, [_ROWS, 1])


def _encode(graph: _Graph, features: FeatureSpec, scaling: Scaling) -> str:
    """As `FeatureSpec.encode`: [N, width] float32."""
    moments = iter(zip(scaling.mean, scaling.std, strict=True))
    blocks: list[str] = []
    for feature in features.features:
        match feature:
            case NumericFeature():
                blocks.extend(_numeric(graph, feature, *next(moments)))
            case CategoricalFeature():
                blocks.extend(_one_hot(graph, feature))
    return graph.add("Concat", *blocks, axis=1)


def _numeric(graph: _Graph, feature: NumericFeature, mean: float, std: float) -> Iterator[str]:
    """The scaled value, 0 where missing, and its indicator if it has one."""
    low, span = graph.number(feature.low), feature.high - feature.low
    absent = graph.add("IsNaN", feature.name)
    # A comparison with NaN may go either way in a kernel, so NaN never reaches Clip.
    present = graph.add("Where", absent, low, feature.name)
    value = graph.add("Sub", graph.add("Clip", present, low, graph.number(feature.high)), low)
    if feature.transform == "log1p":
        value = graph.add("Log", graph.add("Add", value, graph.number(1.0)))
        span = float(np.log1p(span))
    unit = graph.add("Div", value, graph.number(span))
    scaled = graph.add("Div", graph.add("Sub", unit, graph.number(mean)), graph.number(std))
    kept = graph.add("Where", absent, graph.number(0.0), scaled)
    yield graph.add("Cast", kept, to=TensorProto.FLOAT)
    if feature.missing == "indicator":
        yield graph.add("Cast", absent, to=TensorProto.FLOAT)


def _one_hot(graph: _Graph, feature: CategoricalFeature) -> Iterator[str]:
    """One column per word, then "other": 1 where no word matched, which an empty string never does."""
    matches = graph.add("Equal", feature.name, graph.words(feature.vocabulary))
    hot = graph.add("Cast", matches, to=TensorProto.FLOAT)
    yield hot
    some = graph.add(
        "ReduceMax", hot, graph.array(f"/axes/{len(graph.nodes)}", np.array([1], dtype=np.int64))
    )
    yield graph.add("Sub", graph.array(f"/one/{len(graph.nodes)}", np.ones((1, 1), dtype=np.float32)), some)


def _predict(graph: _Graph, model: DenseModel, values: str) -> None:
    """As `DenseModel.probabilities`, in float32."""
    for place, layer in enumerate(model.layers):
        if place > 0:
            values = graph.add("Relu", values)
        weight, bias = weight_name(f"{layer.name}.weight"), weight_name(f"{layer.name}.bias")
        values = graph.add("Gemm", values, weight, bias, transB=1)
    graph.add("Sigmoid", values, output=PROBABILITY)
