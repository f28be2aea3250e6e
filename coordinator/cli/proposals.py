"""Plans at the coordinator: named by file or by digest, shown before they are signed, and how far they are approved."""

from __future__ import annotations

import re
from pathlib import Path

from rich.table import Table

from coordinator.desk import Desk
from coordinator.documents import read_plan
from coordinator.office.plans import FEWEST_DIGITS, ProposedPlan
from coordinator.office.standing import PlanStanding
from protos.shell import emit, people

_SHORT = 12
_DIGEST = re.compile(rf"[0-9a-f]{{{FEWEST_DIGITS},64}}")


def is_digest(plan: Path) -> bool:
    """Whether `plan` names a plan that was proposed, and no file."""
    return _DIGEST.fullmatch(str(plan)) is not None and not plan.exists()


def find(desk: Desk, plan: Path, contract: Path | None) -> tuple[ProposedPlan, PlanStanding]:
    """The proposed plan that a digest, or the officer's own copy in a file, names. Raises `CovenantError`."""
    if is_digest(plan):
        return desk.plan(str(plan), "")
    parsed, agreed = read_plan(plan, contract)
    return desk.plan(parsed.digest, agreed.digest)


def show_standing(standing: PlanStanding) -> None:
    """Who is missing, and whether the plan may be launched."""
    for each in standing.missing:
        people.print(
            f"missing: {each.asked - each.given} as {each.role}, from {' or '.join(each.could) or 'nobody on the list'}",
            highlight=False,
        )
    people.print(standing.reason or "approved: it may be launched", highlight=False)


def list_plans(desk: Desk, *, json: bool) -> None:
    """All plans that were proposed."""
    found = list(desk.plans())
    if json:
        emit({"plans": [each.facts() for each in found]})
        return
    table = Table("plan", "digest", "author", "approved by", "missing")
    for each in found:
        missing = ", ".join(f"{one.asked - one.given} {one.role}" for one in each.missing)
        by = ", ".join(f"{one.officer} ({one.role})" for one in each.approvals)
        table.add_row(each.plan, each.digest[:_SHORT], each.author or "", by, missing)
    people.print(table)
