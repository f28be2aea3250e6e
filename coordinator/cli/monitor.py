"""`covenant monitor`: what is watched where models run, what its windows say, alarms and alerts."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from coordinator.cli.deploy import version_of
from coordinator.cli.monitor_tables import (
    alarms_table,
    alerts_table,
    monitors_table,
    show_windows,
)
from coordinator.cli.monitor_windows import collect, import_windows
from coordinator.cli.options import Access, Home, Json, centre_at, monitor_desk_at
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
from coordinator.deploy.desk import Facts
from protos.documents import load_document, make_document
from protos.drift import DriftRules
from protos.files import write_new
from protos.keys import grouped
from protos.membership import Role
from protos.monitor_approvals import GOOD_FOR, Change, MonitorStatement, Watch, loosened, state_change
from protos.shell import emit, people, tell
from protos.windows import Monitor
from strategies.errors import UsageError
from strategies.ids import digest

app = typer.Typer(
    no_args_is_help=True, help="Drift: windows from where models run, alarms with a cause, and alerts."
)
Model = Annotated[str, typer.Argument(help="NAME@VERSION, a version that is watched.")]
Why = Annotated[
    str, typer.Option(help="Why, in at most 500 characters; everybody who reads the log reads it.")
]
Rules = Annotated[
    Path | None, typer.Option(help="drift-rules/v1 in YAML; else 0.05 false alarms in 60 windows.")
]
_READABLE = 0o644


@app.command("add")
def add(
    model: Annotated[
        str, typer.Argument(help="NAME@VERSION, a registered version whose evaluation has a profile.")
    ],
    monitor: Annotated[Path, typer.Argument(help="The monitor in YAML, the one that places run with.")],
    why: Why,
    rules: Rules = None,
    approval: Annotated[
        list[Path] | None,
        typer.Option(
            "--approval",
            help="What `covenant monitor sign` wrote for an officer; two of them where it is watched less tightly than before.",
        ),
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Have a version watched, or by another monitor or other rules from now on. Other rules that are as tight, or tighter, take nobody else's word."""
    name, version = version_of(model)
    wanted = DriftRules() if rules is None else load_document(rules, DriftRules)
    found = load_document(monitor, Monitor)
    approvals = [load_document(each, MonitorStatement) for each in approval or ()]
    monitor_desk_at(home, access).watch(name, version, found, wanted, why, approvals)
    if json:
        emit({"model": name, "version": version, "monitor": found.digest})
    else:
        rate = f"{wanted.false_alarm_rate:g} in {wanted.horizon} windows"
        people.print(f"{model} is watched; false alarms at most {rate}", highlight=False)


@app.command("sign")
def sign(
    model: Model,
    monitor: Annotated[Path, typer.Argument(help="The monitor in YAML that shall be in force.")],
    out: Annotated[Path, typer.Option(help="The statement to write, for `covenant monitor add --approval`.")],
    role: Annotated[Role, typer.Option("--as", help="The role in which it is said.")],
    officer: OfficerName,
    key: OfficerKey,
    *,
    root: Annotated[
        Path, typer.Option("--root", help="The federation's root, in any version that you trust.")
    ],
    rules: Rules = None,
    passphrase_file: PassphraseFile = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
    yes: Yes = False,
) -> None:
    """Sign, as one of two officers, that a version may be watched less tightly: says what becomes looser, and asks. Good for a week and this one change.

    The key stays on this machine.
    """
    name, version = version_of(model)
    wanted = DriftRules() if rules is None else load_document(rules, DriftRules)
    change = _change(
        monitor_desk_at(home, access).monitors(), name, version, load_document(monitor, Monitor), wanted
    )
    looser = loosened(change.before, change.after)
    if not looser:
        raise UsageError(
            f"{model} would be watched as tightly as it is, or more so; that takes nobody's word, and `covenant monitor add` does it"
        )
    federation = read_signed_root(root).identity
    tell(f"{model}, registry digest {change.digest}, in the federation with root {grouped(federation)}:")
    for each in looser:
        tell(f"   {each}")
    confirm(f"Sign it as {role}?", yes=yes)
    said = state_change(
        change, officer, role, open_key(key, passphrase_file), federation=federation, at=now()
    )
    write_new(out, said.canonical, mode=PUBLIC_MODE)
    if json:
        emit({"model": model, "officer": officer, "role": str(role), "file": str(out), "looser": looser})
    else:
        tell(f"{out} is {officer}'s word, good for {GOOD_FOR.days} days")


