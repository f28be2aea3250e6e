"""`covenant halt`: one person stops a site's part, a run or everything; two let it go on."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from coordinator.cli.options import Access, Home, Json, TrustedRoot, desk_at
from coordinator.cli.signing import (
    PUBLIC_MODE,
    OfficerKey,
    OfficerName,
    PassphraseFile,
    now,
    open_key,
    read_signed_root,
)
from coordinator.documents import read_root
from coordinator.governance.halts import HaltView
from coordinator.settings import load_settings
from protos.files import write_new
from protos.halt_lifts import LIFT_RULE, state_lift
from protos.halts import MOST_ORDER_BYTES, HaltOrder, HaltScope, OrderedBy, order_halt
from protos.keys import grouped
from protos.shell import as_written, emit, people
from strategies.errors import UsageError
from strategies.ids import Digest

_ID_BYTES = 16

app = typer.Typer(
    invoke_without_command=True,
    help="Stop a site's part, a run, or everything: any officer or site does that alone, and two officers let it go on.",
)
_INCOMPLETE = "say what is halted with one of --site, --run and --all, why with --reason, and who orders it with --officer and --key"
RootFile = Annotated[
    Path | None,
    typer.Option(
        "--root",
        help="The federation's root.json, from where you trust it, which the order names; needed with --access. Else the one in --home.",
    ),
]
SiteOption = Annotated[str | None, typer.Option("--site", help="Ask this site no more.")]
RunOption = Annotated[str | None, typer.Option("--run", help="Stop this run.")]
Everything = Annotated[bool, typer.Option("--all", help="Stop every run, and launch none.")]
Reason = Annotated[
    str, typer.Option(help="Why, in at most 500 characters; everybody who reads the log reads it.")
]
HaltId = Annotated[str, typer.Argument(help="The halt's id, or how it begins.")]


@app.callback()
def give(  # noqa: PLR0917 (each is an option of the command)
    context: typer.Context,
    site: SiteOption = None,
    run: RunOption = None,
    everything: Everything = False,
    reason: Annotated[
        str | None,
        typer.Option(help="Why, in at most 500 characters; everybody who reads the log reads it."),
    ] = None,
    officer: Annotated[
        str | None,
        typer.Option(
            "--officer", help="Who orders it, by the name on the member list; the key must be theirs."
        ),
    ] = None,
    key: Annotated[Path | None, typer.Option("--key", help="The officer's private key.")] = None,
    passphrase_file: PassphraseFile = None,
    root: RootFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Order a halt, sign it and record it; what it covers stops at once."""
    given = {"--site": site, "--run": run, "--all": everything or None}
    named = [name for name, value in given.items() if value is not None]
    if context.invoked_subcommand is not None:
        if named or reason is not None or officer is not None or key is not None:
            raise UsageError(f"`covenant halt {context.invoked_subcommand}` takes its options after its name")
        return
    if reason is None or officer is None or key is None:
        raise UsageError(_INCOMPLETE)
    give_order(
        root=root,
        home=home,
        access=access,
        reason=reason,
        officer=officer,
        key=key,
        passphrase_file=passphrase_file,
        site=site,
        run=run,
        everything=everything,
        json=json,
    )


def give_order(
    *,
    root: Path | None,
    home: Path | None,
    access: Path | None,
    reason: str,
    officer: str,
    key: Path,
    passphrase_file: Path | None,
    site: str | None = None,
    run: str | None = None,
    everything: bool = False,
    json: bool = False,
) -> None:
    """Sign an order to halt, hand it in, and say what came of it."""
    where = _federation(root, home, access)
    order = _order(where, site, run, reason, officer, key, passphrase_file, everything=everything)
    _show_one(desk_at(home, access).give_halt(order), json=json)


def lift_all(
    site: str,
    reason: str,
    officer: str,
    key: Path,
    passphrase_file: Path | None,
    home: Path | None,
    access: Path | None,
    *,
    json: bool,
) -> None:
    """Say of each halt of `site` that it may be lifted. Raises UsageError where none stands."""
    standing = [
        each.order
        for each in desk_at(home, access).halts()
        if each.lifted_at is None and (each.order.scope, each.order.target) == ("site", site)
    ]
    if not standing:
        raise UsageError(
            f"{site} is not suspended; `covenant halt list` shows what stands. A site that was removed is certified again with `covenant site certify`"
        )
    for order in standing:
        lift(order.id, reason, officer, key, passphrase_file, home, access, json)


