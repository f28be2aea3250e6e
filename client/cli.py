"""The command `covenant-agent`: what IT at a site runs."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from json import dumps
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from client import copying, halting
from client.journal.entries import JournalBroken
from protos.egress import keep_quiet
from protos.shell import emit, people, run_command
from protos.site import load_site
from strategies.errors import UsageError

app = typer.Typer(
    name="covenant-agent",
    help="The agent of a site: takes part in rounds next to its own data, on its own terms.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
ConfigFile = Annotated[Path, typer.Option("--config", "-c", help="The site's configuration.")]
REQUEST_FILE = "enrolment.json"
_FEWEST_PEERS = 2

_SITE = """\
covenant: site/v1
site: {site}
federation:
  name: {federation}
  superlink: {superlink}
  ca: {ca}                      # the transport's certificate authority; nothing else is trusted
  root: {root}                  # the federation's root, pinned; compare its fingerprint with the officers
  proxy: none                   # or a URL; the environment is ignored, loopback is never proxied
identity:
  key: site.key
  {passphrase}
  node_key: node.key            # of the transport; it is not encrypted, so keep its mode 0600
journal: journal.db             # what this site has answered; never copy it back from a backup, never delete it
accounts: accounts.db           # what was released of its rows; the agents of other federations name this very file
halts: halts.db                 # what people here have halted, with `covenant-agent halt`
log_copy: log.db                # this site's copy of the transparency log, with which a lost coordinator is restored
{peers}
data:
  {contract_name}:
    contract: {contract}
    contract_file: {contract_file}
    file: {data}
    # columns: {{contract_name: name_in_the_file}}
{account}
allow:
  apps: ["client.app:app"]      # installed code that a run may name; code itself never travels
  fab_sha256: []                # pin manifests here; empty admits any that names an allowed app
policy:                         # default deny: what is not listed is refused
  purposes: [{purposes}]
  privacy_modes: [{modes}]   # of none, local, distributed, central; none: nothing protects a person's rows in what is released
  aggregation: [{aggregation}]         # secure: the centre sees sums only; plain: it sees this site's updates
  adversaries: [active]         # of secure aggregation: active protects from a centre that breaks the protocol, semi-honest does not
  colluding_at_least: 1         # how many sites that collude with the centre a plan must bear
  approvals: {{privacy_officer: 1, model_risk: 1}}   # officers on the member list who must have approved a plan, beside its author
run:
  cpu_threads: 1
  idle_poll: 1s
  busy_poll: 25ms
"""


@app.command("init")
def init(  # noqa: PLR0917 (each is an option of the command)
    folder: Annotated[Path, typer.Argument(help="The folder to make for this site.")],
    site: Annotated[str, typer.Option(help="This site's name, as agreed with the federation.")],
    federation: Annotated[str, typer.Option(help="The federation's name.")],
    superlink: Annotated[str, typer.Option(help="host:port of the federation's SuperLink.")],
    ca: Annotated[Path, typer.Option(help="ca.crt, from the centre.")],
    root: Annotated[Path, typer.Option(help="root.json, from the officers.")],
    contract: Annotated[Path, typer.Option(help="The data contract that this site's data follows.")],
    data: Annotated[Path, typer.Option(help="The Parquet file with this site's rows.")],
    purpose: Annotated[list[str], typer.Option(help="A purpose that this site admits; repeatable.")],
    peer: Annotated[
        list[str] | None,
        typer.Option(
            help="A site that this one recognises as real; repeatable. Secure aggregation needs two or more."
        ),
    ] = None,
    allow_plain: Annotated[
        bool,
        typer.Option("--allow-plain", help="Admit plans under which the centre sees this site's updates."),
    ] = False,
    privacy: Annotated[
        list[str] | None,
        typer.Option(
            help="A privacy mode that this site admits: distributed (the default), local, central or none; repeatable."
        ),
    ] = None,
    account: Annotated[
        str | None,
        typer.Option(
            help="The most that may ever become known of one unit, as UNIT,EPSILON,DELTA[,ORDER], such as record,8,1e-5 or"
            " customer:customer_id:4,8,1e-6. Needed for every mode but none."
        ),
    ] = None,
    passphrase_file: Annotated[
        Path | None,
        typer.Option(
            help="File with the passphrase that the identity key is to have, mode 0600. Without it the key is not encrypted."
        ),
    ] = None,
) -> None:
    """Make a site's configuration and keys, and the enrolment request that the federation's officers must certify."""
    from client.keystore import make_keys
    from protos.contract import Contract
    from protos.documents import load_document
    from protos.root import SignedRoot

    agreed = load_document(contract, Contract)
    pinned = load_document(root, SignedRoot)
    pinned.require_own_quorum()
    if pinned.root.federation != federation:
        raise UsageError(
            f"{root} is the root of {pinned.root.federation}, not of {federation}; ask the officers for the right one"
        )
    if not ca.exists():
        raise UsageError(f"{ca} does not exist; the centre's `covenant init` made it as tls/ca.crt")
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "site.yaml"
    if config.exists():
        raise UsageError(f"{config} exists; a site is never overwritten, choose another folder")
    folder.chmod(0o700)
    for source in (ca, root, contract):
        (folder / source.name).write_bytes(source.read_bytes())
    config.write_text(
        _SITE.format(
            site=site, federation=federation, superlink=superlink, ca=ca.name, root=root.name, contract=agreed.ref,
            contract_name=agreed.name, contract_file=contract.name, data=data.resolve(), purposes=", ".join(purpose),
            peers=_peers(sorted(set(peer or ()) - {site})), aggregation="secure, plain" if allow_plain else "secure",
            modes=", ".join(privacy or ["distributed"]), account=_account(account),
            passphrase=_passphrase(passphrase_file),
        )
    )  # fmt: skip
    try:
        request = make_keys(load_site(config))
    except UsageError:
        config.unlink()
        raise
    (folder / REQUEST_FILE).write_bytes(request.canonical + b"\n")
    people.print(
        f"made {folder}; send {folder / REQUEST_FILE} to the officers and tell them this fingerprint:"
    )
    people.print(f"  {request.fingerprint}", highlight=False)
    people.print(
        f"the root that this site pins has fingerprint {pinned.root.fingerprint}; compare it with theirs",
        highlight=False,
    )


def _passphrase(file: Path | None) -> str:
    """The part of a configuration that says where the identity key's passphrase is."""
    if file is None:
        return "# passphrase: {credential: NAME}   # of systemd, or {file: PATH}; without it the key is not encrypted"
    return f"passphrase: {{file: {dumps(str(file.resolve()))}}}"


