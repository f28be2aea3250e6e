"""`covenant plan new`: a whole plan to begin with, which `plan check` accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from coordinator.cli.options import Json
from coordinator.cli.signing import PUBLIC_MODE
from coordinator.documents import read_membership
from protos.contract import Contract
from protos.documents import load_document, read_document
from protos.files import write_new
from protos.plan import Plan
from protos.plan_calibration import calibrate, values_of
from protos.plan_draft import kind_of, written
from protos.plan_evaluation import Champion
from protos.plan_fit import check_plan
from protos.plan_privacy import Privacy
from protos.shell import emit, tell
from protos.yaml_edit import with_values
from strategies.errors import UsageError

_SHARES = {"preparation": 0.1, "evaluation": 0.1}
_FEWEST_SITES = 3


def new_plan(
    name: Annotated[str, typer.Argument(help="The name of the plan, and of the model that comes of it.")],
    contract: Annotated[
        Path | None, typer.Option(help="The data contract; else the only one in this folder.")
    ] = None,
    members: Annotated[Path, typer.Option(help="The member list, whose sites are all invited.")] = Path(
        "members.json"
    ),
    mode: Annotated[
        Literal["distributed", "central", "local", "none"],
        typer.Option(help="Who adds the noise: the sites together, the coordinator, each site, or nobody."),
    ] = "distributed",
    purpose: Annotated[str, typer.Option(help="A label that every site's policy must list.")] = "credit-risk",
    champion: Annotated[
        Path | None,
        typer.Option(
            help="What `covenant model champion` printed of a registered model that scores the same rows."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The file to write; else NAME.yaml.")] = None,
    json: Json = False,
) -> None:
    """Write a plan that `plan check` accepts, with a comment at whatever is to be decided; asks nothing, overwrites nothing."""
    target = out or Path(f"{name}.yaml")
    if target.exists():
        raise UsageError(f"{target} exists, and a plan is never overwritten; name a new file with --out")
    agreed = load_document(contract or _only_contract(), Contract)
    listed = read_membership(members).signed.list
    sites = [each.site for each in listed.members]
    if len(sites) < _FEWEST_SITES:
        raise UsageError(
            f"{members} has {len(sites)} sites, and no sum is opened over fewer than {_FEWEST_SITES}; certify more with `covenant site certify`"
        )
    against = None if champion is None else load_document(champion, Champion)
    text = written(
        kind_of(mode), agreed, name=name, purpose=purpose, members=listed.ref, sites=sites, champion=against
    )
    text, plan = fitted(text, agreed, str(target))
    write_new(target, text.encode(), mode=PUBLIC_MODE)
    if json:
        emit({"plan": plan.name, "digest": plan.digest, "written": str(target)})
        return
    tell(
        f"wrote {target}: check it with `covenant plan check {target}`, and read it with `covenant plan explain {target}`"
    )


def fitted(text: str, contract: Contract, source: str) -> tuple[str, Plan]:
    """The text of a plan with the least noise that keeps its limit, and the plan, which was checked. Raises UsageError."""
    plan = read_document(text, Plan, source)
    if isinstance(plan.privacy, Privacy):
        found = calibrate(plan, contract, epsilon=plan.privacy.limit.epsilon, split=_SHARES)
        before = values_of(plan)
        values = {path: value for path, value in values_of(found.plan).items() if value != before.get(path)}
        text = with_values(text, values)
        plan = read_document(text, Plan, source)
    check_plan(plan, contract)
    return text, plan


def _only_contract() -> Path:
    """The contract in this folder. Raises UsageError unless there is one."""
    found = [path for path in sorted(Path().glob("*.yaml")) if _is_contract(path)]
    if len(found) != 1:
        raise UsageError(
            f"there {'are' if found else 'is'} {', '.join(map(str, found)) or 'no contract'} in this folder; name one with --contract"
        )
    return found[0]


def _is_contract(path: Path) -> bool:
    try:
        load_document(path, Contract)
    except UsageError:
        return False
    return True
