"""`covenant plan sign`, `approve` and `status`: who stands behind a plan, in a file beside it that goes from officer to officer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Access, ContractFile, Home, Json, PlanFile, PlanName, desk_at
from coordinator.cli.proposals import confirm, find, is_digest, show_standing
from coordinator.cli.signing import PUBLIC_MODE, now, open_keys
from coordinator.documents import evidence_file, read_evidence, read_members, read_plan
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import standing_of
from coordinator.settings import load_settings
from protos.approvals import (
    PlanEvidence,
    PlanStatement,
    approve,
    author,
)
from protos.contract import Contract
from protos.files import replace_file
from protos.keys import Signer
from protos.membership import Role
from protos.moments import end_of_day
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_words import mode_words
from protos.shell import emit, people
from strategies.errors import UsageError

OfficerName = Annotated[
    str, typer.Option("--officer", help="Who signs, by the name on the member list; the key must be theirs.")
]
Key = Annotated[Path, typer.Option("--key", help="The officer's private key.")]
PassphraseFile = Annotated[
    Path | None,
    typer.Option(
        "--passphrase-file",
        help="File with the key's passphrase, mode 0600. Without it the terminal is asked.",
    ),
]
Expires = Annotated[
    str | None,
    typer.Option(
        help="Last day of this signature, YYYY-MM-DD, to its end in UTC; as long as the plan's `approvals.valid_for` if left out."
    ),
]


def sign(
    plan: PlanFile,
    officer: OfficerName,
    key: Key,
    contract: ContractFile = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    access: Access = None,
) -> None:
    """Sign a plan as its author. The signature goes into PLAN.evidence.json beside it, which officers then approve; with --access, to the coordinator."""

    def say(parsed: Plan, agreed: Contract, signer: Signer) -> PlanStatement:
        return author(parsed, agreed, officer, signer, expires=_until(parsed, expires))

    if access is not None:
        parsed, agreed = read_plan(plan, contract)
        said = _said(parsed, agreed, key, passphrase_file, say)
        what = ProposedPlan(plan=parsed, contract=agreed, evidence=PlanEvidence())
        show_standing(desk_at(None, access).propose(what, said))
        return
    _sign(plan, contract, key, passphrase_file, say)


def approve_plan(
    plan: PlanName,
    role: Annotated[Role, typer.Option("--as", help="The role that is exercised.")],
    officer: OfficerName,
    key: Key,
    contract: ContractFile = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    *,
    access: Access = None,
    yes: Annotated[bool, typer.Option("--yes", help="With --access: do not ask whether to sign.")] = False,
) -> None:
    """Approve a plan in one role, after reading what it does. Its author cannot, and nobody counts for two roles.

    With --access PLAN may be a digest: the plan is fetched, checked against it and shown, and the approval goes to the coordinator.
    """

    def say(parsed: Plan, agreed: Contract, signer: Signer) -> PlanStatement:
        return approve(parsed, agreed, officer, role, signer, expires=_until(parsed, expires))

    if access is not None:
        desk = desk_at(None, access)
        found, _ = find(desk, plan, contract)
        _show(found.plan, found.evidence)
        said = _said(found.plan, found.contract, key, passphrase_file, say, yes=yes)
        show_standing(desk.approve(said))
        return
    _sign(plan, contract, key, passphrase_file, say)


def status(
    plan: PlanName,
    contract: ContractFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Who has signed and approved a plan, who is missing, and until when it may be launched.

    Of a file, by what lies beside it; of a digest, or with --access, by what the coordinator has.
    """
    if access is not None or is_digest(plan):
        found, standing = find(desk_at(home, access), plan, contract)
        parsed, evidence = found.plan, found.evidence
    else:
        parsed, agreed = read_plan(plan, contract)
        evidence = read_evidence(plan)
        _, trusted = read_members(load_settings(home))
        standing = standing_of(parsed, agreed, evidence, trusted.members, now())
    if json:
        emit(standing.facts())
    else:
        _show(parsed, evidence)
        show_standing(standing)