def _change(watched: Facts, name: str, version: int, monitor: Monitor, rules: DriftRules) -> Change:
    """From what is in force, as the coordinator tells it. Raises UsageError where nothing is."""
    one = next((each for each in watched if (each["model"], each["version"]) == (name, version)), None)
    if one is None:
        raise UsageError(
            f"{name}@{version} is not watched yet; `covenant monitor add` has it watched, which takes nobody's word"
        )
    before = Watch(
        monitor=digest(one["monitor"]),
        rules=make_document(DriftRules, "the rules in force", **one["rules"]),
        since=datetime.fromisoformat(one["added_at"]),
    )
    return Change(
        model=name,
        version=version,
        digest=digest(one["version_digest"]),
        before=before,
        after=Watch(monitor=monitor.digest, rules=rules),
    )


@app.command("status")
def status(home: Home = None, access: Access = None, json: Json = False) -> None:
    """What is watched, the latest window of each place, and open alarms."""
    found = monitor_desk_at(home, access).monitors()
    if json:
        emit({"monitors": found})
        return
    monitors_table(found)


@app.command("windows")
def windows(model: Model, home: Home = None, access: Access = None, json: Json = False) -> None:
    """A version's windows by place: figures with 95 % intervals, what moved, and where each figure is going."""
    name, version = version_of(model)
    found = monitor_desk_at(home, access).windows(name, version)
    if json:
        emit(found)
        return
    show_windows(found)


@app.command("alarms")
def alarms(
    all_: Annotated[bool, typer.Option("--all", help="Also those that were acknowledged.")] = False,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Alarms, with their likely cause and its evidence."""
    found = monitor_desk_at(home, access).alarms(only_open=not all_)
    if json:
        emit({"alarms": found})
        return
    alarms_table(found)


@app.command("acknowledge")
def acknowledge(
    alarm: Annotated[str, typer.Argument(help="Its id, such as alarm-0123456789abcdef.")],
    why: Why,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Say that an alarm has been seen: the next window that drifts raises another."""
    monitor_desk_at(home, access).acknowledge(alarm, why)
    if json:
        emit({"alarm": alarm})
    else:
        people.print(f"{alarm} is acknowledged", highlight=False)


@app.command("alerts")
def alerts(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that are not delivered.")] = False,
    retry: Annotated[
        str | None, typer.Option(help="Have those about this alarm that were given up tried anew.")
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Alerts to the channels of covenant.yaml, delivered or not, and why not."""
    desk = monitor_desk_at(home, access)
    if retry is not None:
        desk.try_again(retry)
    found = desk.alerts(waiting=waiting)
    if json:
        emit({"alerts": found})
        return
    alerts_table(found)


@app.command("reference")
def reference(
    model: Model,
    out: Annotated[Path, typer.Option(help="File to write, for the places that compare with it themselves.")],
    home: Home = None,
    json: Json = False,
) -> None:
    """Write what a version's windows are compared with, at the coordinator itself."""
    from coordinator.db.engine import reading
    from coordinator.deploy.monitoring.watched import reference_of

    centre = centre_at(home)
    with reading(centre.engine, f"reading the evaluation of {model[:100]}") as session:
        found = reference_of(session, *version_of(model))
    write_new(out, found.canonical, mode=_READABLE)
    if json:
        emit({"file": str(out), "digest": found.digest})
    else:
        tell(f"{out} has the reference {found.digest[:16]} of {model}")


app.command("import")(import_windows)
app.command("collect")(collect)
