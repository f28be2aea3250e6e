"""Requests and answers of the Open Inference Protocol v2 in JSON, and what both of its transports share.

Source: github.com/kserve/open-inference-protocol, inference_rest.md. A parameter `key` of a request names whom it is about, so that a canary
keeps to one model for one key; without it the request's id does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from coordinator.deploy.scoring.columns import Given, Input, ProtocolError
from coordinator.deploy.scoring.model import OUTPUT
from coordinator.deploy.scoring.reasons import MOST_REASONS

MAX_BODY_BYTES: Final = 8 * 2**20
REASONS: Final = "reasons"
OUTPUTS: Final = {OUTPUT: ("FP32", 1), REASONS: ("BYTES", MOST_REASONS)}
PLATFORM: Final = "onnx_onnxv1"
SERVER: Final = "covenant"


class _Closed(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Tensor(_Closed):
    """One input; `data` is flat or nested in row-major order."""

    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, JsonValue] | None = None
    data: list[Any]


class RequestedOutput(_Closed):
    """One output that the caller asks for."""

    name: str
    parameters: dict[str, JsonValue] | None = None


class InferRequest(_Closed):
    """The body of `POST .../infer`."""

    id: str | None = None
    parameters: dict[str, JsonValue] | None = None
    inputs: list[Tensor]
    outputs: list[RequestedOutput] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request, whichever way it came. `outputs` None asks for what there is."""

    id: str | None
    key: str | None
    inputs: Sequence[Given]
    outputs: frozenset[str] | None

    @property
    def rows(self) -> int:
        """How many rows it holds, by the longest of its inputs."""
        return max((len(each.values) for each in self.inputs), default=0)

    def wants(self, output: str) -> bool:
        """Whether it names `output`."""
        return self.outputs is not None and output in self.outputs


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a model says. `scores` is (N, 1) float32; `reasons`, N rows of up to four, if they are asked for or a threshold is set."""

    name: str
    version: int
    id: str | None
    scores: npt.NDArray[np.float32] | None
    reasons: Sequence[Sequence[str]] | None

    @property
    def padded(self) -> list[str]:
        """Reasons of all rows, row by row, each filled up with "" to MOST_REASONS."""
        empty = [""] * MOST_REASONS
        return [word for row in self.reasons or () for word in (*row, *empty[len(row) :])]


def asked_of(body: bytes) -> Asked:
    """Read a request in JSON. Raises ProtocolError naming the first place that is wrong."""
    try:
        request = InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))[:100]
        where = f" at {place}" if place else ""
        raise ProtocolError(f"the request is not an inference request{where}: {first['msg']}") from error
    return Asked(
        id=request.id,
        key=key_of((request.parameters or {}).get("key")),
        inputs=[
            Given(name=each.name, datatype=each.datatype, shape=each.shape, values=_flat(each))
            for each in request.inputs
        ],
        outputs=None if request.outputs is None else outputs_of([each.name for each in request.outputs]),
    )


def key_of(value: object) -> str | None:
    """The parameter `key`. Raises ProtocolError unless it is text."""
    if value is not None and not isinstance(value, str):
        raise ProtocolError("the parameter key is no text; use a string")
    return value


def outputs_of(names: Sequence[str]) -> frozenset[str]:
    """The outputs that a caller names. Raises ProtocolError for one that there is not."""
    for name in names:
        if name not in OUTPUTS:
            raise ProtocolError(f"there is no output {name[:100]!r}; the model has {' and '.join(OUTPUTS)}")
    return frozenset(names)


def answer_of(answer: Answer) -> dict[str, Any]:
    """The response body."""
    outputs: list[dict[str, Any]] = []
    if answer.scores is not None:
        data = answer.scores.ravel().tolist()
        outputs.append({"name": OUTPUT, "shape": [len(data), 1], "datatype": "FP32", "data": data})
    if answer.reasons is not None:
        shape = [len(answer.reasons), MOST_REASONS]
        outputs.append({"name": REASONS, "shape": shape, "datatype": "BYTES", "data": answer.padded})
    body: dict[str, Any] = {
        "model_name": answer.name,
        "model_version": str(answer.version),
        "outputs": outputs,
    }
    return body if answer.id is None else {**body, "id": answer.id}


def model_metadata(name: str, versions: Sequence[int], inputs: Sequence[Input]) -> dict[str, Any]:
    """The model metadata response; -1 is any number of rows."""
    return {
        "name": name,
        "versions": [str(each) for each in versions],
        "platform": PLATFORM,
        "inputs": [{"name": each.name, "datatype": each.accepted[0], "shape": [-1, 1]} for each in inputs],
        "outputs": [
            {"name": each, "datatype": datatype, "shape": [-1, width]}
            for each, (datatype, width) in OUTPUTS.items()
        ],
    }


def _flat(tensor: Tensor) -> list[Any]:
    """The values of flat data, or of data nested as rows of one value."""
    if list not in set(map(type, tensor.data)):
        return tensor.data
    if all(isinstance(value, list) and len(value) == 1 for value in tensor.data):
        return [value[0] for value in tensor.data]
    raise ProtocolError(f"the data of {tensor.name[:100]!r} is neither flat nor rows of one value")