@app.command("order")
def order_file(
    *,
    out: Annotated[Path, typer.Option(help="The order to write, for `covenant halt apply`.")],
    root: TrustedRoot,
    reason: Reason,
    officer: OfficerName,
    key: OfficerKey,
    site: SiteOption = None,
    run: RunOption = None,
    everything: Everything = False,
    passphrase_file: PassphraseFile = None,
) -> None:
    """Sign an order into a file, where no coordinator can be reached. Nothing stops before it is applied."""
    order = _order(
        read_signed_root(root).identity,
        site,
        run,
        reason,
        officer,
        key,
        passphrase_file,
        everything=everything,
    )
    write_new(out, order.canonical + b"\n", mode=PUBLIC_MODE)
    people.print(f"wrote {out}; `covenant halt apply` carries it out", highlight=False)


@app.command("list")
def list_halts(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All halts, the latest first."""
    found = list(desk_at(home, access).halts())
    if json:
        emit({"halts": [_facts(each) for each in found]})
        return
    table = Table("halt", "what", "by", "at", "state", "reason")
    for each in found:
        order = each.order
        table.add_row(
            order.id,
            order.what,
            order.by.words,
            f"{order.at:%Y-%m-%d %H:%M:%S}",
            each.state,
            as_written(order.reason),
        )
    people.print(table)


@app.command("apply")
def apply(
    file: Annotated[Path, typer.Argument(help="An order that was signed elsewhere, such as at a site.")],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Record an order that was signed elsewhere; what it covers stops at once."""
    _show_one(desk_at(home, access).give_halt(_read_order(file)), json=json)


@app.command("lift")
def lift(
    halt_id: HaltId,
    reason: Reason,
    officer: OfficerName,
    key: OfficerKey,
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Say that a halt may be lifted, after reading what it is. With the word of a second officer it is."""
    desk = desk_at(home, access)
    order = desk.halt(halt_id).order
    people.print(f"lifting: {order.words}", highlight=False, markup=False)
    said = state_lift(order.digest, officer, reason, open_key(key, passphrase_file), at=now())
    _show_one(desk.say_lift(order.id, said), json=json)


def _order(
    federation: Digest,
    site: str | None,
    run: str | None,
    reason: str,
    officer: str,
    key: Path,
    passphrase_file: Path | None,
    *,
    everything: bool,
) -> HaltOrder:
    """The order, after saying what it halts. Raises UsageError unless exactly one thing is named."""
    if sum((site is not None, run is not None, everything)) != 1:
        raise UsageError(_INCOMPLETE)
    scope: HaltScope = "all" if everything else "run" if run is not None else "site"
    what = "everything" if everything else f"{scope} {run or site}"
    people.print(f"halting {what}: {reason}", highlight=False, markup=False)
    people.print(f"   in the federation with root {grouped(federation)}", highlight=False)
    return order_halt(
        federation,
        scope,
        run or site,
        reason,
        OrderedBy(kind="officer", name=officer),
        open_key(key, passphrase_file),
        at=now(),
        entropy=secrets.token_bytes(_ID_BYTES),
    )


def _federation(root: Path | None, home: Path | None, access: Path | None) -> Digest:
    """The federation whose root the officer names, or whose coordinator this is. No server is asked. Raises UsageError."""
    if root is not None:
        return read_signed_root(root).identity
    if access is not None:
        raise UsageError("name the federation's root.json with --root: an order names the federation by it")
    return read_root(load_settings(home)).root.identity


def _read_order(file: Path) -> HaltOrder:
    """The order in `file`, judged by nobody yet. Raises `CovenantError`."""
    try:
        with file.open("rb") as opened:
            data = opened.read(MOST_ORDER_BYTES + 1)
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror}") from error
    return HaltOrder.from_canonical(data.strip())


def _facts(found: HaltView) -> dict[str, Any]:
    order = found.order
    return {
        "id": order.id,
        "digest": order.digest,
        "scope": order.scope,
        "target": order.target,
        "by": {"kind": order.by.kind, "name": order.by.name},
        "reason": order.reason,
        "at": order.at.isoformat(),
        "stands": found.lifted_at is None,
        "lifted_at": None if found.lifted_at is None else found.lifted_at.isoformat(),
        "would_lift": list(found.said),
        "asked": LIFT_RULE.officers,
    }


def _show_one(found: HaltView, *, json: bool) -> None:
    if json:
        emit(_facts(found))
        return
    people.print(f"halt {found.order.id}: {found.state}", highlight=False)
    if found.lifted_at is not None:
        people.print("it is over; a run that it stopped goes on with `covenant run resume`", highlight=False)
    elif found.said:
        people.print(f"{' and '.join(found.said)} would lift it; it takes {LIFT_RULE.words}", highlight=False)
    else:
        people.print(f"it takes {LIFT_RULE.words} to lift it", highlight=False)
