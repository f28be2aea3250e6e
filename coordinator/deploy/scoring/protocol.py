"""Requests and answers of the Open Inference Protocol v2, checked before the model sees a value.

1. A request is wrong in one sentence that names the input, the value and what is accepted.
2. Numbers come as FP64 or FP32 with null for missing, text as BYTES with null or "" for missing; every input is [N, 1].
3. A missing value that the contract refuses is refused here, as it was in training.
4. Values are never repeated in an error: they describe a person.

Source: github.com/kserve/open-inference-protocol, inference_rest.md.
"""

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from coordinator.deploy.scoring.model import OUTPUT, InputColumn

MAX_ROWS: Final = 10_000
MAX_BODY_BYTES: Final = 8 * 2**20
_NUMBERS: Final = ("FP64", "FP32")
_TEXT: Final = ("BYTES",)


class ProtocolError(Exception):
    """A request that is answered with `status` and one sentence."""

    def __init__(self, sentence: str, status: int = 400) -> None:
        super().__init__(sentence)
        self.status = status


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


def parse_request(body: bytes) -> InferRequest:
    """Read a request. Raises ProtocolError naming the first place that is wrong."""
    try:
        request = InferRequest.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        place = ".".join(map(str, first["loc"]))[:100]
        where = f" at {place}" if place else ""
        raise ProtocolError(f"the request is not an inference request{where}: {first['msg']}") from error
    for output in request.outputs or ():
        if output.name != OUTPUT:
            raise ProtocolError(f"there is no output {output.name[:100]!r}; the model has one, {OUTPUT}")
    return request


def columns_from(request: InferRequest, inputs: Sequence[InputColumn]) -> dict[str, npt.NDArray[Any]]:
    """One (N, 1) array an input, float64 or str objects, N from 1 to 10 000. Raises ProtocolError."""
    known = {column.name: column for column in inputs}
    given: dict[str, Tensor] = {}
    for tensor in request.inputs:
        if tensor.name not in known:
            raise ProtocolError(f"there is no input {tensor.name[:100]!r}{_nearest(tensor.name, known)}")
        if tensor.name in given:
            raise ProtocolError(f"the input {tensor.name} is given twice; give it once")
        given[tensor.name] = tensor
    absent = [name for name in known if name not in given]
    if absent:
        raise ProtocolError(f"the inputs {', '.join(absent)} are missing; the model needs all {len(known)}")
    rows = _rows(request.inputs[0])
    return {name: _column(column, given[name], rows) for name, column in known.items()}


def answer(request: InferRequest, name: str, version: str, scores: npt.NDArray[np.float32]) -> dict[str, Any]:
    """The response body for `scores`, (N, 1) float32."""
    output = {
        "name": OUTPUT,
        "shape": list(scores.shape),
        "datatype": "FP32",
        "data": scores.ravel().tolist(),
    }
    body: dict[str, Any] = {"model_name": name, "model_version": version, "outputs": [output]}
    return body if request.id is None else {**body, "id": request.id}


def model_metadata(name: str, version: str, inputs: Sequence[InputColumn]) -> dict[str, Any]:
    """The model metadata response; -1 is any number of rows."""
    return {
        "name": name,
        "versions": [version],
        "platform": "onnx_onnxv1",
        "inputs": [{"name": each.name, "datatype": _accepted(each)[0], "shape": [-1, 1]} for each in inputs],
        "outputs": [{"name": OUTPUT, "datatype": "FP32", "shape": [-1, 1]}],
    }


def _rows(tensor: Tensor) -> int:
    """N, by the first input's shape; every other must say the same."""
    match tensor.shape:
        case [rows, 1] if 1 <= rows <= MAX_ROWS:
            return rows
        case _:
            raise ProtocolError(
                f"the input {tensor.name} has the shape {tensor.shape[:4]}; use [N, 1] with N from 1 to {MAX_ROWS}"
            )


def _column(column: InputColumn, tensor: Tensor, rows: int) -> npt.NDArray[Any]:
    """The values of one input, (rows, 1). Raises ProtocolError."""
    if tensor.datatype not in _accepted(column):
        raise ProtocolError(
            f"the input {column.name} has the datatype {tensor.datatype[:20]!r}; use {' or '.join(_accepted(column))}"
        )
    if tensor.shape != [rows, 1]:
        raise ProtocolError(
            f"the input {column.name} has the shape {tensor.shape[:4]}; every input of this request is [{rows}, 1]"
        )
    values = _flat(tensor)
    if len(values) != rows:
        raise ProtocolError(
            f"the input {column.name} holds {len(values)} values; its shape [{rows}, 1] needs {rows}"
        )
    array = _numbers(column, values, tensor.datatype) if column.kind == "number" else _texts(column, values)
    return array.reshape(rows, 1)


def _flat(tensor: Tensor) -> list[Any]:
    """The values of flat data, or of data nested as rows of one value."""
    if not any(isinstance(value, list) for value in tensor.data):
        return tensor.data
    if all(isinstance(value, list) and len(value) == 1 for value in tensor.data):
        return [value[0] for value in tensor.data]
    raise ProtocolError(f"the data of {tensor.name} is neither flat nor rows of one value")


def _numbers(column: InputColumn, values: list[Any], datatype: str) -> npt.NDArray[np.float64]:
    """(n,) float64 with NaN for null."""
    for row, value in enumerate(values):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ProtocolError(f"the input {column.name} holds no number in row {row}; use numbers or null")
    try:
        array = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    except OverflowError as error:
        raise ProtocolError(f"the input {column.name} holds a number beyond float64") from error
    if datatype == "FP32":
        with np.errstate(over="ignore"):
            array = array.astype(np.float32).astype(np.float64)
    infinite, missing = np.flatnonzero(np.isinf(array)), np.flatnonzero(np.isnan(array))
    if infinite.size:
        raise ProtocolError(
            f"the input {column.name} is beyond {datatype} in row {infinite[0]}; use finite numbers"
        )
    if missing.size and column.required:
        raise ProtocolError(
            f"the input {column.name} is missing in row {missing[0]}; its contract requires a value"
        )
    return array


def _texts(column: InputColumn, values: list[Any]) -> npt.NDArray[np.object_]:
    """(n,) str objects with "" for null."""
    for row, value in enumerate(values):
        if value is not None and not isinstance(value, str):
            raise ProtocolError(f"the input {column.name} holds no text in row {row}; use strings or null")
    return np.array([value or "" for value in values], dtype=object)


def _accepted(column: InputColumn) -> tuple[str, ...]:
    return _NUMBERS if column.kind == "number" else _TEXT


def _nearest(name: str, known: Mapping[str, InputColumn]) -> str:
    near = get_close_matches(name[:100], known, n=1)
    return f"; the nearest is {near[0]}" if near else f"; the model's inputs are {', '.join(known)}"
