"""One exported model, loaded only if it is exactly the file that was asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

import numpy as np
import numpy.typing as npt
import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as ort_errors

from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

OUTPUT: Final = "probability"
_REQUIRED: Final = "covenant.required"
_KINDS: Final[Mapping[str, Literal["number", "text"]]] = {
    "tensor(double)": "number",
    "tensor(string)": "text",
}
_LOAD_ERRORS: Final = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NotImplemented,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputColumn:
    """One input, [N, 1]; `required` means that a missing value is refused."""

    name: str
    kind: Literal["number", "text"]
    required: bool


class ScoringModel:
    """An ONNX model made by `coordinator.registry.export`; threads may share it."""

    def __init__(self, session: Any, inputs: tuple[InputColumn, ...]) -> None:  # noqa: ANN401  (no types)
        self._session = session
        self.inputs = inputs

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
        options = onnxruntime.SessionOptions()
        # Requests run side by side on the server's threads; threads inside one tiny inference would only contend.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        try:
            session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
        except _LOAD_ERRORS as error:
            raise Refused(f"the model {path} is not an ONNX model this version can load: {error}") from error
        return cls(session, _inputs(path, session))

    def score(self, columns: Mapping[str, npt.NDArray[Any]]) -> npt.NDArray[np.float32]:
        """Probabilities, (N, 1) float32, for one (N, 1) array an input: float64 or str objects."""
        (scores,) = self._session.run([OUTPUT], dict(columns))
        return np.asarray(scores, dtype=np.float32)


def _inputs(path: Path, session: Any) -> tuple[InputColumn, ...]:  # noqa: ANN401  (no types)
    """The model's inputs. Raises Refused for a model that is not this project's export."""
    facts: dict[str, str] = session.get_modelmeta().custom_metadata_map
    inputs = session.get_inputs()
    fits = [output.name for output in session.get_outputs()] == [OUTPUT]
    if not fits or _REQUIRED not in facts or any(each.type not in _KINDS for each in inputs):
        raise Refused(
            f"the model {path} was not exported by covenant; register the run's model and serve that file"
        )
    required = set(json.loads(facts[_REQUIRED]))
    return tuple(
        InputColumn(name=each.name, kind=_KINDS[each.type], required=each.name in required) for each in inputs
    )
