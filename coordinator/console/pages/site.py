"""One site: how it is, what to do where it is not well, and what it took part in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

from starlette.responses import Response

from coordinator.console.fleet import Seen
from coordinator.console.pages.runs import runs_table
from coordinator.console.pages.sites import MEMBERS, connected_cell, contract_cell, health_cell
from coordinator.console.reads import runs as run_reads
from coordinator.console.reads import sites as reads
from coordinator.console.reads.sites import SiteView
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.visit import Visit
from coordinator.db.progress_schema import SiteExchange
from protos.halts import SHOWN
from strategies.encoding import sha256_hex
from strategies.errors import UsageError
from strategies.ids import site_name

_ACCOUNTS: Final = "covenant.governance.v1.Ledger/ListAccounts"


def show(visit: Visit) -> Response:
    """One site. Raises Refused for no member."""
    members, seen = visit.console.members.now(), visit.console.fleet.now()
    site, engine = site_name(visit.path["site"]), visit.centre.engine
    view = reads.site_view(engine, members, site, seen, visit.now)
    runs = runs_table(
        run_reads.of_runs(engine, reads.runs_of(engine, site)),
        empty="This site was not asked in any run yet, as far as was noted.",
    )
    refusals = _refusals_table(reads.troubles_of(engine, site))
    halts = _halts_table(visit, view)
    offered: dict[str, Any] = {"runs": runs, "refusals": refusals, "halts": halts}
    if visit.query.get("format") == "csv":
        if visit.query.get("table") not in offered:
            raise UsageError(f"a site's page has the tables {', '.join(offered)}")
        return visit.table(offered[visit.query["table"]])
    return visit.page(
        "site.html",
        view=view,
        badge=health_cell(view),
        facts=_facts(visit, view, seen, members.ref),
        remedies=list(remedies(view)),
        budgets=visit.may(_ACCOUNTS),
        **offered,
    )


def remedies(view: SiteView) -> Iterator[tuple[str, Sequence[str]]]:
    """What is wrong with a site, and what to do, the most serious first."""
    if view.suspended is not None:
        order = view.suspended
        yield (
            f"It is suspended: {order.words}",
            (f"two officers let it return: covenant site return {view.site}",),
        )
    if view.cause is not None and view.heard is not None:
        run = view.heard.trouble_run or "RUN"
        steps = (each.format(run=run, site=view.site) for each in view.cause.next)
        yield view.cause.means, (*steps, f"docs/runbooks/{view.cause.page}")
    elif view.health in {"refuses", "silent"} and view.heard is not None:
        yield f"It said: {view.heard.trouble}", (f"at {view.site}: covenant-agent status",)
    elif view.health == "unfit":
        yield (
            "Its rows did not fit the data contract when it was asked last. The site alone knows which rule.",
            (f"at {view.site}: covenant-agent history",),
        )
    if view.online is False and view.suspended is None:
        yield (
            "It is not connected to the SuperLink now.",
            (
                f"at {view.site}: covenant-agent status, covenant-agent doctor",
                "docs/runbooks/agent-does-not-connect.md",
            ),
        )


def _facts(visit: Visit, view: SiteView, seen: Seen, members: str) -> Sequence[tuple[str, Cell]]:
    heard, witnessed = view.heard, reads.witnessed(visit.centre.engine, view.site)
    node = None if seen.nodes is None else seen.nodes.get(view.node_key.encode())
    return (
        ("Health", health_cell(view)),
        ("Connected", connected_cell(view)),
        ("Counts as connected until", Cell(None if node is None else node.heard_until)),
        ("Answered last", Cell(view.heard_at)),
        ("In run", _run_cell(None if heard is None else heard.answered_run)),
        ("Contract", contract_cell(view)),
        ("Judged", Cell(None if heard is None else heard.contract_at)),
        ("Agent's version", Cell(None if heard is None else heard.version)),
        ("Told", Cell(None if heard is None else heard.version_at)),
        ("Log entries it has signed for", Cell(None if witnessed is None else witnessed[0])),
        ("Signed", Cell(None if witnessed is None else witnessed[1])),
        ("Models it personalises", Cell(view.personal)),
        ("Member of", Cell(members, text=f"{members}, until a later list leaves it out")),
        ("Known to the SuperLink since", Cell(view.enrolled_at)),
        ("Identity key's fingerprint", Cell(view.identity, code=True)),
        ("Connection key's fingerprint", Cell(sha256_hex(view.node_key.encode()), code=True)),
    )


def _run_cell(run: str | None) -> Cell:
    return Cell(run, href=None if run is None else f"/runs/{run}", code=run is not None)


def _refusals_table(rows: Sequence[SiteExchange]) -> Table:
    return Table(
        name="refusals",
        caption="Refusals and silences",
        columns=[
            Column("When"),
            Column("Run"),
            Column("Round", number=True),
            Column("Stage"),
            Column("In its words"),
            Column("What that means"),
        ],
        rows=[
            (
                Cell(row.changed_at),
                _run_cell(row.run_id),
                Cell(row.round),
                Cell(row.stage),
                Cell(row.trouble),
                Cell("" if (cause := reads.cause_of(row.trouble or "")) is None else cause.means),
            )
            for row in rows
        ],
        empty="This site has refused nothing and was not silent, as far as was noted.",
    )


def _halts_table(visit: Visit, view: SiteView) -> Table:
    return Table(
        name="halts-of-site",
        caption="Halts of this site",
        columns=[
            Column("Given"),
            Column("By"),
            Column("Why"),
            Column("State"),
            Column("Lifted"),
            Column("Halt"),
        ],
        rows=[
            (
                Cell(order.at),
                Cell(order.by.words),
                Cell(order.reason),
                Cell("stands", tone="bad") if lifted is None else Cell("lifted", tone="quiet"),
                Cell(lifted),
                Cell(order.id, text=order.id[:SHOWN], code=True),
            )
            for order, lifted in reads.halts_of(visit.centre.engine, view.site)
        ],
        empty="This site was never halted. Halt, at the top of every page, suspends it at once.",
    )


ROUTES: Final = (Route("/sites/{site}", show, MEMBERS),)
