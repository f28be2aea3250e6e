"""`covenant plan sign`, `approve` and `status`: who stands behind a plan, in a file beside it that goes from officer to officer."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.cli.options import ContractFile, Home, Json, PlanFile
from coordinator.cli.signing import PUBLIC_MODE, confirm, now, open_keys
from coordinator.documents import evidence_file, read_evidence, read_members, read_plan
from coordinator.settings import load_settings
from protos.approvals import (
    PlanEvidence,
    PlanStatement,
    approve,
    author,
    lacking,
    require_approved,
)
from protos.contract import Contract
from protos.documents import load_document
from protos.files import replace_file
from protos.keys import Signer, grouped
from protos.membership import Role, Trusted, check_members
from protos.moments import end_of_day
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_words import mode_words
from protos.root import SignedRoot
from protos.shell import emit, people
from strategies.errors import Refused, UsageError
from strategies.ids import Digest

OfficerName = Annotated[
    str, typer.Option("--officer", help="Who signs, by the name on the member list; the key must be theirs.")
]
Key = Annotated[Path, typer.Option("--key", help="The officer's private key.")]
RootFile = Annotated[
    Path,
    typer.Option(
        "--root",
        help="The federation's root, in any version that you trust: what is signed counts there only.",
    ),
]
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


Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; needed where nobody is at a terminal.")]


def sign(
    plan: PlanFile,
    officer: OfficerName,
    key: Key,
    root: RootFile,
    contract: ContractFile = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    *,
    yes: Yes = False,
) -> None:
    """Sign a plan as its author. The signature goes into PLAN.evidence.json beside it, which officers then approve.

    What was signed before the plan was changed is dropped, after a question.
    """

    def say(parsed: Plan, agreed: Contract, federation: Digest, signer: Signer) -> PlanStatement:
        until = _until(parsed, expires)
        return author(parsed, agreed, officer, signer, federation=federation, expires=until)

    _sign(plan, contract, root, key, passphrase_file, say, question=None, yes=yes)


def approve_plan(
    plan: PlanFile,
    role: Annotated[Role, typer.Option("--as", help="The role that is exercised.")],
    officer: OfficerName,
    key: Key,
    root: RootFile,
    contract: ContractFile = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    *,
    yes: Yes = False,
) -> None:
    """Approve a plan in one role, after reading what it does and saying so. Its author cannot, and nobody counts for two roles."""

    def say(parsed: Plan, agreed: Contract, federation: Digest, signer: Signer) -> PlanStatement:
        until = _until(parsed, expires)
        return approve(parsed, agreed, officer, role, signer, federation=federation, expires=until)

    _sign(plan, contract, root, key, passphrase_file, say, question=f"Approve it as {role}?", yes=yes)


def status(plan: PlanFile, contract: ContractFile = None, home: Home = None, json: Json = False) -> None:
    """Who has signed and approved a plan, who is missing, and until when it may be launched."""
    parsed, agreed = read_plan(plan, contract)
    evidence = read_evidence(plan)
    _, trusted = read_members(load_settings(home))
    facts = _standing(parsed, agreed, evidence, trusted)
    if json:
        emit(facts)
    else:
        _show(parsed, evidence, facts)


def _sign(
    plan_file: Path,
    contract_file: Path | None,
    root_file: Path,
    key: Path,
    passphrase_file: Path | None,
    say: Callable[[Plan, Contract, Digest, Signer], PlanStatement],
    *,
    question: str | None,
    yes: bool,
) -> None:
    """Show what is signed, ask where there is something to ask, then for the passphrase, sign and keep what was said."""
    plan, contract = read_plan(plan_file, contract_file)
    federation = _federation(plan, root_file)
    people.print(
        f"{_words(plan, contract)}\n   in the federation with root {grouped(federation)}", highlight=False
    )
    gone = _said_before(plan_file, plan, contract)
    if gone:
        people.print(
            f"what {' and '.join(gone)} signed was about the plan before it was changed, and will be dropped",
            highlight=False,
        )
    if question is not None or gone:
        confirm(question or "Sign it, and drop what was signed before?", yes=yes)
    (signer,) = open_keys([key], None if passphrase_file is None else [passphrase_file])
    _add(plan_file, plan, contract, say(plan, contract, federation, signer))


def _federation(plan: Plan, root_file: Path) -> Digest:
    """The federation of the root in `root_file`. Raises UsageError if the plan is for one of another name, Refused for a draft."""
    signed = load_document(root_file, SignedRoot)
    signed.require_own_quorum()
    name = plan.sites.members.partition("@")[0]
    if signed.root.federation != name:
        raise UsageError(
            f"{root_file} is the root of {signed.root.federation}, and the plan is for member list {plan.sites.members}; name the root of {name}"
        )
    return signed.root.identity


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
    evidence = before.about(plan.digest, contract.digest).adding(said)
    replace_file(path, evidence.canonical + b"\n", mode=PUBLIC_MODE)
    act = "signed as its author" if said.act == "author" else f"approved as {said.role}"
    people.print(
        f"{act} by {said.officer}, good until {said.expires:%Y-%m-%d %H:%M} UTC: {path}", highlight=False
    )


def _said_before(plan_file: Path, plan: Plan, contract: Contract) -> list[str]:
    """Who has signed what this plan, or its contract, was before."""
    evidence = read_evidence(plan_file)
    kept = evidence.about(plan.digest, contract.digest)
    return sorted(each.officer for each in evidence.statements if each not in kept.statements)


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


def _standing(plan: Plan, contract: Contract, evidence: PlanEvidence, trusted: Trusted) -> dict[str, Any]:
    rule, at, members = plan.approval_rule, now(), trusted.members
    reason = None
    try:
        check_members(plan, members)
        require_approved(plan, contract, evidence, trusted, [rule], at)
    except Refused as refused:
        reason = str(refused)
    expiries = [each.expires for each in evidence.statements]
    return {
        "plan": plan.name,
        "digest": plan.digest,
        "contract": {"ref": contract.ref, "digest": contract.digest},
        "members": members.ref,
        "author": None if evidence.author is None else evidence.author.officer,
        "approvals": [
            {"officer": each.officer, "role": str(each.role), "expires": each.expires.isoformat()}
            for each in evidence.approvals
        ],
        "missing": [
            {"role": str(each.role), "given": each.given, "asked": each.asked, "could": list(each.could)}
            for each in lacking([rule], evidence, members)
        ],
        "approved": reason is None,
        "reason": reason,
        "until": min(expiries).isoformat() if expiries else None,
    }


def _show(plan: Plan, evidence: PlanEvidence, facts: dict[str, Any]) -> None:
    table = Table("officer", "as", "plan", "until", title=f"plan {plan.name} {plan.digest[:12]}")
    for each in evidence.statements:
        about = "this one" if each.plan == plan.digest else each.plan[:12]
        role = "author" if each.act == "author" else str(each.role)
        table.add_row(each.officer, role, about, f"{each.expires:%Y-%m-%d %H:%M} UTC")
    if table.row_count:
        people.print(table)
    for each in facts["missing"]:
        people.print(
            f"missing: {each['asked'] - each['given']} as {each['role']}, from {' or '.join(each['could']) or 'nobody on the list'}",
            highlight=False,
        )
    people.print(facts["reason"] or "approved: it may be launched", highlight=False)
