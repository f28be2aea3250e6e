"""One exported model, loaded only if it is exactly the file that was asked for and holds nothing that an export never has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from coordinator.deploy.scoring.operators import InputColumn, Judged, judge
from coordinator.registry.graph import PROBABILITY
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

OUTPUT: Final = PROBABILITY
CHUNK: Final = 256
"""Rows at once: the runtime's cost a row was seen to grow fourfold from 256 to 1024 rows, where comparisons of words leave its caches."""
RUN_ERRORS: Final = (ort_errors.Fail, ort_errors.InvalidArgument, ort_errors.RuntimeException)
_LOAD_ERRORS: Final = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
)

Columns = Mapping[str, npt.NDArray[Any]]


class ScoringModel:
    """An ONNX model made by `coordinator.registry.export`; threads may share it."""

    def __init__(self, session: Any, judged: Judged) -> None:  # noqa: ANN401  (no types)
        self._session = session
        self.judged = judged

    @property
    def inputs(self) -> tuple[InputColumn, ...]:
        """Its inputs, in order."""
        return self.judged.inputs

    @classmethod
    def load(cls, path: Path, *, expected_digest: Digest) -> Self:
        """Read `path` once, check those bytes and load those bytes.

        Raises UsageError when it cannot be read, Refused when its digest or its contents are not as expected.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise UsageError(
                f"the model {path} cannot be read ({error.strerror}); name an exported ONNX file"
            ) from error
        found = sha256_hex(data)
        if found != expected_digest:
            raise Refused(
                f"the model {path} has the digest {found}, not the expected {expected_digest}; "
                "fetch the registered file again"
            )
        return cls.from_bytes(data, f"the model {path}")

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> Self:
        """A model of `data`, whose digest the caller has checked; `source` names it in errors. Raises Refused for what may not be loaded."""
        judged = judge(data, source)
        # What the first layer takes is told as a second output, so that reasons are computed from what was scored.
        judged.proto.graph.output.append(
            onnx.helper.make_tensor_value_info(judged.encoded, onnx.TensorProto.FLOAT, ["N", None])
        )
        return cls(session_of(judged.proto, source), judged)

    def score(self, columns: Columns) -> npt.NDArray[np.float32]:
        """Probabilities, (N, 1) float32, for one (N, 1) array an input: float64 or str objects."""
        return in_chunks(self._session, [OUTPUT], columns)[0]

    def score_and_encode(self, columns: Columns) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Probabilities, (N, 1), and what the first layer took, (N, width), both float32."""
        scores, encoded = in_chunks(self._session, [OUTPUT, self.judged.encoded], columns)
        return scores, encoded


def session_of(proto: Any, source: str) -> Any:  # noqa: ANN401  (no types)
    """A session of the runtime; `source` names the model in errors. Raises Refused for one that it does not take."""
    options = onnxruntime.SessionOptions()
    # Batches run beside each other on the service's threads; threads inside one tiny inference would only contend.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(
            proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
    except _LOAD_ERRORS as error:
        raise Refused(f"{source} is not an ONNX model this version can load: {error}") from error


def in_chunks(session: Any, outputs: Sequence[str], columns: Columns) -> list[npt.NDArray[np.float32]]:  # noqa: ANN401
    """Run a session on arrays that have a row each for N applications, CHUNK rows at a time."""
    rows = len(next(iter(columns.values())))
    parts = [
        session.run(outputs, {name: each[first : first + CHUNK] for name, each in columns.items()})
        for first in range(0, rows, CHUNK)
    ]
    return parts[0] if len(parts) == 1 else [np.concatenate(each) for each in zip(*parts, strict=True)]
