"""A trained model in the forms others read: safetensors for the weights, ONNX for scoring raw applications.

1. The same model yields the same bytes, so a digest identifies it.
2. The ONNX graph contains the preprocessing: a caller passes an application as it is, and cannot scale it wrongly.
3. It computes what `FeatureSpec.encode` and `DenseModel.probabilities` compute: float64 until a feature is encoded, float32
   after. What a graph cannot do, refusing a missing value, is listed in its metadata for the scoring service.
4. Weights are in memory once, in float32: both files are `Pieces` around them, and nothing copies them.
"""

import json
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import Message

from coordinator.registry.graph import build_graph, weight_name
from protos.frame_size import length_prefix
from strategies.encoding import Vector, canonical_json
from strategies.errors import UsageError
from strategies.features import FeatureSpec, Scaling
from strategies.ids import Digest
from strategies.models import DenseModel
from strategies.pieces import Pieces

OPSET: Final = 19
"""The first opset whose Equal compares strings; its IR version is 9. onnxruntime reads it from 1.16 on."""
_IR_VERSION: Final = 9
_HEADER: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 8
_GRAPH: Final = onnx.ModelProto.GRAPH_FIELD_NUMBER
_INITIALIZER: Final = onnx.GraphProto.INITIALIZER_FIELD_NUMBER
_RAW_DATA: Final = onnx.TensorProto.RAW_DATA_FIELD_NUMBER
_LENGTH_DELIMITED: Final = 2


@dataclass(frozen=True, kw_only=True)
class Exportable:
    """A trained model with all that scoring needs. `vector` is (d,) float64; `contract` is its reference, name@version."""

    features: FeatureSpec
    scaling: Scaling
    model: DenseModel
    vector: Vector
    plan_digest: Digest
    contract: str

    def __post_init__(self) -> None:
        if self.model.inputs != self.features.width:
            raise UsageError(
                f"the model takes {self.model.inputs} inputs; its features encode to {self.features.width}"
            )
        if len(self.scaling.mean) != len(self.features.numeric):
            raise UsageError(
                f"the scaling is for {len(self.scaling.mean)} numeric features; there are {len(self.features.numeric)}"
            )

    @property
    def metadata(self) -> dict[str, str]:
        """Where the model comes from, for both formats."""
        scaling = {"mean": list(self.scaling.mean), "std": list(self.scaling.std)}
        return {
            "plan_digest": self.plan_digest,
            "contract": self.contract,
            "scaling": canonical_json(scaling).decode(),
        }

    @cached_property
    def tensors(self) -> Mapping[str, npt.NDArray[np.float32]]:
        """Weights and biases in float32, made once for both formats. Raises UsageError for a vector that has no finite float32 form."""
        with np.errstate(over="ignore"):
            tensors = self.model.named(self.vector)
        for name, tensor in tensors.items():
            if not np.isfinite(tensor).all():
                raise UsageError(f"{name} holds a value that is not finite in float32; train it again")
        return tensors


def safetensors_pieces(source: Exportable) -> Pieces:
    """The weights as a safetensors file, with `metadata` in its header, which is sorted: 8 bytes of length, JSON padded with spaces, and the tensors by
    name, little-endian (safetensors "Format"). The library would copy them three times, and shuffles metadata from call to call (seen with 0.8.0)."""
    tensors = {name: source.tensors[name] for name in sorted(source.tensors)}
    header: dict[str, Any] = {"__metadata__": source.metadata}
    begin = 0
    for name, tensor in tensors.items():
        end = begin + tensor.nbytes
        header[name] = {"dtype": "F32", "shape": list(tensor.shape), "data_offsets": [begin, end]}
        begin = end
    written = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    written += b" " * (-len(written) % _ALIGNMENT)
    return Pieces((_HEADER.pack(len(written)), written, *map(_little_endian, tensors.values())))


def onnx_pieces(source: Exportable) -> Pieces:
    """The model with its preprocessing as an ONNX file, checked.

    Inputs: one per feature, [N, 1]: DOUBLE with NaN for missing, or STRING. Output: `probability`, FLOAT [N, 1]. Its
    `metadata_props` hold `covenant.` + each key of `metadata`, and `covenant.required`: the inputs that must not be NaN.
    """
    model = onnx.helper.make_model(
        build_graph(source.features, source.scaling, source.model),
        producer_name="covenant",
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    required = [feature.name for feature in source.features.numeric if feature.missing == "refuse"]
    facts = {**source.metadata, "required": canonical_json(required).decode()}
    onnx.helper.set_model_props(model, {f"covenant.{key}": facts[key] for key in sorted(facts)})
    weights = {weight_name(name): tensor for name, tensor in source.tensors.items()}
    _check(model, weights)
    return _with_weights(model, weights)


def safetensors_bytes(source: Exportable) -> bytes:
    """`safetensors_pieces` in one place."""
    return safetensors_pieces(source).joined()


def onnx_bytes(source: Exportable) -> bytes:
    """`onnx_pieces` in one place."""
    return onnx_pieces(source).joined()


def _check(model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[np.float32]]) -> None:
    """Have ONNX check the model with its weights as inputs of their type and shape: it looks at no value of them, and would copy them several times."""
    checked = onnx.ModelProto()
    checked.CopyFrom(model)
    checked.graph.input.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, tensor.shape)
        for name, tensor in weights.items()
    )
    onnx.checker.check_model(checked, full_check=True)


def _with_weights(model: onnx.ModelProto, weights: Mapping[str, npt.NDArray[np.float32]]) -> Pieces:
    """The file of `model` with `weights` as the last of its graph's initializers: as protobuf would write it, which copies each of them several times."""
    initializers = [
        _field(_INITIALIZER, (_facts_of(name, tensor), _field(_RAW_DATA, (_little_endian(tensor),))))
        for name, tensor in weights.items()
    ]
    graph_before, graph_after = _parted(model.graph, _INITIALIZER)
    graph = _field(_GRAPH, (graph_before, *initializers, graph_after))
    around = onnx.ModelProto()
    around.CopyFrom(model)
    around.ClearField("graph")
    before, after = _parted(around, _GRAPH)
    return _together((before, graph, after))


def _facts_of(name: str, tensor: npt.NDArray[np.float32]) -> bytes:
    """An initializer but for its values."""
    facts = onnx.TensorProto(name=name, dims=tensor.shape, data_type=onnx.TensorProto.FLOAT)
    written: bytes = facts.SerializeToString(deterministic=True)
    return written


def _parted(message: Message, number: int) -> tuple[bytes, bytes]:
    """What protobuf writes of `message` up to the field `number`, and after it: it writes fields in the order of their numbers."""
    before, after = type(message)(), type(message)()
    before.CopyFrom(message)
    after.CopyFrom(message)
    for field, _ in message.ListFields():
        (before if field.number > number else after).ClearField(field.name)
    return before.SerializeToString(deterministic=True), after.SerializeToString(deterministic=True)


def _field(number: int, content: Iterable[bytes | memoryview | Pieces]) -> Pieces:
    """A field of protobuf that holds `content`, one part after the other; its `number` is below 16."""
    held = _together(content)
    return _together((bytes([number << 3 | _LENGTH_DELIMITED]), length_prefix(len(held)), held))


def _together(parts: Iterable[bytes | memoryview | Pieces]) -> Pieces:
    return Pieces(piece for part in parts for piece in (part.parts if isinstance(part, Pieces) else (part,)))


def _little_endian(tensor: npt.NDArray[np.float32]) -> memoryview:
    """The bytes of a tensor where they lie."""
    return np.ascontiguousarray(tensor, dtype="<f4").data
