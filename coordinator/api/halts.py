"""`Halts` of the governance API."""

from __future__ import annotations

from collections.abc import Mapping

from coordinator.api.door import Call, Function
from coordinator.api.messages import halt_message
from coordinator.api.pages import limit_of, page_of, start_of
from coordinator.bootstrap import Centre
from coordinator.governance.halts import view, views
from coordinator.office import halts as office
from protos import governance_pb2 as governance
from protos.halt_lifts import LiftStatement
from protos.halts import HaltOrder


class Halts:
    """Answers for halts."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.governance.v1.Halts/GiveHalt": self.give,
            "covenant.governance.v1.Halts/SayLift": self.say_lift,
            "covenant.governance.v1.Halts/GetHalt": self.get,
            "covenant.governance.v1.Halts/ListHalts": self.list,
        }

    def give(self, request: governance.GiveHaltRequest, call: Call) -> governance.Halt:
        """Halt."""
        order = HaltOrder.from_canonical(request.order)
        return halt_message(office.give(self._centre, call.actor, order, call.asked))

    def say_lift(self, request: governance.SayLiftRequest, call: Call) -> governance.Halt:
        """Keep an officer's word that it may go on."""
        statement = LiftStatement.from_canonical(request.statement)
        return halt_message(office.say_lift(self._centre, call.actor, request.halt, statement, call.asked))

    def get(self, request: governance.GetHaltRequest, call: Call) -> governance.Halt:
        """One halt."""
        del call
        return halt_message(view(self._centre.engine, request.halt))

    def list(self, request: governance.ListHaltsRequest, call: Call) -> governance.ListHaltsResponse:
        """All halts, the latest first."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = views(self._centre.engine, start, limit + 1)
        halts, token = page_of(start, limit, map(halt_message, found))
        return governance.ListHaltsResponse(halts=halts, next_page_token=token)
