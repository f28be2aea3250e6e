"""`covenant deploy`: approved versions brought to where they run, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.table import Table

from coordinator.cli.options import Access, Home, Json, TrustedRoot, deploy_desk_at
from coordinator.cli.signing import PassphraseFile, now, open_key
from coordinator.deploy.desk import DeployDesk, Facts
from coordinator.deploy.targets.settings import EdgeSettings, KServeSettings, LocalSettings, TargetSettings
from protos.documents import load_document, make_document, read_document
from protos.rollouts import Canary, Full, RolloutRules, Shadow, Step
from protos.root import SignedRoot
from protos.shell import as_written, emit, people
from strategies.errors import Refused, UsageError

app = typer.Typer(
    no_args_is_help=True, help="Rollouts: approved versions brought to where they run, and back."
)
places = typer.Typer(no_args_is_help=True, help="Where models run.")
app.add_typer(places, name="targets")
_KINDS: Final[dict[str, type[LocalSettings] | type[KServeSettings] | type[EdgeSettings]]] = {
    "local": LocalSettings,
    "kserve": KServeSettings,
    "edge": EdgeSettings,
}
_LONGEST_NUMBER: Final = 9

Model = Annotated[str, typer.Argument(help="NAME@VERSION, an approved version.")]
TargetName = Annotated[
    str, typer.Option("--target", help="Where: a target of `covenant deploy targets list`.")
]
TargetArgument = Annotated[
    str, typer.Argument(metavar="TARGET", help="A target of `covenant deploy targets list`.")
]
Why = Annotated[
    str, typer.Option(help="Why, in at most 500 characters; everybody who reads the log reads it.")
]
ShadowOption = Annotated[
    bool, typer.Option("--shadow", help="It scores every request beside what serves, and answers none.")
]
CanaryOption = Annotated[
    float | None, typer.Option("--canary", help="It answers this share of requests, between 0 and 1.")
]


@app.command("start")
def start(  # noqa: PLR0917 (each is an option of the command)
    model: Model,
    target: TargetName,
    why: Why,
    shadow: ShadowOption = False,
    canary: CanaryOption = None,
    rules: Annotated[
        Path | None,
        typer.Option(
            help="Rules by which it goes on or is taken back, in YAML (rollout-rules/v1); else those by default."
        ),
    ] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Begin to bring an approved version to a target: in the shadow, on a share of requests, or in full."""
    name, version = _version(model)
    step = _step(canary, shadow=shadow, full=False) or Full()
    chosen = RolloutRules() if rules is None else load_document(rules, RolloutRules)
    desk = deploy_desk_at(home, access)
    rollout = desk.start(name, version, target, step, chosen, why)
    _show_target(desk, target, json=json, rollout=rollout)