def _sign(
    plan_file: Path,
    contract_file: Path | None,
    key: Path,
    passphrase_file: Path | None,
    say: Callable[[Plan, Contract, Signer], PlanStatement],
) -> None:
    """Show what is signed, then ask for the passphrase, sign and keep what was said."""
    plan, contract = read_plan(plan_file, contract_file)
    _add(plan_file, plan, contract, _said(plan, contract, key, passphrase_file, say))


def _said(
    plan: Plan,
    contract: Contract,
    key: Path,
    passphrase_file: Path | None,
    say: Callable[[Plan, Contract, Signer], PlanStatement],
    *,
    yes: bool = True,
) -> PlanStatement:
    """Show what is signed, ask unless `yes`, then for the passphrase, and sign."""
    people.print(_words(plan, contract), highlight=False)
    confirm("Approve this plan?", yes=yes)
    (signer,) = open_keys([key], None if passphrase_file is None else [passphrase_file])
    return say(plan, contract, signer)


def _until(plan: Plan, day: str | None) -> datetime:
    """The last moment of a statement. Raises UsageError for a day that is over, or later than the plan admits."""
    signed, longest = now().replace(microsecond=0), timedelta(seconds=plan.approval_rule.valid_for)
    if day is None:
        return signed + longest
    chosen = end_of_day(day)
    if not signed <= chosen <= signed + longest:
        raise UsageError(
            f"--expires {day}: name a day that is to come, no later than the plan's `approvals.valid_for` admits,"
            f" {signed + longest:%Y-%m-%d %H:%M} UTC"
        )
    return chosen


def _add(plan_file: Path, plan: Plan, contract: Contract, said: PlanStatement) -> None:
    """Put a statement into the file beside the plan, in the place of what was said before the plan was changed."""
    path, before = evidence_file(plan_file), read_evidence(plan_file)
    kept = before.about(plan.digest, contract.digest)
    evidence = kept.adding(said)
    replace_file(path, evidence.canonical + b"\n", mode=PUBLIC_MODE)
    gone = sorted(
        {each.officer for each in before.statements} - {each.officer for each in evidence.statements}
    )
    if gone:
        people.print(
            f"what {' and '.join(gone)} signed was about the plan before it was changed, and is no longer in {path}",
            highlight=False,
        )
    act = "signed as its author" if said.act == "author" else f"approved as {said.role}"
    people.print(
        f"{act} by {said.officer}, good until {said.expires:%Y-%m-%d %H:%M} UTC: {path}", highlight=False
    )


def _words(plan: Plan, contract: Contract) -> str:
    """What is signed, for whoever signs it."""
    sites = plan.sites
    lines = [
        f"plan {plan.name}, digest {plan.digest}",
        f"   for {plan.purpose}, on data under contract {contract.ref}, digest {contract.digest}",
        f"   at {', '.join(sites.invite)}, at least {sites.minimum} of them; member list {sites.members}",
        f"   {plan.training.algorithm} for {plan.training.rounds} rounds, {plan.aggregation.mode} aggregation",
        f"   privacy is {mode_words(plan)}",
    ]
    if isinstance(plan.privacy, Privacy):
        limit = plan.privacy.limit
        lines.append(
            f"   its limit is epsilon {limit.epsilon:g} at delta {limit.delta:g} for each {plan.privacy.unit.unit.words};"
            " `covenant privacy explain` says more"
        )
    return "\n".join(lines)


def _show(plan: Plan, evidence: PlanEvidence) -> None:
    table = Table("officer", "as", "plan", "until", title=f"plan {plan.name} {plan.digest[:12]}")
    for each in evidence.statements:
        about = "this one" if each.plan == plan.digest else each.plan[:12]
        role = "author" if each.act == "author" else str(each.role)
        table.add_row(each.officer, role, about, f"{each.expires:%Y-%m-%d %H:%M} UTC")
    if table.row_count:
        people.print(table)
