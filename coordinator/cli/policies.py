"""`covenant policy`: packs of rules, signed by officers, and what they say of plans and models."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.cli.options import Access, ContractFile, Home, Json, KnownMembers, TrustedRoot, desk_at
from coordinator.cli.policy_tables import (
    effect_facts,
    judged_facts,
    pack_facts,
    said_facts,
    show_effects,
    show_pack,
    show_packs,
    show_said,
    show_standing,
)
from coordinator.cli.proposals import is_digest
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
from coordinator.desk import Desk
from coordinator.documents import read_draft, read_evidence, read_membership
from coordinator.governance.policies.facts import stage_of
from coordinator.governance.policies.judge import compiled
from coordinator.governance.policies.packs import find_pack
from coordinator.governance.policies.rejudge import Said
from coordinator.governance.policies.shipped import BASELINE, baseline_text
from coordinator.office.plans import ProposedPlan
from protos.documents import load_document, read_document
from protos.files import replace_file, write_new
from protos.log_export import verify_file
from protos.membership import Role
from protos.policy_pack import PackStatements, PolicyPack, SignedPack, state_pack
from protos.root import SignedRoot
from protos.shell import emit, people, tell
from strategies.errors import Refused, UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="Policy packs: rules that plans and models are judged by, signed by a privacy officer and model risk.",
)
PackFile = Annotated[Path, typer.Argument(metavar="PACK", help="The pack, in YAML.")]
_MOMENT: Final = re.compile(r"(?m)^effective_from: .*$")


@app.command("new")
def new(
    out: Annotated[Path, typer.Argument(help="The file to write, such as baseline.yaml.")],
    effective_from: Annotated[str, typer.Option(help="From when on it holds, such as 2027-01-01T00:00:00Z.")],
) -> None:
    """Write the pack that comes with the program to a file, to be changed and signed. Overwrites nothing."""
    text, found = _MOMENT.subn(f"effective_from: {effective_from}", baseline_text())
    if found != 1:
        raise UsageError(f"the pack {BASELINE} that is installed names no moment; install the program again")
    read = read_document(text, PolicyPack, str(out))
    write_new(out, text.encode(), mode=PUBLIC_MODE)
    tell(f"wrote {read.ref}: {out}; check it with `covenant policy check {out}`")


@app.command("check")
def check(pack: PackFile, json: Json = False) -> None:
    """Check a pack: whether it can be read, and every rule is an expression over facts that there are."""
    read, said = _read(pack)
    compiled(read).require_sound()
    if json:
        emit({**pack_facts(read), "signed_by": [each.officer for each in said.statements]})
        return
    show_pack(read, said)


@app.command("sign")
def sign(
    pack: PackFile,
    role: Annotated[Role, typer.Option("--as", help="The role that is exercised.")],
    officer: OfficerName,
    key: OfficerKey,
    root: Annotated[
        Path, typer.Option("--root", help="The federation's root, in any version that you trust.")
    ],
    passphrase_file: PassphraseFile = None,
    *,
    yes: Yes = False,
) -> None:
    """Sign a pack in one role, after reading it. The signature goes into PACK.signatures.json beside it."""
    read, said = _read(pack)
    compiled(read).require_sound()
    show_pack(read, said)
    confirm(f"Sign it as {role}?", yes=yes)
    federation = read_signed_root(root).identity
    statement = state_pack(
        read, officer, role, open_key(key, passphrase_file), federation=federation, at=now()
    )
    after = said.adding(statement)
    replace_file(_beside(pack), after.canonical + b"\n", mode=PUBLIC_MODE)
    tell(f"signed by {', '.join(each.officer for each in after.statements)}: {_beside(pack)}")


@app.command("publish")
def publish(pack: PackFile, home: Home = None, access: Access = None, json: Json = False) -> None:
    """Publish a pack that a privacy officer and model risk have signed. From its moment on everything is judged by it."""
    read, said = _read(pack)
    compiled(read).require_sound()
    signed = SignedPack(pack=read, statements=said.statements)
    kept = desk_at(home, access).policies.publish(signed)
    if json:
        emit({**pack_facts(read), "state": kept.state, "published_at": kept.published_at.isoformat()})
        return
    tell(f"published {read.ref}, which is {kept.state} ({read.effective_from:%Y-%m-%d %H:%M} UTC)")


@app.command("list")
def list_packs(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All published packs."""
    found = list(desk_at(home, access).policies.packs())
    if json:
        emit({"packs": [{**pack_facts(each.pack), "state": each.state} for each in found]})
        return
    show_packs(found)


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(help="NAME of a published pack, or NAME@VERSION.")],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """A published pack, and what does not pass it: which rule, who must act, and how."""
    desk = desk_at(home, access).policies
    kept = find_pack(desk.packs(), name)
    judged = [each for each in desk.judgements(kept.pack.name) if each.judgement.pack == kept.pack.digest]
    if json:
        emit(
            {**pack_facts(kept.pack), "state": kept.state, "judged": [judged_facts(each) for each in judged]}
        )
        return
    show_pack(kept.pack, PackStatements(statements=kept.signed.statements))
    show_standing(kept, judged)


