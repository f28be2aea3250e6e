"""`covenant model lineage`, `compare` and `verify`: where versions come from, how two differ, and whether a folder is what was signed."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.tree import Tree

from coordinator.cli.model_approvals import ModelArgument
from coordinator.cli.options import Access, Home, Json, TrustedRoot, centre_at, model_desk_at
from coordinator.documents import read_membership
from coordinator.registry.compare import Comparison
from coordinator.registry.exports import verify_export
from coordinator.registry.versions import find_version
from protos.documents import load_document
from protos.root import SignedRoot
from protos.shell import as_written, emit, people, tell
from strategies.dp.units import Guarantee

_SHORT = 12


def lineage(
    model: Annotated[
        str | None,
        typer.Argument(metavar="MODEL", help="NAME@VERSION or NAME@ALIAS; NAME alone is the latest."),
    ] = None,
    plan: Annotated[
        str | None, typer.Option(help="What came of a plan: its name, or the first digits of its digest.")
    ] = None,
    run: Annotated[str | None, typer.Option(help="What came of a run.")] = None,
    site: Annotated[str | None, typer.Option(help="What the rows of a site had a part in.")] = None,
    home: Home = None,
    access: Access = None,
    json: Json = False,
) -> None:
    """What a version comes from: plan, contract, run, participants, charges, log entries. Or the versions that came of a plan, a run or a site."""
    facts = model_desk_at(home, access).trace(model, plan=plan, run=run, site=site)
    if json:
        emit(facts)
    elif model is None:
        table = Table("model", "stage", "run", "digest")
        for each in facts["models"]:
            words = (each["model"], each["stage"], each["run"], each["digest"][:_SHORT])
            table.add_row(*map(as_written, words))
        people.print(table)
    else:
        people.print(_tree(facts))


def compare(first: ModelArgument, second: ModelArgument, home: Home = None, json: Json = False) -> None:
    """How two versions differ: metrics, weights, plans in words, privacy, participants."""
    from coordinator.registry.compare import compare as compared

    centre = centre_at(home)
    found = compared(centre, find_version(centre.engine, first), find_version(centre.engine, second))
    if json:
        emit(found.facts())
    else:
        _show(found)


def verify(
    folder: Annotated[Path, typer.Argument(help="A folder that `covenant model export` wrote.")],
    root: TrustedRoot,
    members: Annotated[
        Path,
        typer.Option("--members", help="The newest members.json that you have: it says who signs models."),
    ],
    json: Json = False,
) -> None:
    """Check that the files of a folder are those that the federation signed, with the root and the member list alone."""
    trusted = read_membership(members).verify(load_document(root, SignedRoot))
    found = verify_export(folder, trusted)
    if json:
        emit({"digest": found.digest, "files": list(found.files), "members": trusted.members.ref})
        return
    tell(
        f"verified: {len(found.files)} files, as the artifacts service on member list {trusted.members.ref} signed them"
    )
    tell(f"registry digest {found.digest}: approvals and the log name the version by it")


def mlflow(
    model: ModelArgument,
    to: Annotated[str, typer.Option("--to", help="URL of the MLflow server, such as http://127.0.0.1:5000.")],
    home: Home = None,
    json: Json = False,
) -> None:
    """Copy a version to an MLflow server: a run with parameters, metrics and files, and a registered version with the digests as tags.

    Copied again, what is there is brought up to date. The registry here stays the one that counts.
    """
    from coordinator.registry.mlflow_export import hand_over

    centre = centre_at(home)
    found = hand_over(centre, find_version(centre.engine, model), to)
    if json:
        emit({name: getattr(found, name) for name in ("server", "name", "version", "run", "fresh")})
    else:
        made = "made" if found.fresh else "was there, and is up to date"
        tell(f"version {found.version} of {found.name} at {found.server} {made}; its run is {found.run}")


def _tree(facts: dict[str, Any]) -> Tree:
    """A version with what it comes from below it."""
    signed = "signed" if facts["signature"] else "not signed"
    names = "".join(f", {each}" for each in facts["aliases"])
    tree = Tree(as_written(f"{facts['model']} {facts['digest'][:_SHORT]}, {facts['stage']}{names}, {signed}"))
    plan = tree.add(as_written(f"plan {facts['plan']['name']} {facts['plan']['digest'][:_SHORT]}"))
    plan.add(as_written(f"by {facts['plan']['author'] or 'nobody who signed'}"))
    for officer, role in facts["plan"]["approved_by"]:
        plan.add(as_written(f"approved by {officer} ({role})"))
    tree.add(as_written(f"contract {facts['contract']['ref']} {facts['contract']['digest'][:_SHORT]}"))
    tree.add(as_written(f"code {facts['code']}"))
    run = tree.add(
        as_written(f"{facts['run']['id']}, {facts['run']['rounds']} rounds, members {facts['members']}")
    )
    for site in facts["participants"]:
        run.add(as_written(site))
    charges = tree.add("charges" if facts["charges"] else "no charges: nothing protects a person's rows")
    for each in facts["charges"]:
        charges.add(
            as_written(f"{each['account']}: {each['settled']} releases, alone {each['alone']['words']}")
        )
    moves = tree.add("moves" if facts["moves"] else "no moves since it was registered")
    for each in facts["moves"]:
        moves.add(as_written(f"from {each['before']} to {each['after']}, by {each['by']}"))
    for officer, role in facts["approved_by"]:
        tree.add(as_written(f"approved by {officer} ({role})"))
    entries = tree.add("entries in the transparency log")
    for kind, places in facts["log_entries"].items():
        entries.add(as_written(f"{kind}: {_places(places)}"))
    return tree


def _places(places: list[int]) -> str:
    """`3, 5-9`."""
    runs = []
    for _, each in groupby(enumerate(places), key=lambda pair: pair[1] - pair[0]):
        of = [place for _, place in each]
        runs.append(str(of[0]) if len(of) == 1 else f"{of[0]}-{of[-1]}")
    return ", ".join(runs)


def _show(found: Comparison) -> None:
    first, second = found.first.version.ref, found.second.version.ref
    table = Table("metric", first, second, "difference")
    for name, (one, other) in found.metrics.items():
        apart = "" if one is None or other is None else f"{other - one:+.4g}"
        table.add_row(as_written(name), _figure(one), _figure(other), apart)
    if table.row_count:
        people.print(table)
    distance = found.distance
    if distance is None:
        tell("weights: not comparable, the models have other shapes")
    else:
        tell(
            f"weights: {distance.parameters} parameters, L2 distance {distance.l2:.6g}"
            + ("" if distance.relative is None else f" ({distance.relative:.3%} of the first)")
            + f", at most {distance.largest:.6g} in one"
            + ("" if distance.cosine is None else f", cosine {distance.cosine:.6f}")
        )
    tell("plan: the same" if not found.plan.changes else "plan:")
    for change in found.plan.changes:
        tell(f"  - {change.sentence}{'  <- protects less' * change.loosens}")
    tell(f"privacy: {first} costs {_cost(found.plan.cost_old)}; {second} costs {_cost(found.plan.cost_new)}")
    sites = found.facts()["participants"]
    tell(
        f"participants: both {_names(sites['both'])}; only {first} {_names(sites['first_only'])}; only {second} {_names(sites['second_only'])}"
    )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _names(sites: list[str]) -> str:
    return ", ".join(sites) or "nobody"


def _cost(cost: Guarantee | None) -> str:
    return "everything (privacy mode none promises nothing)" if cost is None else f"{cost.words} at most"
