"""The desk over the control API: the same views, from another machine. What the server says of digests is checked against the bytes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator.api.client import ControlClient
from coordinator.api.ledger_desk import RemoteLedger
from coordinator.api.messages import halt_view, run_view, standing_view
from coordinator.api.plans import comment_view
from coordinator.api.policy_desk import RemotePolicies
from coordinator.db.schema import FINAL_STATES
from coordinator.governance.halts import HaltView
from coordinator.governance.log import RawEntry
from coordinator.office.comments import Comment
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import PlanStanding
from coordinator.runs import RunView
from protos import control_pb2 as control
from protos import governance_pb2 as governance
from protos.approvals import PlanEvidence, PlanStatement
from protos.contract import Contract
from protos.files import new_file
from protos.halt_lifts import LiftStatement
from protos.halts import HaltOrder
from protos.log_export import ExportHeader
from protos.plan import Plan
from strategies.errors import Refused
from strategies.ids import RunId, run_id
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_PAGE: Final = 500
_RUNS: Final = "covenant.control.v1.Runs/"
_PLANS: Final = "covenant.governance.v1.Plans/"
_HALTS: Final = "covenant.governance.v1.Halts/"
_LOG: Final = "covenant.governance.v1.Log/"


@dataclass(frozen=True, slots=True)
class RemoteDesk:
    """See `coordinator.desk.Desk`."""

    client: ControlClient

    @property
    def policies(self) -> RemotePolicies:
        """See `Desk.policies`."""
        return RemotePolicies(self.client)

    @property
    def ledger(self) -> RemoteLedger:
        """See `Desk.ledger`."""
        return RemoteLedger(self.client)

    def runs(self) -> Iterable[RunView]:
        """See `Desk.runs`."""
        for page in self.client.pages(
            f"{_RUNS}ListRuns",
            lambda token: control.ListRunsRequest(page_size=_PAGE, page_token=token),
            control.ListRunsResponse,
        ):
            yield from map(run_view, page.runs)

    def watch(self, run: RunId) -> Iterator[RunView]:
        """See `Desk.watch`: a stream that ended before the run is asked for again."""
        request = control.GetRunRequest(run=run)
        for message in self.client.lasting(f"{_RUNS}WatchRun", lambda: request, control.Run):
            now = run_view(message)
            yield now
            if now.state in FINAL_STATES:
                return

    def launch(self, what: ProposedPlan, request_id: str | None = None) -> RunId:
        """See `Desk.launch`."""
        documents = control.Documents(
            plan=what.plan.canonical,
            contract=what.contract.canonical,
            evidence=what.evidence.canonical if what.evidence.statements else b"",
        )
        return self._launched(
            lambda id_: control.LaunchRunRequest(request_id=id_, documents=documents), request_id
        )

    def launch_proposed(self, plan: str, contract: str, request_id: str | None = None) -> RunId:
        """See `Desk.launch_proposed`."""
        name = control.PlanName(plan=plan, contract=contract)
        return self._launched(lambda id_: control.LaunchRunRequest(request_id=id_, proposed=name), request_id)

    def stop(self, run: RunId) -> None:
        """See `Desk.stop`."""
        self.client.change(
            f"{_RUNS}StopRun", lambda id_: control.ChangeRunRequest(request_id=id_, run=run), control.Run
        )

    def resume(self, run: RunId) -> None:
        """See `Desk.resume`."""
        self.client.change(
            f"{_RUNS}ResumeRun", lambda id_: control.ChangeRunRequest(request_id=id_, run=run), control.Run
        )

    def propose(self, what: ProposedPlan, statement: PlanStatement) -> PlanStanding:
        """See `Desk.propose`."""
        return standing_view(
            self.client.change(
                f"{_PLANS}ProposePlan",
                lambda id_: governance.ProposePlanRequest(
                    request_id=id_,
                    plan=what.plan.canonical,
                    contract=what.contract.canonical,
                    statement=statement.canonical,
                ),
                governance.PlanStanding,
            )
        )

    def approve(self, statement: PlanStatement) -> PlanStanding:
        """See `Desk.approve`."""
        return standing_view(
            self.client.change(
                f"{_PLANS}ApprovePlan",
                lambda id_: governance.ApprovePlanRequest(request_id=id_, statement=statement.canonical),
                governance.PlanStanding,
            )
        )

    def plan(self, plan: str, contract: str) -> tuple[ProposedPlan, PlanStanding]:
        """See `Desk.plan`; refuses another plan than was asked for."""
        sent = self.client.ask(
            f"{_PLANS}GetPlan",
            governance.GetPlanRequest(plan=plan, contract=contract),
            governance.ProposedPlan,
        )
        found = ProposedPlan(
            plan=Plan.from_canonical(sent.plan),
            contract=Contract.from_canonical(sent.contract),
            evidence=PlanEvidence.from_canonical(sent.evidence),
        )
        if not found.plan.digest.startswith(plan) or not found.contract.digest.startswith(contract):
            raise Refused(
                f"{self.client.server} sent plan {found.plan.digest} for {plan}: it is not what was asked for; sign nothing"
            )
        return found, standing_view(sent.standing)

    def plans(self) -> Iterable[PlanStanding]:
        """See `Desk.plans`."""
        for page in self.client.pages(
            f"{_PLANS}ListPlans",
            lambda token: governance.ListPlansRequest(page_size=_PAGE, page_token=token),
            governance.ListPlansResponse,
        ):
            yield from map(standing_view, page.plans)

    def comment(self, plan: str, contract: str, text: str) -> Comment:
        """See `Desk.comment`."""
        return comment_view(
            self.client.change(
                f"{_PLANS}CommentPlan",
                lambda id_: governance.CommentPlanRequest(
                    request_id=id_, plan=plan, contract=contract, text=text
                ),
                governance.PlanComment,
            )
        )

    def comments(self, plan: str, contract: str) -> Iterable[Comment]:
        """See `Desk.comments`."""
        for page in self.client.pages(
            f"{_PLANS}ListComments",
            lambda token: governance.ListCommentsRequest(
                plan=plan, contract=contract, page_size=_PAGE, page_token=token
            ),
            governance.ListCommentsResponse,
        ):
            yield from map(comment_view, page.comments)

    def entries(self, last: int, kind: str | None) -> tuple[int, list[RawEntry]]:
        """See `Desk.entries`."""
        size, found = 0, []
        for page in self.client.pages(
            f"{_LOG}ListEntries",
            lambda token: governance.ListEntriesRequest(
                last=last, kind=kind or "", page_size=_PAGE, page_token=token
            ),
            governance.ListEntriesResponse,
        ):
            size = page.size
            found += [RawEntry(each.seq, each.body) for each in page.entries]
        return size, found

    def events(self, start: int | None) -> Iterator[RawEntry]:
        """See `Desk.events`: a stream that ended is asked for again, from where it stopped."""
        position = self.entries(1, None)[0] if start is None else start

        def from_there() -> governance.WatchEventsRequest:
            return governance.WatchEventsRequest(start=position)

        for each in self.client.lasting(f"{_LOG}WatchEvents", from_there, governance.Entry):
            position = each.seq + 1
            yield RawEntry(each.seq, each.body)

    def checkpoint(self) -> tuple[SignedNote, NoteKey]:
        """See `Desk.checkpoint`."""
        head = self.client.ask(
            f"{_LOG}GetCheckpoint", governance.GetCheckpointRequest(), governance.SignedHead
        )
        return SignedNote.parse(head.note), NoteKey.parse(head.key)

    def export(self, file: Path) -> Checkpoint:
        """See `Desk.export`. Nothing of it is believed: `covenant log verify` does."""
        first = b""
        with new_file(file) as opened:
            for piece in self.client.stream(
                f"{_LOG}Export", governance.ExportRequest(), governance.ExportPiece
            ):
                first = first or piece.data.partition(b"\n")[0]
                opened.write(piece.data)
        return Checkpoint.parse(SignedNote.parse(ExportHeader.from_canonical(first).checkpoint).text)

    def halts(self) -> Iterable[HaltView]:
        """See `Desk.halts`."""
        for page in self.client.pages(
            f"{_HALTS}ListHalts",
            lambda token: governance.ListHaltsRequest(page_size=_PAGE, page_token=token),
            governance.ListHaltsResponse,
        ):
            yield from map(halt_view, page.halts)

    def halt(self, halt_id: str) -> HaltView:
        """See `Desk.halt`; refuses another halt than was asked for."""
        request = governance.GetHaltRequest(halt=halt_id)
        found = halt_view(self.client.ask(f"{_HALTS}GetHalt", request, governance.Halt))
        if not found.order.id.startswith(halt_id):
            raise Refused(
                f"{self.client.server} sent halt {found.order.id} for {halt_id}: it is not what was asked for; sign nothing"
            )
        return found

    def give_halt(self, order: HaltOrder) -> HaltView:
        """See `Desk.give_halt`."""
        return halt_view(
            self.client.change(
                f"{_HALTS}GiveHalt",
                lambda id_: governance.GiveHaltRequest(request_id=id_, order=order.canonical),
                governance.Halt,
            )
        )

    def say_lift(self, halt_id: str, statement: LiftStatement) -> HaltView:
        """See `Desk.say_lift`."""
        return halt_view(
            self.client.change(
                f"{_HALTS}SayLift",
                lambda id_: governance.SayLiftRequest(
                    request_id=id_, halt=halt_id, statement=statement.canonical
                ),
                governance.Halt,
            )
        )

    def _launched(self, make: Callable[[str], control.LaunchRunRequest], request_id: str | None) -> RunId:
        done = self.client.change(f"{_RUNS}LaunchRun", make, control.LaunchRunResponse, request_id)
        return run_id(done.run)