@app.command("simulate")
def simulate(pack: PackFile, home: Home = None, access: Access = None, json: Json = False) -> None:
    """What a pack would do, were it in effect now: which plans it would stop, and which models quarantine. Changes nothing."""
    read, _ = _read(pack)
    compiled(read).require_sound()
    found = list(desk_at(home, access).policies.simulate(read))
    if json:
        emit({**pack_facts(read), "effects": [effect_facts(each) for each in found]})
        return
    show_effects(read, found)


@app.command("judge")
def judge(
    what: Annotated[
        str,
        typer.Argument(
            metavar="PLAN or MODEL",
            help="A plan in YAML or the digest of a proposed one; or NAME@VERSION of a model.",
        ),
    ],
    contract: ContractFile = None,
    stage: Annotated[
        str, typer.Option(help="Judge a model for this stage, such as approved; else for the one it is in.")
    ] = "",
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Judge a plan or a model by the packs in effect now. Changes nothing; leaves with 3 where a rule blocks it."""
    desk = desk_at(home, access)
    name, _, version = what.partition("@")
    if version and not Path(what).exists():
        if not version.isdecimal():
            raise UsageError(f"{what!r} names no version; write NAME@NUMBER, such as {name}@1")
        said = desk.policies.judge_model(name, int(version), stage_of(stage))
    else:
        said = desk.policies.judge_plan(_plan(desk, what, contract))
    if json:
        emit({"judged": [said_facts(each) for each in said]})
    else:
        show_said(said)
    require_passed(said)


@app.command("recheck")
def recheck(
    file: Annotated[Path, typer.Argument(help="An export of the log.")],
    root: TrustedRoot,
    members: KnownMembers = None,
    json: Json = False,
) -> None:
    """Verify an export, then evaluate every recorded judgement again: the same rules by the same facts, with this machine's CEL."""
    from coordinator.governance.policies.recheck import recheck as judged_again

    known = None if members is None else read_membership(members)
    story = verify_file(file, load_document(root, SignedRoot), known).story
    count = judged_again(story.policies)
    if json:
        emit({"judgements": count, "packs": len(story.policies.published), "agrees": True})
        return
    tell(f"{count} judgements by {len(story.policies.published)} packs come to the same again")


def require_passed(said: Sequence[Said]) -> None:
    """Raise Refused where a pack blocks what was judged."""
    blocked = [(pack, found) for pack, found in said if found.blocked_by(pack)]
    if blocked:
        raise Refused(
            f"{blocked[0][1].subject.words} is blocked by {', '.join(pack.ref for pack, _ in blocked)}"
        )


def judge_file(plan: Path, contract: Path | None, desk: Desk) -> list[Said]:
    """What the packs in effect at a coordinator say of the plan in a file."""
    return list(desk.policies.judge_plan(_from_file(plan, contract)))


def _plan(desk: Desk, what: str, contract: Path | None) -> ProposedPlan:
    if is_digest(Path(what)):
        return desk.plan(what, "")[0]
    return _from_file(Path(what), contract)


def _from_file(plan: Path, contract: Path | None) -> ProposedPlan:
    parsed, agreed = read_draft(plan, contract)
    return ProposedPlan(plan=parsed, contract=agreed, evidence=read_evidence(plan))


def _beside(pack: Path) -> Path:
    return pack.with_suffix(".signatures.json")


def _read(path: Path) -> tuple[PolicyPack, PackStatements]:
    """A pack, and what is said about this very one in the file beside it. Raises `CovenantError`."""
    pack = load_document(path, PolicyPack)
    beside = _beside(path)
    said = load_document(beside, PackStatements) if beside.exists() else PackStatements()
    current = said.about(pack)
    if gone := len(said.statements) - len(current.statements):
        people.print(
            f"{gone} signatures in {beside} are about another pack than this, and do not count",
            highlight=False,
        )
    return pack, current