def _peers(names: Sequence[str]) -> str:
    """The part of a configuration that says whom this site recognises."""
    listed = ", ".join(names)
    if len(names) < _FEWEST_PEERS:
        return f"# peers: {{recognise: [{listed}], at_least: 2}}   # who must be in a sum with this site: needed for secure aggregation"
    return f"peers:                          # who must be in a sum with this site, and how many of them\n  recognise: [{listed}]\n  at_least: 2"


def _account(given: str | None) -> str:
    """The part of a configuration that says how much may become known of one unit."""
    what = "# how much may ever become known of one unit; order is of the filter that holds it, and stays"
    if given is None:
        return f"    # account: {{unit: {{kind: record}}, epsilon: 8.0, delta: 1.0e-5}}   {what}"
    unit, _, rest = given.partition(",")
    kind, *parts = unit.split(":")
    names = ("column", "max_rows", "max_sites") if kind == "customer" else ("max_rows",)
    try:
        epsilon, delta, *order = rest.split(",")
        figures = f"epsilon: {float(epsilon)}, delta: {float(delta)}"
    except ValueError as error:
        raise _no_account(given) from error
    if len(order) > 1 or len(parts) > len(names):
        raise _no_account(given)
    told = "".join(f", {name}: {part}" for name, part in zip(names, parts, strict=False))
    fixed = f", order: {order[0]}" if order else ""
    return f"    account: {{unit: {{kind: {kind}{told}}}, {figures}{fixed}}}   {what}"


def _no_account(given: str) -> UsageError:
    return UsageError(
        f"--account {given!r}: use UNIT,EPSILON,DELTA or UNIT,EPSILON,DELTA,ORDER, such as record,8,1e-5 or customer:customer_id:4,8,1e-6"
    )


@app.command("budget")
def budget(
    config: ConfigFile = Path("site.yaml"),
    export: Annotated[
        Path | None,
        typer.Option(help="Write all charges, signed, for `covenant ledger reconcile`."),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """What was released of this site's rows so far, as its own account has it, and what is left."""
    from client.budget import export_to, show, views
    from client.keystore import open_accounts

    site = load_site(config)
    book = open_accounts(site)
    try:
        found = list(views(site, book))
        if export is not None:
            export_to(export, site, book)
    finally:
        book.close()
    if json:
        emit({"site": site.site, "accounts": [each.facts() for each in found]})
    else:
        show(site.site, found)


@app.command("witness")
def witness(
    config: ConfigFile = Path("site.yaml"),
    begin_anew: Annotated[
        str | None,
        typer.Option(
            help="Forget what this site has seen of the log, for this reason: only when the officers have said that the log begins anew."
        ),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """What this site has signed of the transparency log, where its journal stood, and any split of the log that it was shown."""
    from client import witness_report

    site = load_site(config)
    if begin_anew is not None:
        witness_report.begin_anew(site, begin_anew)
    facts = witness_report.report(site)
    if json:
        emit(facts)
    else:
        witness_report.show(facts)


halting.register(app)
copying.register(app)


@app.command("run")
def run(
    config: ConfigFile = Path("site.yaml"),
    give_up_after: Annotated[
        float | None,
        typer.Option(
            help="Leave with exit code 4 if the SuperLink cannot be reached for so many seconds at the start."
        ),
    ] = None,
) -> None:
    """Take part in the federation's rounds until stopped."""
    site = load_site(config)
    proxy = None if site.federation.proxy == "none" else site.federation.proxy
    keep_quiet(flower_home=config.resolve().parent / "flower", proxy=proxy)
    # After the environment is quiet: flwr reads its switches at import.
    from client.bootstrap import open_agent

    agent = open_agent(config.resolve(), give_up_after_s=give_up_after)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: agent.stop())
    try:
        agent.serve()
    except JournalBroken as broken:
        _end_at_once(broken)


def _end_at_once(broken: JournalBroken) -> NoReturn:
    """Leave without the interpreter's own tidying up, which would close the journal, and that flushes it a second time."""
    people.print(f"error: {broken}", style="bold red", markup=False, highlight=False, soft_wrap=True)
    os._exit(broken.exit_code)


def main() -> None:
    """Run `covenant-agent`."""
    keep_quiet()
    run_command(lambda: app(standalone_mode=False))


if __name__ == "__main__":
    main()
