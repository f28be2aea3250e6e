"""A run's documents, read and checked together before anything is stored or anybody is asked."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Final

from coordinator.governance.members import Listed
from coordinator.rounds.question import RunDocuments
from coordinator.settings import Settings
from protos.approvals import PlanEvidence, require_approved
from protos.contract import Contract
from protos.documents import load_document
from protos.membership import Membership, Trusted, check_members
from protos.plan import Plan
from protos.plan_fit import check_contract, check_plan
from protos.root import SignedRoot
from strategies.errors import UsageError
from strategies.ids import RunId

_PLAN_SUFFIXES: Final = (".yaml", ".yml", ".json")


def read_plan(plan_file: Path, contract_file: Path | None = None) -> tuple[Plan, Contract]:
    """A plan and its contract, found beside the plan as NAME.yaml unless given; raises `UsageError` where they do not fit."""
    plan, contract = read_draft(plan_file, contract_file)
    check_plan(plan, contract)
    return plan, contract


def read_draft(plan_file: Path, contract_file: Path | None = None) -> tuple[Plan, Contract]:
    """`read_plan` of a plan that may cost more than its own limit: to be explained or calibrated, not to be run."""
    plan = load_document(plan_file, Plan)
    beside = plan_file.parent / f"{plan.contract.partition('@')[0]}.yaml"
    contract = load_document(contract_file or beside, Contract)
    check_contract(plan, contract)
    return plan, contract


def evidence_file(plan_file: Path) -> Path:
    """Where the statements about the plan in `plan_file` are kept: beside it. Raises UsageError where another plan would have the same file."""
    for suffix in _PLAN_SUFFIXES:
        other = plan_file.with_suffix(suffix)
        if other.name != plan_file.name and other.exists():
            raise UsageError(
                f"{plan_file} and {other} would both have {plan_file.with_suffix('.evidence.json').name} beside them; rename one of the two"
            )
    return plan_file.with_suffix(".evidence.json")


def read_evidence(plan_file: Path) -> PlanEvidence:
    """What is said about the plan in `plan_file`, checked by nobody yet; nothing where there is no such file. Raises `CovenantError`."""
    path = evidence_file(plan_file)
    return load_document(path, PlanEvidence) if path.exists() else PlanEvidence()


def read_membership(path: Path) -> Membership:
    """The member list in `path` and the roots that lead to it, verified by nobody yet. Raises `CovenantError`."""
    try:
        return Membership.from_canonical(path.read_bytes().strip())
    except FileNotFoundError as error:
        raise UsageError(f"{path} does not exist; make a member list with `covenant site certify`") from error
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error


def read_members(settings: Settings) -> tuple[Membership, Trusted]:
    """The federation's member list, verified against its root; raises `Refused` for a draft."""
    membership = read_membership(settings.members_file)
    return membership, membership.verify(read_root(settings))


def read_listed(settings: Settings) -> Listed:
    """The same, with all that it was verified by."""
    return Listed.of(read_membership(settings.members_file), read_root(settings))


def read_root(settings: Settings) -> SignedRoot:
    """Version 1 of the federation's root, which everything is verified against. Raises `CovenantError`."""
    return load_document(settings.root_file, SignedRoot)


def assemble(
    settings: Settings, run: RunId, plan_file: Path, contract_file: Path | None = None, *, now: datetime
) -> RunDocuments:
    """Everything a run needs; raises `CovenantError` with the first reason why it cannot be launched `now`."""
    plan, contract = read_plan(plan_file, contract_file)
    membership, trusted = read_members(settings)
    trusted.root.require_current(now)
    check_members(plan, trusted.members)
    evidence = read_evidence(plan_file)
    require_approved(plan, contract, evidence, trusted, [plan.approval_rule], now)
    return RunDocuments(
        run=run,
        plan=plan,
        contract=contract,
        members=membership.canonical,
        evidence=evidence.canonical if evidence.statements else b"",
    )
