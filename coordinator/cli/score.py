"""`covenant score`: the scoring service, the tokens of who may ask it, and its log of decisions."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from coordinator.cli.options import Home, Json, centre_at
from coordinator.cli.score_windows import begin_watch, outcomes, windows
from coordinator.registry.versions import find_version
from protos.documents import load_document
from protos.root import SignedRoot
from protos.shell import emit, people
from strategies.errors import UsageError

if TYPE_CHECKING:
    from coordinator.deploy.scoring.scorer import Scorer
    from coordinator.deploy.scoring.server import Tls
    from coordinator.deploy.scoring.serving import Opened, Opener

app = typer.Typer(no_args_is_help=True, help="Scoring with a registered model.")
app.command("windows")(windows)
app.command("outcomes")(outcomes)

ServedModel = Annotated[
    str | None,
    typer.Argument(help="NAME or NAME@VERSION of a registered model, to try it on loopback; else --state."),
]
State = Annotated[
    Path | None,
    typer.Option(
        help="The service's state folder: what `serving.json` there says is served, as it changes. What the service has accepted is remembered there."
    ),
]
PackagePath = Annotated[
    Path | None,
    typer.Option(
        "--package",
        help="With --state: serve this package alone, a folder or a .covenant bundle, whatever `serving.json` says.",
    ),
]
PinnedRoot = Annotated[
    Path | None,
    typer.Option("--root", help="With --state: the federation's root.json, from where you trust it."),
]
ForTarget = Annotated[
    str | None,
    typer.Option("--target", help="With --state: the target that this is; releases for others are refused."),
]
Callers = Annotated[
    Path | None, typer.Option(help="Who may ask, by token: the file that `covenant score token` writes.")
]
Certificate = Annotated[
    Path | None, typer.Option("--tls-certificate", help="The service's certificate, PEM.")
]
Key = Annotated[Path | None, typer.Option("--tls-key", help="Its private key, PEM.")]
ClientCa = Annotated[
    Path | None, typer.Option("--client-ca", help="Ask for client certificates of this authority, PEM.")
]
Anybody = Annotated[
    bool, typer.Option("--no-auth-on-loopback", help="Answer anybody on this machine; only on loopback.")
]
Decisions = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the decision log; else `decisions` in the state folder, or in the home's `scoring/NAME`."
    ),
]
DecisionsKey = Annotated[
    Path | None,
    typer.Option(
        "--decisions-key", help="The key of its digests, made if missing; else beside the log's folder."
    ),
]
MonitorFile = Annotated[
    Path | None,
    typer.Option(
        "--monitor",
        help="With --state: count decisions in windows, and tell each with noise, as this file (monitor/v1) says.",
    ),
]
References = Annotated[
    list[Path] | None,
    typer.Option(
        help="With --monitor, one for each version: what `covenant monitor reference` wrote. With it this place judges for itself what may not leave."
    ),
]
Rules = Annotated[
    Path | None,
    typer.Option(help="With --reference: the rules of drift, drift-rules/v1; else the usual ones."),
]


@app.command("serve")
def serve(
    model: ServedModel = None,
    *,
    state: State = None,
    package: PackagePath = None,
    root: PinnedRoot = None,
    target: ForTarget = None,
    home: Home = None,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port of HTTP.")] = 8080,
    grpc_port: Annotated[int | None, typer.Option(help="Port of gRPC; without it HTTP alone.")] = None,
    callers: Callers = None,
    tls_certificate: Certificate = None,
    tls_key: Key = None,
    client_ca: ClientCa = None,
    no_auth_on_loopback: Anybody = False,
    decline_at: Annotated[
        float | None,
        typer.Option(
            help="With MODEL or --package: scores at or above it decline, and get reasons.", min=0, max=1
        ),
    ] = None,
    decisions: Decisions = None,
    decisions_key: DecisionsKey = None,
    monitor: MonitorFile = None,
    reference: References = None,
    rules: Rules = None,
    rows_per_second: Annotated[
        float, typer.Option(help="Rows a caller may have scored a second.", min=1)
    ] = 50_000.0,
) -> None:
    """Serve models in the Open Inference Protocol v2, over HTTP and gRPC, on ONNX Runtime.

    From a state folder only packages are served that two officers approved and that were released for this target, in time and in order.
    """
    from coordinator.deploy.scoring.access import Limits
    from coordinator.deploy.scoring.reload import Follower, serve_one
    from coordinator.deploy.scoring.server import Listening
    from coordinator.deploy.scoring.server import serve as serve_until_told
    from coordinator.deploy.scoring.serving import Opened

    _require_one_source(model, state, (package, root, target, monitor))
    listening = Listening(
        host=host,
        port=port,
        grpc_port=grpc_port,
        tls=_tls(tls_certificate, tls_key, client_ca),
        callers=callers,
        no_auth_on_loopback=no_auth_on_loopback,
        limits=Limits(rows_per_second=rows_per_second, burst_rows=4 * rows_per_second),
    )
    listening.check()
    _require_fitting(model, package, host, decline_at)
    if monitor is None and (reference or rules):
        raise UsageError("--reference and --rules go with --monitor")
    folder, what = _source(model, home, state, package, (root, target))
    scorer = _scorer(folder, decisions, decisions_key)
    if monitor is not None and target is not None:
        scorer.watch = begin_watch(folder, monitor, target, decisions, (reference or [], rules))
    if isinstance(what, Opened):
        serve_one(scorer, what, decline_at)
        serve_until_told(scorer, listening)
    else:
        serve_until_told(scorer, listening, Follower(folder.absolute(), what, scorer))


@app.command("token")
def token(
    name: Annotated[str, typer.Argument(help="Who is to ask: a system's name, such as loan-desk.")],
    callers: Annotated[Path, typer.Option(help="The service's file of callers; made if missing.")],
) -> None:
    """Make a token for a caller and print it, once; the file keeps its digest. A caller's earlier token ends."""
    from coordinator.deploy.scoring.access import add_caller

    made = add_caller(callers, name)
    people.print(f"a token for {name}; running services take it within a second", highlight=False)
    typer.echo(made)


