"""A trained model in the forms others read: safetensors for the weights, ONNX for scoring raw applications.

1. The same model yields the same bytes, so a digest identifies it.
2. The ONNX graph contains the preprocessing: a caller passes an application as it is, and cannot scale it wrongly.
3. It computes what `FeatureSpec.encode` and `DenseModel.probabilities` compute: float64 until a feature is encoded, float32
   after. What a graph cannot do, refusing a missing value, is listed in its metadata for the scoring service.
"""

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import onnx
from safetensors.numpy import save

from coordinator.registry.graph import build_graph
from strategies.encoding import Vector, canonical_json
from strategies.errors import UsageError
from strategies.features import FeatureSpec, Scaling
from strategies.ids import Digest
from strategies.models import DenseModel

OPSET: Final = 19
"""The first opset whose Equal compares strings; its IR version is 9. onnxruntime reads it from 1.16 on."""
_IR_VERSION: Final = 9
_HEADER: Final = struct.Struct("<Q")
_ALIGNMENT: Final = 8


@dataclass(frozen=True, slots=True, kw_only=True)
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

    @property
    def tensors(self) -> Mapping[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
        """Weights and biases in float32. Raises UsageError for a vector that has no finite float32 form."""
        with np.errstate(over="ignore"):
            tensors = self.model.named(self.vector)
        for name, tensor in tensors.items():
            if not np.isfinite(tensor).all():
                raise UsageError(f"{name} holds a value that is not finite in float32; train it again")
        return tensors


def safetensors_bytes(source: Exportable) -> bytes:
    """The weights as a safetensors file, with `metadata` in its header."""
    return _ordered(save(dict(source.tensors), metadata=source.metadata))


def onnx_bytes(source: Exportable) -> bytes:
    """The model with its preprocessing as an ONNX file, checked.

    Inputs: one per feature, [N, 1]: DOUBLE with NaN for missing, or STRING. Output: `probability`, FLOAT [N, 1]. Its
    `metadata_props` hold `covenant.` + each key of `metadata`, and `covenant.required`: the inputs that must not be NaN.
    """
    graph = build_graph(source.features, source.scaling, source.model, source.tensors)
    proto = onnx.helper.make_model(
        graph,
        producer_name="covenant",
        ir_version=_IR_VERSION,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
    )
    required = [feature.name for feature in source.features.numeric if feature.missing == "refuse"]
    facts = {**source.metadata, "required": canonical_json(required).decode()}
    onnx.helper.set_model_props(proto, {f"covenant.{key}": facts[key] for key in sorted(facts)})
    onnx.checker.check_model(proto, full_check=True)
    data: bytes = proto.SerializeToString(deterministic=True)
    return data


def _ordered(file: bytes) -> bytes:
    """The same safetensors file with its header in sorted order.

    The library writes metadata in the order of a randomly seeded hash map (seen with 0.8.0), which would change the
    digest from one export to the next. A header is 8 bytes of length and JSON padded with spaces (safetensors "Format").
    """
    (length,) = _HEADER.unpack_from(file)
    end = _HEADER.size + length
    header = json.dumps(json.loads(file[_HEADER.size : end]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _ALIGNMENT)
    return _HEADER.pack(len(header)) + header + file[end:]
