"""Sites: how each of them is, and what to do where one is not well."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

from starlette.responses import Response

from coordinator.console.fleet import Seen
from coordinator.console.pages import run_tables as tables
from coordinator.console.pages.runs import runs_table
from coordinator.console.reads import runs as run_reads
from coordinator.console.reads import sites as reads
from coordinator.console.reads.sites import SiteView
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.visit import Visit
from coordinator.db.progress_schema import SiteExchange
from coordinator.enrolment.invitations import InvitationBook
from protos.halts import SHOWN
from protos.membership import Role
from strategies.encoding import sha256_hex
from strategies.errors import UsageError
from strategies.ids import site_name

_MEMBERS: Final = "covenant.governance.v1.Members/GetMembers"
_ACCOUNTS: Final = "covenant.governance.v1.Ledger/ListAccounts"
_MOST_INVITATIONS: Final = 1000
HEALTH: Final[dict[str, tuple[str, Tone]]] = {
    "suspended": ("suspended", "bad"),
    "unfit": ("rows do not fit the contract", "bad"),
    "refuses": ("refuses", "bad"),
    "silent": ("silent", "warn"),
    "away": ("not connected", "warn"),
    "new": ("not asked yet", "quiet"),
    "well": ("well", "good"),
}
"""Words and tone, the most urgent first."""
_TROUBLED: Final = frozenset({"suspended", "unfit", "refuses", "silent", "away"})
_FILTERS: Final = ("trouble", "well", "new")


def show_all(visit: Visit) -> Response:
    """All member sites. Raises UsageError for a filter that there is not."""
    members, seen = visit.console.members.now(), visit.console.fleet.now()
    found = reads.site_views(visit.centre.engine, members, seen, visit.now)
    which, name = visit.query.get("health", ""), visit.query.get("name", "").strip().lower()
    if which and which not in _FILTERS:
        raise UsageError(f"sites are listed by health as one of {', '.join(_FILTERS)}, or all of them")
    shown = [each for each in found if _is(each, which) and name in each.site]
    shown.sort(key=lambda each: list(HEALTH).index(each.health))
    table = _sites_table(shown, "No site is like that." if which or name else "There is no member site.")
    if visit.query.get("format") == "csv":
        return visit.table(table)
    return visit.page(
        "sites.html",
        sites=table,
        csv=visit.with_query(format="csv"),
        members=members.ref,
        count=len(found),
        troubled=sum(each.health in _TROUBLED for each in found),
        unknown=seen.trouble,
        health=which,
        name=name,
        filters=_FILTERS,
        joining=_joining(visit, {each.site for each in found}),
    )


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


def health_cell(view: SiteView) -> Cell:
    """The health of a site as a badge."""
    words, tone = HEALTH[view.health]
    return Cell(view.health, text=words, tone=tone)


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


def _is(view: SiteView, which: str) -> bool:
    match which:
        case "trouble":
            return view.health in _TROUBLED
        case "well" | "new":
            return view.health == which
    return True


def _sites_table(found: Sequence[SiteView], empty: str) -> Table:
    return Table(
        name="sites",
        caption="Sites",
        columns=[
            Column("Site"),
            Column("Health"),
            Column("Connected"),
            Column("Answered last"),
            Column("Last trouble"),
            Column("Contract"),
            Column("Refusals in 30 days", number=True),
            Column("Agent"),
            Column("Personal models", number=True),
        ],
        rows=[
            (
                tables.site_cell(each.site),
                health_cell(each),
                _connected(each),
                Cell(each.heard_at),
                tables.shortened("" if each.heard is None else each.heard.trouble or ""),
                _contract(each),
                Cell(each.troubles),
                Cell(None if each.heard is None else each.heard.version),
                Cell(each.personal),
            )
            for each in found
        ],
        empty=empty,
    )


def _connected(view: SiteView) -> Cell:
    if view.online is None:
        return Cell("not known", tone="quiet")
    return Cell("yes", tone="good") if view.online else Cell("no", tone="warn")


def _contract(view: SiteView) -> Cell:
    if view.heard is None or view.heard.fits is None:
        return Cell("not judged yet", tone="quiet")
    name = view.heard.contract
    return Cell(f"fits {name}", tone="good") if view.heard.fits else Cell(f"does not fit {name}", tone="bad")


def _facts(visit: Visit, view: SiteView, seen: Seen, members: str) -> Sequence[tuple[str, Cell]]:
    heard, witnessed = view.heard, reads.witnessed(visit.centre.engine, view.site)
    node = None if seen.nodes is None else seen.nodes.get(view.node_key.encode())
    return (
        ("Health", health_cell(view)),
        ("Connected", _connected(view)),
        ("Counts as connected until", Cell(None if node is None else node.heard_until)),
        ("Answered last", Cell(view.heard_at)),
        ("In run", _run_cell(None if heard is None else heard.answered_run)),
        ("Contract", _contract(view)),
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
        empty="This site was never halted.",
    )


def _joining(visit: Visit, members: set[str]) -> Table | None:
    """Who is on the way in: for those who run the machines, as nobody else is told over the API."""
    officer = visit.who.officer
    if officer is None or Role.ADMIN not in officer.roles:
        return None
    invited = islice(InvitationBook(visit.centre).all(), _MOST_INVITATIONS)
    found = [each for each in invited if each.site not in members and each.state != "member"]
    next_step: dict[str, Callable[[str], str]] = {
        "invited": lambda site: f"wait for {site}, or invite it again: covenant site invite {site}",
        "waiting": lambda site: f"compare the fingerprint with {site}, then covenant site certify",
        "expired": lambda site: f"covenant site invite {site}",
    }
    return Table(
        name="joining",
        caption="On the way in",
        columns=[Column("Site"), Column("State"), Column("Invited"), Column("Until"), Column("Next")],
        rows=[
            (
                Cell(each.site),
                Cell(each.state, tone="warn" if each.state == "waiting" else "quiet"),
                Cell(each.made_at),
                Cell(each.expires_at),
                Cell(next_step[each.state](each.site)),
            )
            for each in found
        ],
        empty="Nobody is on the way in. Invite a site with `covenant site invite SITE`.",
    )


ROUTES: Final = (
    Route("/sites", show_all, _MEMBERS),
    Route("/sites/{site}", show, _MEMBERS),
)
