"""`Plans` of the governance API."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from coordinator.api.door import Call, Function
from coordinator.api.messages import standing_message
from coordinator.api.pages import limit_of, page_of, start_of
from coordinator.bootstrap import Centre
from coordinator.office import comments
from coordinator.office import plans as office
from coordinator.office.comments import Comment
from protos import governance_pb2 as governance
from protos.approvals import PlanStatement
from protos.contract import Contract
from protos.plan import Plan


class Plans:
    """Answers for plans that were proposed."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.governance.v1.Plans/ProposePlan": self.propose,
            "covenant.governance.v1.Plans/ApprovePlan": self.approve,
            "covenant.governance.v1.Plans/GetPlan": self.get,
            "covenant.governance.v1.Plans/ListPlans": self.list,
            "covenant.governance.v1.Plans/CommentPlan": self.comment,
            "covenant.governance.v1.Plans/ListComments": self.comments,
        }

    def propose(self, request: governance.ProposePlanRequest, call: Call) -> governance.PlanStanding:
        """Keep a plan with its author's statement."""
        plan, contract = Plan.from_canonical(request.plan), Contract.from_canonical(request.contract)
        statement = PlanStatement.from_canonical(request.statement)
        return standing_message(
            office.propose(self._centre, call.actor, plan, contract, statement, call.asked)
        )

    def approve(self, request: governance.ApprovePlanRequest, call: Call) -> governance.PlanStanding:
        """Keep an approval."""
        statement = PlanStatement.from_canonical(request.statement)
        return standing_message(office.approve(self._centre, call.actor, statement, call.asked))

    def get(self, request: governance.GetPlanRequest, call: Call) -> governance.ProposedPlan:
        """A plan in full."""
        del call
        found = office.find_plan(self._centre, request.plan, request.contract)
        return governance.ProposedPlan(
            standing=standing_message(office.standing(self._centre, found)),
            plan=found.plan.canonical,
            contract=found.contract.canonical,
            evidence=found.evidence.canonical,
        )

    def list(self, request: governance.ListPlansRequest, call: Call) -> governance.ListPlansResponse:
        """All plans, the latest first."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = office.list_plans(self._centre, start, limit + 1)
        plans, token = page_of(start, limit, map(standing_message, found))
        return governance.ListPlansResponse(plans=plans, next_page_token=token)

    def comment(self, request: governance.CommentPlanRequest, call: Call) -> governance.PlanComment:
        """Keep a comment."""
        said = comments.comment(
            self._centre, call.actor, request.plan, request.contract, request.text, call.asked
        )
        return comment_message(said)

    def comments(
        self, request: governance.ListCommentsRequest, call: Call
    ) -> governance.ListCommentsResponse:
        """Comments on a plan, the earliest first."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = comments.list_comments(self._centre, request.plan, request.contract, start, limit + 1)
        said, token = page_of(start, limit, map(comment_message, found))
        return governance.ListCommentsResponse(comments=said, next_page_token=token)


def comment_message(said: Comment) -> governance.PlanComment:
    """A comment as a message."""
    return governance.PlanComment(officer=said.officer, at=said.at.isoformat(), text=said.text)


def comment_view(message: governance.PlanComment) -> Comment:
    """The same, read."""
    return Comment(officer=message.officer, at=datetime.fromisoformat(message.at), text=message.text)
