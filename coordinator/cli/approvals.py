"""`covenant plan sign`, `approve` and `status`: who stands behind a plan, in a file beside it that goes from officer to officer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from coordinator.cli.options import Access, ContractFile, Home, Json, PlanFile, PlanName, desk_at
from coordinator.cli.proposals import find, is_digest, show_standing
from coordinator.cli.signing import (
    PUBLIC_MODE,
    OfficerKey,
    OfficerName,
    PassphraseFile,
    Yes,
    confirm,
    now,
    open_key,
    read_signed_root,
)
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
from protos.keys import Signer, grouped
from protos.membership import Role
from protos.moments import end_of_day
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_words import mode_words
from protos.shell import emit, people
from strategies.errors import UsageError
from strategies.ids import Digest

RootFile = Annotated[
    Path,
    typer.Option(
        "--root",
        help="The federation's root, in any version that you trust: what is signed counts there only.",
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
    key: OfficerKey,
    root: RootFile,
    contract: ContractFile = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    access: Access = None,
    *,
    yes: Yes = False,
) -> None:
    """Sign a plan as its author. The signature goes into PLAN.evidence.json beside it, which officers then approve; with --access, to the coordinator.

    What was signed before the plan was changed is dropped, after a question.
    """

    def say(parsed: Plan, agreed: Contract, federation: Digest, signer: Signer) -> PlanStatement:
        until = _until(parsed, expires)
        return author(parsed, agreed, officer, signer, federation=federation, expires=until)

    signing = _Signing(root, key, passphrase_file, say, yes)
    parsed, agreed = read_plan(plan, contract)
    if access is not None:
        said = signing.sign(parsed, agreed)
        what = ProposedPlan(plan=parsed, contract=agreed, evidence=PlanEvidence())
        show_standing(desk_at(None, access).propose(what, said))
        return
    _sign_beside(plan, parsed, agreed, signing)


def approve_plan(
    plan: PlanName,
    role: Annotated[Role, typer.Option("--as", help="The role that is exercised.")],
    officer: OfficerName,
    key: OfficerKey,
    root: RootFile,
    contract: ContractFile = None,
    passphrase_file: PassphraseFile = None,
    expires: Expires = None,
    *,
    access: Access = None,
    yes: Yes = False,
) -> None:
    """Approve a plan in one role, after reading what it does and saying so. Its author cannot, and nobody counts for two roles.

    With --access PLAN may be a digest: the plan is fetched, checked against it and shown, and the approval goes to the coordinator.
    """

    def say(parsed: Plan, agreed: Contract, federation: Digest, signer: Signer) -> PlanStatement:
        until = _until(parsed, expires)
        return approve(parsed, agreed, officer, role, signer, federation=federation, expires=until)

    signing = _Signing(root, key, passphrase_file, say, yes, f"Approve it as {role}?")
    if access is not None:
        desk = desk_at(None, access)
        found, _ = find(desk, plan, contract)
        _show(found.plan, found.evidence)
        show_standing(desk.approve(signing.sign(found.plan, found.contract)))
        return
    parsed, agreed = read_plan(plan, contract)
    _sign_beside(plan, parsed, agreed, signing)


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
        standing = standing_of(parsed, agreed, evidence, trusted, now())
    if json:
        emit(standing.facts())
    else:
        _show(parsed, evidence)
        show_standing(standing)


@dataclass(frozen=True, slots=True)
class _Signing:
    """With what, in which federation and after which question a plan is signed."""

    root: Path
    key: Path
    passphrase_file: Path | None
    say: Callable[[Plan, Contract, Digest, Signer], PlanStatement]
    yes: bool
    question: str | None = None

    def sign(self, plan: Plan, contract: Contract, gone: Sequence[str] = ()) -> PlanStatement:
        """Show what is signed, ask where there is something to ask, then for the passphrase, and sign. `gone` are those whose words will be dropped."""
        federation = _federation(plan, self.root)
        people.print(
            f"{_words(plan, contract)}\n   in the federation with root {grouped(federation)}", highlight=False
        )
        if gone:
            people.print(
                f"what {' and '.join(gone)} signed was about the plan before it was changed, and will be dropped",
                highlight=False,
            )
        if self.question is not None or gone:
            confirm(self.question or "Sign it, and drop what was signed before?", yes=self.yes)
        return self.say(plan, contract, federation, open_key(self.key, self.passphrase_file))


def _sign_beside(plan_file: Path, plan: Plan, contract: Contract, signing: _Signing) -> None:
    """Sign, and keep what was said beside the plan."""
    _add(plan_file, plan, contract, signing.sign(plan, contract, _said_before(plan_file, plan, contract)))


def _federation(plan: Plan, root_file: Path) -> Digest:
    """The federation of the root in `root_file`. Raises UsageError if the plan is for one of another name, Refused for a draft."""
    root = read_signed_root(root_file)
    name = plan.sites.members.partition("@")[0]
    if root.federation != name:
        raise UsageError(
            f"{root_file} is the root of {root.federation}, and the plan is for member list {plan.sites.members}; name the root of {name}"
        )
    return root.identity


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


def _show(plan: Plan, evidence: PlanEvidence) -> None:
    table = Table("officer", "as", "plan", "until", title=f"plan {plan.name} {plan.digest[:12]}")
    for each in evidence.statements:
        about = "this one" if each.plan == plan.digest else each.plan[:12]
        role = "author" if each.act == "author" else str(each.role)
        table.add_row(each.officer, role, about, f"{each.expires:%Y-%m-%d %H:%M} UTC")
    if table.row_count:
        people.print(table)