@app.command("decisions")
def decisions(
    folder: Annotated[Path, typer.Argument(help="Folder of a decision log.")], json: Json = False
) -> None:
    """Check that no line of a decision log was changed, moved or removed. Leaves with 3 if one was."""
    from coordinator.deploy.scoring.decisions import verify

    if not folder.is_dir():
        raise UsageError(f"{folder} is no folder; name that of a decision log")
    head = verify(folder)
    if json:
        emit({"lines": head.lines, "head": head.digest, "files": head.file, "torn_bytes": head.torn})
    else:
        people.print(f"{head.lines} lines in order; the last has the digest {head.digest}", highlight=False)


def _require_one_source(model: str | None, state: Path | None, of_state: tuple[object, ...]) -> None:
    if (model is None) == (state is None):
        raise UsageError("name one MODEL, or a state folder with --state")
    if model is not None and any(each is not None for each in of_state):
        raise UsageError("--package, --root, --target and --monitor go with --state; leave MODEL out")


def _require_fitting(model: str | None, package: Path | None, host: str, decline_at: float | None) -> None:
    from coordinator.deploy.scoring.server import is_loopback

    if model is not None and not is_loopback(host):
        raise UsageError(
            "a registered model is tried on loopback; elsewhere deploy it, and serve its --state"
        )
    if model is None and package is None and decline_at is not None:
        raise UsageError(
            "a state folder has its threshold in the target's `decline_at`; leave --decline-at out"
        )


def _source(
    model: str | None,
    home: Path | None,
    state: Path | None,
    package: Path | None,
    pinned: tuple[Path | None, str | None],
) -> tuple[Path, Opened | Opener]:
    """Where the service keeps its log, and the one model that it serves, or what opens those that `state` comes to name. Raises `CovenantError`."""
    if model is not None:
        opened, folder = _registered(model, home)
        return folder, opened
    assert state is not None  # noqa: S101  (`_require_one_source`)
    opener = _opener(state, *pinned)
    return state, opener if package is None else opener(package)


def _registered(model: str, home: Path | None) -> tuple[Opened, Path]:
    """A registered version, and where the service that tries it keeps its log. Raises `CovenantError`."""
    from coordinator.deploy.scoring.exports import opened_from

    centre = centre_at(home)
    version = find_version(centre.engine, model)
    files = {name: centre.artifacts.get(digest) for name, digest in version.artifacts.items()}
    opened = opened_from(version.name, version.version, files)
    return opened, centre.settings.home / "scoring" / version.name


def _opener(state: Path, root: Path | None, target: str | None) -> Opener:
    """What judges every package before it is served. Raises UsageError without a root and a target to judge by."""
    from coordinator.deploy.targets.local import opener_of

    if root is None or target is None:
        raise UsageError(
            "--state needs --root and --target: a package is served only if the federation with that root approved and released it for this target"
        )
    return opener_of(state.absolute(), target, load_document(root, SignedRoot), lambda: datetime.now(UTC))


def _scorer(folder: Path, decisions: Path | None, decisions_key: Path | None) -> Scorer:
    """With a decision log in `folder`, or where it is said to be. Raises `CovenantError`."""
    from coordinator.deploy.scoring.decisions import KEY_FILE, DecisionLog, SiteKey
    from coordinator.deploy.scoring.scorer import Scorer

    folder.mkdir(parents=True, exist_ok=True)
    log = decisions or folder / "decisions"
    key = SiteKey.at(decisions_key or log.parent / KEY_FILE)
    return Scorer(DecisionLog(log, key), clock=lambda: datetime.now(UTC))


def _tls(certificate: Path | None, key: Path | None, client_ca: Path | None) -> Tls | None:
    """Raises UsageError for a part without the others, or a file that is not there."""
    from coordinator.deploy.scoring.server import Tls

    if certificate is None and key is None:
        if client_ca is not None:
            raise UsageError(
                "--client-ca needs --tls-certificate and --tls-key: without TLS nobody shows a certificate"
            )
        return None
    if certificate is None or key is None:
        raise UsageError("--tls-certificate and --tls-key go together; give both")
    for path in (certificate, key, client_ca):
        if path is not None and not path.is_file():
            raise UsageError(f"{path} does not exist")
    return Tls(certificate=certificate, key=key, client_ca=client_ca)
