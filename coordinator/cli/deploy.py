"""`covenant deploy`: approved versions brought to where they run, and back."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Final

import typer

from coordinator.cli.deploy_tables import (
    recalls_table,
    rollouts_table,
    running_table,
    show_target,
)
from coordinator.cli.deploy_targets import places
from coordinator.cli.options import Access, Home, Json, TrustedRoot, deploy_desk_at
from coordinator.cli.signing import PassphraseFile, now, open_key
from coordinator.deploy.desk import DeployDesk
from coordinator.deploy.targets.settings import LocalSettings
from protos.documents import load_document, make_document
from protos.rollouts import Canary, Full, RolloutRules, Shadow, Step
from protos.root import SignedRoot
from protos.shell import emit, people
from strategies.errors import Refused, UsageError

app = typer.Typer(
    no_args_is_help=True, help="Rollouts: approved versions brought to where they run, and back."
)
app.add_typer(places, name="targets")
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
Seen = Annotated[
    int | None,
    typer.Option(
        help="The newest order of the target as you saw it in `covenant deploy show` (0 before the first): once there is another one nothing is decided.",
        min=0,
        max=2**32 - 1,
    ),
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
    seen: Seen = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Begin to bring an approved version to a target: in the shadow, on a share of requests, or in full."""
    name, version = version_of(model)
    step = _step(canary, shadow=shadow, full=False) or Full()
    chosen = RolloutRules() if rules is None else load_document(rules, RolloutRules)
    desk = deploy_desk_at(home, access)
    rollout = desk.start(name, version, target, step, chosen, why, seen)
    show_target(desk, target, json=json, rollout=rollout)


@app.command("promote")
def promote(
    target: TargetArgument,
    why: Why,
    canary: CanaryOption = None,
    full: Annotated[bool, typer.Option("--full", help="It answers every request.")] = False,
    seen: Seen = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Let what is on trial go on to a larger share, or in full; without either, to the next step of its rules."""
    desk = deploy_desk_at(home, access)
    desk.promote(target, _step(canary, shadow=False, full=full), why, seen)
    show_target(desk, target, json=json)


@app.command("rollback")
def rollback(
    target: TargetArgument,
    why: Why,
    wait_s: Annotated[
        float, typer.Option(help="Wait at most so many seconds until it is in force; 0 does not wait.")
    ] = 10.0,
    seen: Seen = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Take the newest rollout back, also one that serves in full; what served before serves again. Says how long that took."""
    began = time.monotonic()
    desk = deploy_desk_at(home, access)
    desk.roll_back(target, why, seen)
    seconds = _until_confirmed(desk, target, began, wait_s)
    show_target(desk, target, json=json, seconds=seconds)


@app.command("renew")
def renew(
    target: TargetArgument,
    why: Why,
    seen: Seen = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """Release what serves anew, so that it lasts longer; for an edge target that is a new bundle to carry."""
    desk = deploy_desk_at(home, access)
    desk.renew(target, why, seen)
    show_target(desk, target, json=json)


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
    name, version = version_of(model)
    desk = deploy_desk_at(home, access)
    named = desk.recall(name, version, target, why)
    found = [each for each in desk.recalls() if each["model"] == name and each["version"] == version]
    if json:
        emit({"targets": list(named), "recalls": found})
        return
    recalls_table(found)


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
    rollouts_table(found)


@app.command("show")
def show(target: TargetArgument, home: Home = None, access: Access = None, json: Json = False) -> None:
    """What a target runs, how its newest order stands, and its rollouts and orders."""
    show_target(deploy_desk_at(home, access), target, json=json)


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
    running_table(running)
    if waiting:
        recalls_table(waiting)


def _step(canary: float | None, *, shadow: bool, full: bool) -> Step | None:
    """The one step that was named, if any. Raises UsageError."""
    if sum((canary is not None, shadow, full)) > 1:
        raise UsageError("name one of --shadow, --canary and --full")
    if canary is not None:
        if not 0.0 < canary < 1.0:
            raise UsageError(f"--canary is a share between 0 and 1, and neither; {canary:g} is not")
        return Canary(canary)
    return Shadow() if shadow else Full() if full else None


def version_of(model: str) -> tuple[str, int]:
    """Name and number of NAME@NUMBER. Raises UsageError."""
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
