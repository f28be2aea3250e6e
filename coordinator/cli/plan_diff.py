"""`covenant plan diff`: what changed since the plan of this name that was launched last."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy import select

from coordinator.cli.options import ContractFile, Home, Json, PlanFile, centre_at
from coordinator.db.engine import reading
from coordinator.db.schema import Run
from coordinator.documents import read_draft
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_diff import Change, PlanDiff, diff
from protos.shell import emit, tell
from strategies.dp.units import Guarantee
from strategies.errors import UsageError

_LESS = "  <- protects less"


def diff_plans(
    plan: PlanFile,
    other: Annotated[
        Path | None,
        typer.Argument(help="The plan before it; without one, the plan of this name that was launched last."),
    ] = None,
    contract: ContractFile = None,
    other_contract: Annotated[
        Path | None,
        typer.Option("--other-contract", help="The contract of OTHER; else NAME.yaml beside it."),
    ] = None,
    home: Home = None,
    json: Json = False,
) -> None:
    """What changed in a plan since the one before it, in sentences, and which of it protects less."""
    new, new_contract = read_draft(plan, contract)
    if other is not None:
        old, old_contract, before = *read_draft(other, other_contract), str(other)
    else:
        old, old_contract, before = last_launched(home, new.name)
    found = diff(old, old_contract, new, new_contract)
    if json:
        emit(_facts(found, old, new, before))
        return
    _show(found, old, new, before)


def last_launched(home: Path | None, name: str) -> tuple[Plan, Contract, str]:
    """The newest run's plan of that name, with its contract and the run. Raises UsageError where none was launched."""
    with reading(centre_at(home).engine, f"looking for plan {name}") as session:
        row = session.scalars(
            select(Run).where(Run.plan_name == name).order_by(Run.submitted_at.desc(), Run.id).limit(1)
        ).first()
        if row is None:
            raise UsageError(
                f"no plan {name} was launched here; name the one to compare with: `covenant plan diff PLAN OTHER`"
            )
        plan, contract = (
            Plan.from_canonical(row.plan.encode()),
            Contract.from_canonical(row.contract.encode()),
        )
        return plan, contract, row.id


def _show(found: PlanDiff, old: Plan, new: Plan, before: str) -> None:
    tell(f"plan {new.name} {new.digest[:12]}, compared with {old.digest[:12]} of {before}")
    if not found.changes:
        tell("nothing changed: it is the same plan, and what was approved stays approved")
        return
    for part, changed in groupby(found.changes, key=lambda each: each.part):
        tell(f"\n{part}")
        for each in changed:
            tell(f"  - {each.sentence}{_LESS * each.loosens}")
    tell(
        f"\nThe whole plan cost {_cost(found.cost_old)}, and costs {_cost(found.cost_new)}.{_LESS * found.costs_more}"
    )
    loosening = sum(each.loosens for each in found.changes)
    tell(
        f"{len(found.changes)} changes, of which {loosening} protect less. All approvals are to be given again."
    )


def _cost(cost: Guarantee | None) -> str:
    return "everything (privacy mode none promises nothing)" if cost is None else cost.words


def _facts(found: PlanDiff, old: Plan, new: Plan, before: str) -> dict[str, Any]:
    return {
        "plan": new.name,
        "old": {"digest": old.digest, "from": before},
        "new": {"digest": new.digest},
        "changes": [_change(each) for each in found.changes],
        "cost": {
            "old": None if found.cost_old is None else found.cost_old.facts(),
            "new": None if found.cost_new is None else found.cost_new.facts(),
            "loosens": found.costs_more,
        },
        "loosens": found.loosens,
    }


def _change(change: Change) -> dict[str, Any]:
    return {
        "about": str(change.part),
        "field": change.field,
        "sentence": change.sentence,
        "old": _plain(change.old),
        "new": _plain(change.new),
        "loosens": change.loosens,
    }


def _plain(value: Any) -> Any:  # noqa: ANN401 (whatever a document holds)
    return dict(value) if hasattr(value, "items") else value
