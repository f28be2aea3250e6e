"""The gRPC side of the scoring service: the protocol's messages, in binary form where a caller sends it so.

Source: github.com/kserve/open-inference-protocol, open_inference_grpc.proto. Messages are bounded before they are parsed; what is wrong with one is
told as over HTTP. A caller who sends `raw_input_contents` is answered in `raw_output_contents`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import grpc
import numpy as np

from coordinator.deploy.scoring.access import TOO_MANY, UNAUTHENTICATED, Door
from coordinator.deploy.scoring.arms import NOT_FOUND, UNAVAILABLE
from coordinator.deploy.scoring.columns import MAX_ROWS, Given, ProtocolError
from coordinator.deploy.scoring.model import OUTPUT
from coordinator.deploy.scoring.protocol import (
    REASONS,
    SERVER,
    Answer,
    Asked,
    key_of,
    model_metadata,
    outputs_of,
)
from coordinator.deploy.scoring.reasons import MOST_REASONS
from coordinator.deploy.scoring.scorer import Scorer
from coordinator.deploy.scoring.words import LENGTH_BYTES, Words
from protos import inference_pb2 as pb
from protos.release import package_version

SERVICE: Final = "inference.GRPCInferenceService"
_CODES: Final[Mapping[int, grpc.StatusCode]] = {
    UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    TOO_MANY: grpc.StatusCode.RESOURCE_EXHAUSTED,
    UNAVAILABLE: grpc.StatusCode.UNAVAILABLE,
    500: grpc.StatusCode.INTERNAL,
}
_RAW: Final = {"FP64": "<f8", "FP32": "<f4", "INT64": "<i8", "INT32": "<i4", "BOOL": "u1"}

Method = Callable[[Any, Any], Any]


class InferenceService:
    """The service's methods on one scorer."""

    def __init__(self, scorer: Scorer, door: Door) -> None:
        self._scorer, self._door = scorer, door

    def handler(self) -> grpc.GenericRpcHandler:
        """What a server of `grpc` registers."""
        methods: Mapping[str, tuple[Method, Any]] = {
            "ServerLive": (self._live, pb.ServerLiveRequest),
            "ServerReady": (self._ready, pb.ServerReadyRequest),
            "ModelReady": (self._model_ready, pb.ModelReadyRequest),
            "ServerMetadata": (self._server, pb.ServerMetadataRequest),
            "ModelMetadata": (self._metadata, pb.ModelMetadataRequest),
            "ModelInfer": (self._infer, pb.ModelInferRequest),
        }
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                name: grpc.unary_unary_rpc_method_handler(
                    self._answering(method),
                    request_deserializer=request.FromString,
                    response_serializer=_serialized,
                )
                for name, (method, request) in methods.items()
            },
        )

    def _answering(self, method: Method) -> Method:
        def call(request: Any, context: Any) -> Any:  # noqa: ANN401  (gRPC's own)
            try:
                return method(request, context)
            except ProtocolError as error:
                self._scorer.count_refused()
                code = _CODES.get(error.status, grpc.StatusCode.INVALID_ARGUMENT)
                context.abort(code, str(error))

        return call

    def _live(self, _request: Any, _context: Any) -> Any:  # noqa: ANN401
        return pb.ServerLiveResponse(live=True)

    def _ready(self, _request: Any, _context: Any) -> Any:  # noqa: ANN401
        return pb.ServerReadyResponse(ready=self._scorer.why_not_ready() is None)

    def _model_ready(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        self._admit(context)
        self._scorer.in_force.named(request.name, request.version or None, self._scorer.clock())
        return pb.ModelReadyResponse(ready=True)

    def _server(self, _request: Any, context: Any) -> Any:  # noqa: ANN401
        self._admit(context)
        return pb.ServerMetadataResponse(name=SERVER, version=package_version())

    def _metadata(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        self._admit(context)
        force, version = self._scorer.in_force, request.version or None
        arm = force.named(request.name, version, self._scorer.clock())
        versions = (
            [each.loaded.version for each in force.answering] if version is None else [arm.loaded.version]
        )
        return pb.ModelMetadataResponse(**model_metadata(request.name, versions, arm.loaded.rules.inputs))

    def _infer(self, request: Any, context: Any) -> Any:  # noqa: ANN401
        caller = self._admit(context)
        asked = asked_of_message(request)
        self._door.take(caller, asked.rows)
        version = request.model_version or None
        answer = self._scorer.answer(request.model_name, version, asked, caller)
        return answer_message(answer, raw=bool(request.raw_input_contents))

    def _admit(self, context: Any) -> str:  # noqa: ANN401
        metadata = dict(context.invocation_metadata() or ())
        names = context.auth_context().get("x509_common_name", ())
        certificate = names[0].decode(errors="replace") if names else None
        return self._door.admit(metadata.get("authorization"), certificate)


def asked_of_message(request: Any) -> Asked:  # noqa: ANN401
    """Read a request. Raises ProtocolError."""
    raw = request.raw_input_contents
    if raw and len(raw) != len(request.inputs):
        raise ProtocolError(
            f"the request has {len(raw)} raw contents for {len(request.inputs)} inputs; send one each"
        )
    given = [parameter for name, parameter in request.parameters.items() if name == "key"]
    key = getattr(given[0], given[0].WhichOneof("parameter_choice") or "string_param") if given else None
    return Asked(
        id=request.id or None,
        key=key_of(key),
        inputs=list(_raw_inputs(request) if raw else map(_input, request.inputs)),
        outputs=outputs_of([each.name for each in request.outputs]) if request.outputs else None,
    )


def answer_message(answer: Answer, *, raw: bool) -> Any:  # noqa: ANN401
    """The response; binary if the request was."""
    response = pb.ModelInferResponse(
        model_name=answer.name, model_version=str(answer.version), id=answer.id or ""
    )
    if answer.scores is not None:
        output = response.outputs.add(name=OUTPUT, datatype="FP32", shape=[len(answer.scores), 1])
        if raw:
            response.raw_output_contents.append(answer.scores.astype("<f4").tobytes())
        else:
            output.contents.fp32_contents.extend(answer.scores.ravel().tolist())
    if answer.reasons is not None:
        output = response.outputs.add(
            name=REASONS, datatype="BYTES", shape=[len(answer.reasons), MOST_REASONS]
        )
        if raw:
            response.raw_output_contents.append(b"".join(map(_raw_row, answer.reasons)))
        else:
            output.contents.bytes_contents.extend(word.encode() for word in answer.padded)
    return response


def _raw_row(reasons: Sequence[str]) -> bytes:
    """A row of reasons, filled up with empty words."""
    words = [word.encode() for word in reasons]
    parts = [len(word).to_bytes(LENGTH_BYTES, "little") + word for word in words]
    return b"".join(parts) + bytes(LENGTH_BYTES * (MOST_REASONS - len(parts)))


def _raw_inputs(request: Any) -> Iterator[Given]:  # noqa: ANN401
    for tensor, data in zip(request.inputs, request.raw_input_contents, strict=True):
        name, datatype = tensor.name, tensor.datatype
        if datatype == "BYTES":
            values: Any = _words(name, data, tensor.shape[0] if tensor.shape else 0)
        elif datatype in _RAW:
            try:
                values = np.frombuffer(data, dtype=_RAW[datatype]).astype(np.float64, copy=False)
            except ValueError as error:
                raise ProtocolError(
                    f"the input {name[:100]!r} has {len(data)} bytes, which are no whole number of {datatype}"
                ) from error
        else:
            values = []  # of a datatype that no input takes, which is what the caller is told
        yield Given(name=name, datatype=datatype, shape=tensor.shape, values=values)


def _input(tensor: Any) -> Given:  # noqa: ANN401
    contents, datatype = tensor.contents, tensor.datatype
    found: Mapping[str, Callable[[], Any]] = {
        "FP64": lambda: np.array(contents.fp64_contents, dtype=np.float64),
        "FP32": lambda: np.array(contents.fp32_contents, dtype=np.float64),
        "INT64": lambda: np.array(contents.int64_contents, dtype=np.float64),
        "INT32": lambda: np.array(contents.int_contents, dtype=np.float64),
        "BOOL": lambda: np.array(contents.bool_contents, dtype=np.float64),
        "BYTES": lambda: _decoded(tensor.name, contents.bytes_contents),
    }
    values: Any = found[datatype]() if datatype in found else []
    return Given(name=tensor.name, datatype=datatype, shape=tensor.shape, values=values)


def _words(name: str, data: bytes, rows: int) -> Words:
    """Words in binary form. Raises ProtocolError."""
    try:
        found = Words.from_binary(data, max(0, min(rows, MAX_ROWS)))
    except UnicodeDecodeError as error:
        raise _no_utf8(name) from error
    if found is None:
        raise ProtocolError(
            f"the raw contents of {name[:100]!r} are not {rows} words that each follow their length in {LENGTH_BYTES} bytes"
        )
    return found


def _decoded(name: str, words: Sequence[bytes]) -> list[str]:
    try:
        return [word.decode() for word in words]
    except UnicodeDecodeError as error:
        raise _no_utf8(name) from error


def _no_utf8(name: str) -> ProtocolError:
    return ProtocolError(f"the input {name[:100]!r} holds a word that is not UTF-8")


def _serialized(message: Any) -> bytes:  # noqa: ANN401
    data: bytes = message.SerializeToString()
    return data
