"""What officers decide about models over the control API."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.api.door import Call, Function
from coordinator.bootstrap import Centre
from coordinator.office import gate
from protos import control_pb2 as control


class ModelGate:
    """Answers for the gate."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {"covenant.control.v1.Models/ValidateModel": self.validate}

    def validate(self, request: control.ValidateModelRequest, call: Call) -> control.ValidateModelResponse:
        """Have a version judged."""
        verdict, stage = gate.validate(
            self._centre, call.actor, request.name, request.version, request.why, call.asked
        )
        return control.ValidateModelResponse(verdict=verdict.canonical, stage=str(stage))