@app.command("promote")
def promote(
    target: TargetArgument,
    why: Why,
    canary: CanaryOption = None,
    full: Annotated[bool, typer.Option("--full", help="It answers every request.")] = False,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Let what is on trial go on to a larger share, or in full; without either, to the next step of its rules."""
    desk = deploy_desk_at(home, access)
    desk.promote(target, _step(canary, shadow=False, full=full), why)
    _show_target(desk, target, json=json)


@app.command("rollback")
def rollback(
    target: TargetArgument,
    why: Why,
    wait_s: Annotated[
        float, typer.Option(help="Wait at most so many seconds until it is in force; 0 does not wait.")
    ] = 10.0,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Take the newest rollout back, also one that serves in full; what served before serves again. Says how long that took."""
    began = time.monotonic()
    desk = deploy_desk_at(home, access)
    desk.roll_back(target, why)
    seconds = _until_confirmed(desk, target, began, wait_s)
    _show_target(desk, target, json=json, seconds=seconds)


@app.command("renew")
def renew(
    target: TargetArgument,
    why: Why,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Release what serves anew, so that it lasts longer; for an edge target that is a new bundle to carry."""
    desk = deploy_desk_at(home, access)
    desk.renew(target, why)
    _show_target(desk, target, json=json)


@app.command("recall")
def recall(
    model: Model,
    why: Why,
    target: Annotated[str | None, typer.Option(help="Only from this target; else from every one.")] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Order a version off where it runs; each target confirms. To let nobody deploy it again, quarantine it, which recalls it too."""
    name, version = _version(model)
    desk = deploy_desk_at(home, access)
    named = desk.recall(name, version, target, why)
    found = [each for each in desk.recalls() if each["model"] == name and each["version"] == version]
    if json:
        emit({"targets": list(named), "recalls": found})
        return
    _recalls(found)


@app.command("accept")
def accept(  # noqa: PLR0917 (each is an option of the command)
    bundle: Annotated[Path, typer.Argument(help="The bundle that was carried here.")],
    target: TargetName,
    root: TrustedRoot,
    state: Annotated[Path, typer.Option(help="State folder of the scoring service on this machine.")],
    url: Annotated[str, typer.Option(help="Where that service answers, on loopback.")],
    key: Annotated[Path, typer.Option(help="This machine's own private key, which signs what runs here.")],
    out: Annotated[Path, typer.Option(help="Folder for the acknowledgement that is carried back.")],
    passphrase_file: PassphraseFile = None,
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token that the scoring service takes.")
    ] = None,
    decline_at: Annotated[
        float | None,
        typer.Option(
            help="Scores at or above it decline, and get reasons; without it a threshold that was set before stays.",
            min=0,
            max=1,
        ),
    ] = None,
    json: Json = False,
) -> None:
    """On a branch server without a connection: verify a bundle, put it in force, and write the acknowledgement to carry back."""
    from coordinator.deploy.branch import Branch
    from coordinator.deploy.targets.edge import write_acknowledgement
    from coordinator.deploy.targets.local import LocalTarget, machine_of

    pinned = load_document(root, SignedRoot)
    settings = make_document(
        LocalSettings,
        "the service",
        state=str(state.absolute()),
        url=url,
        token_file=None if token_file is None else str(token_file),
        decline_at=decline_at,
    )
    branch = Branch(
        machine=machine_of(state, target, pinned),
        service=LocalTarget(target, settings, pinned),
        signer=open_key(key, passphrase_file),
        clock=now,
    )
    said = branch.take_in(bundle)
    out.mkdir(parents=True, exist_ok=True)
    path = write_acknowledgement(out, said)
    if json:
        emit({"sequence": said.sequence, "runs": said.runs, "refused": said.refused, "file": str(path)})
    elif said.refused is None:
        people.print(f"release {said.sequence} is in force; carry {path} back", highlight=False)
    if said.refused is not None:
        raise Refused(
            f"release {said.sequence} is refused, and what ran goes on: {said.refused}. Carry {path} back"
        )


@app.command("list")
def list_rollouts(
    target: Annotated[str | None, typer.Option(help="Only of this target.")] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """All rollouts, the latest first."""
    found = deploy_desk_at(home, access).rollouts(target)
    if json:
        emit({"rollouts": found})
        return
    _rollouts(found)


@app.command("show")
def show(target: TargetArgument, home: Home = None, access: Access = None, json: Json = False) -> None:
    """What a target runs, how its newest order stands, and its rollouts and orders."""
    _show_target(deploy_desk_at(home, access), target, json=json)


@app.command("inventory")
def inventory(
    past: Annotated[bool, typer.Option("--past", help="Also what ran, and until when.")] = False,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """What runs where, by digest, and which recalls are not confirmed."""
    desk = deploy_desk_at(home, access)
    running, waiting = (
        desk.running(past=past),
        [each for each in desk.recalls() if each["confirmed_at"] is None],
    )
    if json:
        emit({"running": running, "recalls": waiting})
        return
    table = Table("target", "arm", "model", "digest", "release", "since", "until")
    for each in running:
        ref, until = f"{each['model']}@{each['version']}", (each["until"] or "")[:19]
        cells = (each["target"], each["arm"], ref, each["digest"][:16], str(each["sequence"]))
        table.add_row(*map(as_written, (*cells, each["since"][:19], until)))
    people.print(table)
    if waiting:
        _recalls(waiting)


@places.command("add")
def add(
    name: Annotated[
        str, typer.Argument(help="What the target is called: lower-case letters, digits, hyphens.")
    ],
    settings: Annotated[
        Path, typer.Argument(help="How it is reached, in YAML: its `kind` is local, kserve or edge.")
    ],
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Record a place where models may run."""
    deploy_desk_at(home, access).add_target(name, _settings(settings))
    if json:
        emit({"target": name})
    else:
        people.print(f"{name} is a target; `covenant deploy start` brings a version there", highlight=False)


@places.command("list")
def list_targets(home: Home = None, access: Access = None, json: Json = False) -> None:
    """All targets."""
    found = deploy_desk_at(home, access).targets()
    if json:
        emit({"targets": found})
        return
    _targets(found)


def _settings(path: Path) -> TargetSettings:
    """The settings in a file, by their kind. Raises `CovenantError`."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read as text") from error
    for kind, model in _KINDS.items():
        if any(line.strip() == f"kind: {kind}" for line in text.splitlines()):
            return read_document(text, model, str(path))
    raise UsageError(f"{path} does not say which `kind` of target it is; write kind: {', '.join(_KINDS)}")


def _step(canary: float | None, *, shadow: bool, full: bool) -> Step | None:
    """The one step that was named, if any. Raises UsageError."""
    if sum((canary is not None, shadow, full)) > 1:
        raise UsageError("name one of --shadow, --canary and --full")
    if canary is not None:
        if not 0.0 < canary < 1.0:
            raise UsageError(f"--canary is a share between 0 and 1, and neither; {canary:g} is not")
        return Canary(canary)
    return Shadow() if shadow else Full() if full else None


def _version(model: str) -> tuple[str, int]:
    name, _, number = model.partition("@")
    if not number.isdecimal() or len(number) > _LONGEST_NUMBER or int(number) < 1:
        raise UsageError(
            f"{model!r} names no version; write NAME@NUMBER, such as {name or 'lending-default'}@1"
        )
    return name, int(number)


def _until_confirmed(desk: DeployDesk, target: str, began: float, wait_s: float) -> float | None:
    """How long it took until the newest order was confirmed; None where that did not come about in time."""
    while True:
        if not next(each for each in desk.targets() if each["name"] == target)["waits"]:
            return time.monotonic() - began
        if time.monotonic() - began >= wait_s:
            return None
        time.sleep(0.02)
        desk.follow(target)


def _show_target(
    desk: DeployDesk, target: str, *, json: bool, rollout: str | None = None, seconds: float | None = None
) -> None:
    found = [each for each in desk.targets() if each["name"] == target]
    orders, rollouts = desk.orders(target), desk.rollouts(target)
    running = [each for each in desk.running(past=False) if each["target"] == target]
    if json:
        more = {} if rollout is None else {"rollout": rollout}
        timed = {} if seconds is None else {"in_force_after_s": round(seconds, 3)}
        emit(
            {**more, **timed, "target": found[0], "running": running, "rollouts": rollouts, "orders": orders}
        )
        return
    _targets(found)
    _rollouts(rollouts)
    table = Table("order", "to", "by", "at", "confirmed", "why", title="orders")
    for each in orders:
        to = f"{each['state']} {each['share']:.0%}" if each["state"] == "canary" else each["state"]
        state = (each["confirmed_at"] or "")[:19] or (
            f"refused: {each['refused']}" if each["refused"] else "waits"
        )
        cells = (str(each["revision"]), to, each["by"], each["made_at"][:19], state, each["why"])
        table.add_row(*map(as_written, cells))
    people.print(table)
    if seconds is not None:
        people.print(f"in force after {seconds:.2f} s", highlight=False)


def _targets(found: Facts) -> None:
    table = Table("target", "kind", "order", "state", "its release ends", title="targets")
    for each in found:
        state = (
            "waits for confirmation" if each["waits"] else "in force" if each["revision"] else "nothing yet"
        )
        state = f"refused: {each['refused']}" if each["refused"] else state
        cells = (each["name"], each["kind"], str(each["revision"]), state, (each["expires"] or "")[:19])
        table.add_row(*map(as_written, cells))
    people.print(table)


def _rollouts(found: Facts) -> None:
    table = Table("rollout", "target", "model", "state", "since", "reason", title="rollouts")
    for each in found:
        state = f"{each['state']} {each['share']:.0%}" if each["state"] == "canary" else each["state"]
        ref = f"{each['model']}@{each['version']}"
        cells = (each["id"], each["target"], ref, state, each["moved_at"][:19], each["reason"] or "")
        table.add_row(*map(as_written, cells))
    people.print(table)


def _recalls(found: Facts) -> None:
    table = Table("target", "model", "ordered", "confirmed", "by", "why", title="recalls")
    for each in found:
        ref, confirmed = f"{each['model']}@{each['version']}", (each["confirmed_at"] or "waits")[:19]
        cells = (each["target"], ref, each["ordered_at"][:19], confirmed, each["by"], each["why"])
        table.add_row(*map(as_written, cells))
    people.print(table)
