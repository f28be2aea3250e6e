"""`covenant loop`: where every model is between training and retraining, and the plans that were drafted."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.cli.options import Access, Home, Json, loop_desk_at
from protos.contract import Contract
from protos.documents import load_document, read_document
from protos.files import write_new
from protos.plan import Plan
from protos.shell import as_written, emit, people, tell
from strategies.encoding import canonical_json
from strategies.errors import Refused, UsageError

app = typer.Typer(
    no_args_is_help=True,
    help="The loop: from production back to training, with plans that are drafted and wait for people.",
)
Draft = Annotated[str, typer.Argument(help="Its id, such as draft-0123456789abcdef.")]
_READABLE = 0o644
_MINUTE = 16
_MARKS = {"none": "-", "done": "done", "going": "going", "waits": "WAITS", "bad": "LOOK"}


@app.command("status")
def status(
    model: Annotated[str | None, typer.Argument(help="Only this model, by name.")] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Where every model is: trained, judged, approved, deployed, monitored, alarmed, drafted, retrained."""
    found = loop_desk_at(home, access).status(model)
    if model is not None and not found:
        raise UsageError(f"there is no model called {model!r}; `covenant model list` shows those there are")
    if json:
        emit({"models": found})
        return
    if not found:
        tell("no model is registered yet")
    for each in found:
        table = Table("step", "", "what is known", "since", title=f"{each['model']}: {each['at']}")
        for step in each["steps"]:
            since = "" if step["since"] is None else step["since"][:_MINUTE]
            table.add_row(*map(as_written, (step["step"], _MARKS[step["state"]], step["says"], since)))
        people.print(table)


@app.command("drafts")
def drafts(
    all_: Annotated[bool, typer.Option("--all", help="Also those that were decided on.")] = False,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Plans that were drafted to retrain models."""
    found = loop_desk_at(home, access).drafts(only_open=not all_)
    if json:
        emit({"drafts": found})
        return
    table = Table("draft", "model", "for", "because of", "state", "says", title="drafts")
    for each in found:
        about = each["alarm"] or f"asked by {each['drafted_by']}"
        cells = (
            each["id"],
            f"{each['model']}@{each['version']}",
            each["author"] or "",
            about,
            each["state"],
            each["says"][0],
        )
        table.add_row(*map(as_written, cells))
    people.print(table)


@app.command("show")
def show(draft: Draft, home: Home = None, access: Access = None, json: Json = False) -> None:
    """A draft: why it is as it is, and its text."""
    found = loop_desk_at(home, access).draft_facts(draft)
    if json:
        emit(found)
        return
    tell(
        f"{found['id']} of {found['model']}@{found['version']}, {found['state']}, drafted {found['drafted_at'][:_MINUTE]} UTC"
    )
    if found["expires_at"] is not None:
        tell(
            f"adopted until {found['expires_at'][:_MINUTE]} UTC, unless a run of {found['model']} is launched by then"
        )
    for line in found["says"]:
        tell(f"  {line}")
    if found["text"] is not None:
        for line in found["text"].splitlines():
            tell(line)


@app.command("draft")
def draft(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Have a plan drafted to retrain a model, whether an alarm is open or not."""
    desk = loop_desk_at(home, access)
    made = desk.draft(model)
    found = desk.draft_facts(made)
    if json:
        emit(found)
        return
    tell(f"{made}: {found['says'][0]}")
    tell(f"read it with `covenant loop show {made}`; nobody has signed it")


@app.command("adopt")
def adopt(
    draft: Draft,
    out: Annotated[Path, typer.Option(help="The file to write; its contract is written beside it.")],
    why: Annotated[
        str, typer.Option(help="Why, in at most 500 characters; everybody who reads the log reads it.")
    ] = "to be signed and submitted",
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Take a draft over: writes the plan, which its author signs and submits as any other."""
    if out.exists():
        raise UsageError(f"{out} exists, and a plan is never overwritten; name a new file with --out")
    desk = loop_desk_at(home, access)
    before = desk.draft_facts(draft)
    contract = _contract_of(before)
    beside = None if contract is None else _beside(out, contract, draft)
    found = desk.adopt(draft, why)
    _require_same(found, before)
    if beside is not None and contract is not None and not beside.exists():
        write_new(beside, contract.canonical, mode=_READABLE)
    write_new(out, found["text"].encode(), mode=_READABLE)
    if json:
        emit(
            {
                "draft": draft,
                "plan": found["plan"],
                "file": str(out),
                "contract": None if beside is None else str(beside),
            }
        )
        return
    tell(
        f"{out} has the plan of {draft}: read it, change what you would, and sign it with `covenant plan sign {out}`"
    )


@app.command("dismiss")
def dismiss(
    draft: Draft,
    reason: Annotated[
        str, typer.Option(help="Why, in at most 500 characters; everybody who reads the log reads it.")
    ],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Throw a draft away."""
    loop_desk_at(home, access).dismiss(draft, reason)
    if json:
        emit({"draft": draft})
    else:
        tell(f"{draft} is dismissed")


# --- what a coordinator sends is read before anything is written --------------------------------------------------------


def _contract_of(found: dict[str, Any]) -> Contract | None:
    """The contract of a draft, if it has a plan. Raises DocumentError, and Refused for another one than the draft names."""
    if found["contract_document"] is None:
        return None
    contract = read_document(
        canonical_json(found["contract_document"]).decode(), Contract, "the draft's contract"
    )
    if contract.digest != found["contract"]:
        raise Refused(
            f"the coordinator sent contract {contract.digest[:12]}, and {found['id']} is of {str(found['contract'])[:12]}; nothing is written"
        )
    return contract


def _require_same(found: dict[str, Any], before: dict[str, Any]) -> None:
    """What was adopted is the plan that was shown, and its text reads as that."""
    plan = read_document(found["text"], Plan, "the draft's text")
    if not plan.digest == found["plan"] == before["plan"] or found["contract"] != before["contract"]:
        raise Refused(
            f"the coordinator sent plan {plan.digest[:12]}, and {before['id']} is {str(before['plan'])[:12]}; nothing is written"
        )


def _beside(out: Path, contract: Contract, draft: str) -> Path:
    """Where commands look for the contract of the plan in `out`. Raises Refused where another one lies there."""
    beside = out.parent / f"{contract.name}.yaml"
    if beside.exists() and load_document(beside, Contract).digest != contract.digest:
        raise Refused(
            f"{beside} is another contract than that of {draft}; write the plan into another folder"
        )
    return beside
