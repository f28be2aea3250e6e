"""`Runs` of the control API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from coordinator import runs as views
from coordinator.api.door import Call, Function
from coordinator.api.messages import run_message
from coordinator.api.pages import limit_of, page_of, start_of
from coordinator.bootstrap import Centre
from coordinator.db.schema import FINAL_STATES
from coordinator.office import runs as office
from coordinator.office.plans import ProposedPlan, find_plan
from protos import control_pb2 as control
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.plan import Plan
from strategies.errors import UsageError
from strategies.ids import run_id


class Runs:
    """Answers for runs."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.control.v1.Runs/LaunchRun": self.launch,
            "covenant.control.v1.Runs/ListRuns": self.list,
            "covenant.control.v1.Runs/GetRun": self.get,
            "covenant.control.v1.Runs/WatchRun": self.watch,
            "covenant.control.v1.Runs/StopRun": self.stop,
            "covenant.control.v1.Runs/ResumeRun": self.resume,
        }

    def launch(self, request: control.LaunchRunRequest, call: Call) -> control.LaunchRunResponse:
        """Launch a plan that was proposed here, or one that comes with its evidence."""
        match request.WhichOneof("what"):
            case "proposed":
                found = find_plan(self._centre, request.proposed.plan, request.proposed.contract)
            case "documents":
                found = _documents(request.documents)
            case _:
                raise UsageError("a launch of nothing: name a plan that was proposed, or send its documents")
        return control.LaunchRunResponse(run=office.launch(self._centre, call.actor, found, call.asked))

    def list(self, request: control.ListRunsRequest, call: Call) -> control.ListRunsResponse:
        """All runs, the latest first."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = map(run_message, views.views(self._centre.engine, start, limit + 1))
        runs, token = page_of(start, limit, found)
        return control.ListRunsResponse(runs=runs, next_page_token=token)

    def get(self, request: control.GetRunRequest, call: Call) -> control.Run:
        """Where a run stands."""
        del call
        return run_message(views.view(self._centre.engine, run_id(request.run)))

    def watch(self, request: control.GetRunRequest, call: Call) -> Iterator[control.Run]:
        """Where a run stands, whenever that changes, until it is over."""
        run, told = run_id(request.run), None
        while True:
            now = views.view(self._centre.engine, run)
            if now != told:
                yield run_message(now)
                told = now
            if now.state in FINAL_STATES or not call.goes_on():
                return

    def stop(self, request: control.ChangeRunRequest, call: Call) -> control.Run:
        """Stop a run."""
        run = run_id(request.run)
        office.stop(self._centre, call.actor, run, call.asked)
        return run_message(views.view(self._centre.engine, run))

    def resume(self, request: control.ChangeRunRequest, call: Call) -> control.Run:
        """Go on with a run."""
        run = run_id(request.run)
        office.resume(self._centre, call.actor, run, call.asked)
        return run_message(views.view(self._centre.engine, run))


def _documents(sent: control.Documents) -> ProposedPlan:
    return ProposedPlan(
        plan=Plan.from_canonical(sent.plan),
        contract=Contract.from_canonical(sent.contract),
        evidence=PlanEvidence.from_canonical(sent.evidence) if sent.evidence else PlanEvidence(),
    )
