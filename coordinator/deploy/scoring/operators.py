"""What an ONNX file may hold, judged before a runtime sees it: the graphs that `coordinator.registry.export` writes, and nothing else.

1. Standard operators from a list, in one opset; no functions, no subgraphs, no further graphs, no data outside the file.
2. Inputs are columns, [N, 1] of double or string; the output is `probability`. All in between is [N, width], and the widths together are bounded:
   ten short lines of broadcasts and concatenations could otherwise ask for all memory there is.
3. The dense layers are found by the names that the export gives them, so that reasons are computed from the weights that score.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final, Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError

from coordinator.deploy.pieces import MOST_FILE_BYTES
from coordinator.registry.export import OPSET
from coordinator.registry.graph import PROBABILITY
from strategies.encoding import Vector
from strategies.errors import Refused, UsageError
from strategies.features import Scaling
from strategies.models import Parameters

OPERATORS: Final = frozenset(
    (
        "Add",
        "Cast",
        "Clip",
        "Concat",
        "Div",
        "Equal",
        "Gemm",
        "IsNaN",
        "Log",
        "ReduceMax",
        "Relu",
        "Sigmoid",
        "Sub",
        "Where",
    )
)
MOST_WIDTH: Final = 1 << 20
"""Of all that the operators make of one row, together; an export of 1 000 columns with 8 layers of 4 096 units has a tenth."""
_ROWS: Final = "N"
_REQUIRED: Final = "covenant.required"
_CONTRACT: Final = "covenant.contract"
_SCALING: Final = "covenant.scaling"
_WEIGHT: Final = re.compile(r"/layer([0-9]{1,3})\.weight")
_KINDS: Final[Mapping[int, Literal["number", "text"]]] = {
    onnx.TensorProto.DOUBLE: "number",
    onnx.TensorProto.STRING: "text",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class InputColumn:
    """One input, [N, 1]; `required` means that a missing value is refused."""

    name: str
    kind: Literal["number", "text"]
    required: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A file that may be loaded. `encoded` is the name of what its first layer takes, [N, width] float32; `layers` are its weights."""

    proto: Any
    inputs: tuple[InputColumn, ...]
    encoded: str
    layers: tuple[Parameters, ...]
    contract: str
    scaling: Scaling


def judge(data: bytes, source: str) -> Judged:
    """Read an ONNX file; `source` names it in errors. Raises Refused naming what it may not hold."""
    if len(data) > MOST_FILE_BYTES:
        raise Refused(f"{source} has {len(data)} bytes; a model that is served has at most {MOST_FILE_BYTES}")
    try:
        proto = onnx.ModelProto.FromString(data)
    except DecodeError as error:
        raise Refused(f"{source} is not an ONNX model this version can load: it does not parse") from error
    if not proto.graph.node:
        raise Refused(f"{source} is not an ONNX model this version can load: its graph is empty")
    _allowed(proto, source)
    facts = {each.key: each.value for each in proto.metadata_props}
    outputs = [each.name for each in proto.graph.output]
    kinds = {each.name: each.type.tensor_type.elem_type for each in proto.graph.input}
    known = all(kind in _KINDS for kind in kinds.values())
    if outputs != [PROBABILITY] or not known or not {_REQUIRED, _CONTRACT, _SCALING} <= facts.keys():
        raise _foreign(source)
    try:
        required = set(json.loads(facts[_REQUIRED]))
        scaling = json.loads(facts[_SCALING])
        return Judged(
            proto=proto,
            inputs=tuple(
                InputColumn(name=name, kind=_KINDS[kind], required=name in required)
                for name, kind in kinds.items()
            ),
            encoded=_first_gemm(proto).input[0],
            layers=_layers(proto),
            contract=facts[_CONTRACT],
            scaling=Scaling(mean=tuple(scaling["mean"]), std=tuple(scaling["std"])),
        )
    except (ValueError, KeyError, TypeError, StopIteration, UsageError) as error:
        raise _foreign(source) from error


def _foreign(source: str) -> Refused:
    return Refused(f"{source} was not exported by covenant; register the run's model and serve that file")


