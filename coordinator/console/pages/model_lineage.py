"""Where versions come from and what came of them, as graphs: from a version both ways, and from a run, a plan or a site on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from urllib.parse import quote

from starlette.responses import Response

from coordinator.console.downloads import asked_for, link_to
from coordinator.console.graphs import Graph, Node
from coordinator.console.pages.models import models_table
from coordinator.console.reads import deployments as places
from coordinator.console.reads import models as reads
from coordinator.console.reads.models import ModelRow
from coordinator.console.routes import Route
from coordinator.console.visit import Visit
from coordinator.registry.lineage import Lineage

_SHOWN: Final = 12
"""Digits of a plan's digest."""
_MOST_NODES: Final = 12
"""Of one kind; more of them become one node that says how many."""
_LINEAGE: Final = "covenant.control.v1.Models/GetLineage"


def version_graph(visit: Visit, found: Lineage) -> Graph:
    """What a version comes from, and where it went. Where it runs is for who may read that."""
    version = found.version
    here = Node(id="version", kind="model", label=version.ref, href=f"/models/{version.ref}", here=True)
    plan = Node(
        id="plan",
        kind="plan",
        label=f"{found.plan.name} {found.plan.digest[:_SHOWN]}",
        href=f"/models/from/plan/{found.plan.digest}",
    )
    run = Node(
        id="run",
        kind="run",
        label=f"{version.run_id}, {found.rounds} rounds",
        href=f"/models/from/run/{version.run_id}",
    )
    contract = Node(id="contract", kind="contract", label=found.contract.ref)
    code = Node(id="code", kind="code", label=found.plan.training.component)
    signed = [*([found.author] if found.author else []), *(officer for officer, _ in found.plan_approved_by)]
    officers = _nodes("officer", [(each, None) for each in dict.fromkeys(signed)])
    sites = _nodes("site", [(each, f"/models/from/site/{quote(each)}") for each in found.participants])
    after = [*_targets(visit, version.name, version.version), *_personal(version.personal)]
    edges = [("contract", "plan"), ("code", "plan"), ("plan", "run"), ("run", "version")]
    edges += [(each.id, "plan") for each in officers] + [(each.id, "run") for each in sites]
    edges += [("version", each.id) for each in after]
    return Graph(
        name="lineage",
        title=f"Lineage of {version.ref}",
        nodes=[*officers, contract, code, plan, *sites, run, here, *after],
        edges=edges,
    )


def show_run(visit: Visit) -> Response:
    """What came of a run."""
    run = visit.path["run"]
    start = Node(id="start", kind="run", label=run, href=f"/runs/{quote(run)}", here=True)
    return _shown(visit, start, f"What came of {run}", reads.made_by_run(visit.centre.engine, run))


def show_plan(visit: Visit) -> Response:
    """What came of a plan."""
    plan = visit.path["plan"]
    start = Node(id="start", kind="plan", label=plan[:_SHOWN], href=f"/plans/{quote(plan)}", here=True)
    return _shown(
        visit, start, f"What came of plan {plan[:_SHOWN]}", reads.made_by_plan(visit.centre.engine, plan)
    )


def show_site(visit: Visit) -> Response:
    """What the rows of a site had a part in."""
    site = visit.path["site"]
    start = Node(id="start", kind="site", label=site, href=f"/sites/{quote(site)}", here=True)
    title = f"What the rows of {site} had a part in"
    return _shown(visit, start, title, reads.made_with_site(visit.centre.engine, site))


def _shown(visit: Visit, start: Node, title: str, rows: Sequence[ModelRow]) -> Response:
    table = models_table("versions", title, rows, empty="No registered version came of it.")
    versions = _nodes("model", [(each.ref, f"/models/{each.ref}") for each in rows])
    named = {each.id for each in versions}
    edges, targets = [("start", each.id) for each in versions], dict[str, Node]()
    for each in rows:
        for target, _ in each.runs_at:
            node = Node(id=f"target {target}", kind="target", label=target, href=f"/deployments/{target}")
            if f"model {each.ref}" in named and (node.id in targets or len(targets) < _MOST_NODES):
                targets[node.id] = node
                edges.append((f"model {each.ref}", node.id))
    graph = Graph(name="lineage", title=title, nodes=[start, *versions, *targets.values()], edges=edges)
    return asked_for(visit, [table]) or visit.page(
        "lineage.html", title=title, graph=graph, versions=table, csv=link_to(visit, table)
    )


def _targets(visit: Visit, name: str, version: int) -> Sequence[Node]:
    if not visit.may("covenant.deploy.v1.Deployments/ListRunning"):
        return ()
    found = places.ran_at(visit.centre.engine, name, version)
    return _nodes("target", [(each, f"/deployments/{each}") for each in found])


def _personal(sites: Sequence[str]) -> Iterator[Node]:
    for each in _nodes("site", [(each, f"/sites/{quote(each)}") for each in sites]):
        yield Node(id=f"personal {each.id}", kind="personalised at", label=each.label, href=each.href)


def _nodes(kind: str, found: Sequence[tuple[str, str | None]]) -> Sequence[Node]:
    nodes = [
        Node(id=f"{kind} {label}", kind=kind, label=label, href=href) for label, href in found[:_MOST_NODES]
    ]
    if len(found) > _MOST_NODES:
        nodes.append(Node(id=f"{kind} more", kind=kind, label=f"{len(found) - _MOST_NODES} more"))
    return nodes


ROUTES: Final = (
    Route("/models/from/run/{run}", show_run, _LINEAGE),
    Route("/models/from/plan/{plan}", show_plan, _LINEAGE),
    Route("/models/from/site/{site}", show_site, _LINEAGE),
)
