"""What differs from request to request of a run: the documents that it names, and whom, which stage and which round it is about."""

from __future__ import annotations

from client.admission.documents import Accepted
from client.refusal import TaskRefused
from protos.frames import RefusalCode, Request, Stage, Statement
from protos.plan import Plan
from strategies.encoding import sha256_hex
from strategies.ids import SiteName


def check_named(request: Request) -> None:
    """Judge whether the documents of `request` are those that its statement names; raises `TaskRefused`."""
    said, task = request.statement, request.task
    for name, data, named in (
        ("plan", task.plan, said.plan_digest),
        ("contract", task.contract, said.contract_digest),
        ("member list", task.members, said.members_digest),
    ):
        if sha256_hex(data) != named:
            raise TaskRefused(RefusalCode.PROTOCOL, f"the {name} is not the one that the statement names")


def check_statement(statement: Statement, accepted: Accepted, *, site: SiteName) -> None:
    """Judge what differs from request to request of an accepted task; raises `TaskRefused`."""
    strangers = sorted(set(statement.roster) - set(accepted.plan.sites.invite))
    if strangers:
        raise TaskRefused(
            RefusalCode.PROTOCOL, f"the roster names {strangers[0]}, which the plan does not invite"
        )
    if site not in statement.roster:
        raise TaskRefused(RefusalCode.PROTOCOL, "the roster does not name this site")
    if statement.component != accepted.plan.training.component:
        raise TaskRefused(
            RefusalCode.PROTOCOL, f"the statement names component {statement.component}, the plan another"
        )
    if not _is_planned(statement, accepted.plan):
        raise TaskRefused(
            RefusalCode.PROTOCOL,
            f"the plan has no {statement.stage.name.lower()} stage in round {statement.round}: it trains for"
            f" {accepted.plan.training.rounds} rounds and evaluates every {accepted.plan.evaluation.every}",
        )


def _is_planned(statement: Statement, plan: Plan) -> bool:
    match statement.stage:
        case Stage.PREPARE:
            return statement.round == 0
        case Stage.TRAIN:
            return 1 <= statement.round <= plan.training.rounds
        case Stage.EVALUATE:
            return plan.evaluates(statement.round)