def _allowed(proto: Any, source: str) -> None:  # noqa: ANN401  (onnx has no types)
    """Raise Refused for anything that an export never has."""
    for node in proto.graph.node:
        if node.domain or node.op_type not in OPERATORS:
            name = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise Refused(
                f"{source} has the operator {name[:100]!r}, which no export of this project uses; it is not loaded"
            )
        if any(
            each.HasField("g") or each.graphs or each.HasField("t") or each.tensors for each in node.attribute
        ):
            raise Refused(
                f"{source} has a graph or a tensor within the operator {node.op_type}; it is not loaded"
            )
    opsets = [(each.domain, each.version) for each in proto.opset_import]
    if opsets != [("", OPSET)]:
        raise Refused(f"{source} uses the operator sets {opsets[:4]}; this version loads [('', {OPSET})]")
    if proto.functions or proto.training_info or proto.graph.sparse_initializer:
        raise Refused(f"{source} has functions, training or sparse tensors; it is not loaded")
    for tensor in proto.graph.initializer:
        if tensor.external_data or tensor.data_location != onnx.TensorProto.DEFAULT:
            raise Refused(f"{source} keeps data in another file; a model is one file, it is not loaded")
    _require_narrow(proto, source)


def _require_narrow(proto: Any, source: str) -> None:  # noqa: ANN401
    """Raise Refused unless every operator makes [N, width], and not too much of it. Shapes are worked out from operators and weights alone."""
    bare = onnx.ModelProto()
    bare.CopyFrom(proto)
    del bare.graph.value_info[:]
    try:
        graph = onnx.shape_inference.infer_shapes(bare, check_type=True, strict_mode=True).graph
    except (onnx.shape_inference.InferenceError, ValueError) as error:
        raise Refused(f"{source} does not fit together, operator by operator; it is not loaded") from error
    shapes = {
        each.name: [(one.dim_param, one.dim_value) for one in each.type.tensor_type.shape.dim]
        for each in (*graph.input, *graph.value_info, *graph.output)
    }
    total = 0
    for name in (name for node in graph.node for name in node.output):
        match shapes.get(name):
            case [(rows, 0), ("", width)] if rows == _ROWS and width > 0:
                total += width
            case _:
                raise Refused(
                    f"{source} makes {name[:100]!r}, which is not so many columns a row; it is not loaded"
                )
    if total > MOST_WIDTH:
        raise Refused(
            f"{source} makes {total} columns of one row; at most {MOST_WIDTH} are made, it is not loaded"
        )
    for each in graph.input:
        if shapes[each.name] != [(_ROWS, 0), ("", 1)]:
            raise Refused(
                f"{source} has the input {each.name[:100]!r}, which is not [N, 1]; it is not loaded"
            )


def _first_gemm(proto: Any) -> Any:  # noqa: ANN401
    return next(each for each in proto.graph.node if each.op_type == "Gemm")


def _layers(proto: Any) -> tuple[Parameters, ...]:  # noqa: ANN401
    """The dense layers in order, float64. Raises ValueError or KeyError unless they are a chain that ends in one logit."""
    tensors = {each.name: each for each in proto.graph.initializer}
    count = sum(1 for name in tensors if _WEIGHT.fullmatch(name))
    layers = tuple(
        (_array(tensors[f"/layer{place}.weight"]), _array(tensors[f"/layer{place}.bias"]))
        for place in range(count)
    )
    gemms = [tuple(each.input[1:]) for each in proto.graph.node if each.op_type == "Gemm"]
    if gemms != [(f"/layer{place}.weight", f"/layer{place}.bias") for place in range(count)] or not layers:
        raise ValueError
    widths = [layers[0][0].shape[1], *(weight.shape[0] for weight, _ in layers)]
    shapes = [(weight.shape, bias.shape) for weight, bias in layers]
    if shapes != [((b, a), (b,)) for a, b in pairwise(widths)] or widths[-1] != 1:
        raise ValueError
    return layers


def _array(tensor: Any) -> Vector:  # noqa: ANN401
    array = np.asarray(onnx.numpy_helper.to_array(tensor), dtype=np.float64)
    if not np.isfinite(array).all():
        raise ValueError
    return array
