"""Sites: how each of them is, and who is on the way in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Final

from starlette.responses import Response

from coordinator.console.pages import run_tables as tables
from coordinator.console.reads import sites as reads
from coordinator.console.reads.sites import SiteView
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.visit import Visit
from coordinator.enrolment.invitations import InvitationBook
from protos.membership import Role
from strategies.errors import UsageError

MEMBERS: Final = "covenant.governance.v1.Members/GetMembers"
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
    table = _sites_table(
        shown,
        "No site is like that. Look at all sites, or for another part of the name."
        if which or name
        else "There is no member site. Whoever runs the coordinator invites one with `covenant site invite SITE`.",
    )
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


def health_cell(view: SiteView) -> Cell:
    """The health of a site as a badge."""
    words, tone = HEALTH[view.health]
    return Cell(view.health, text=words, tone=tone)


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
            Column("Trouble"),
            Column("Contract"),
            Column("Refusals in 30 days", number=True),
            Column("Agent"),
        ],
        rows=[
            (
                tables.site_cell(each.site),
                health_cell(each),
                connected_cell(each),
                Cell(each.heard_at),
                tables.shortened(each.trouble),
                contract_cell(each),
                Cell(each.troubles),
                Cell(None if each.heard is None else each.heard.version),
            )
            for each in found
        ],
        empty=empty,
    )


def connected_cell(view: SiteView) -> Cell:
    """Whether the SuperLink hears from a site."""
    if view.online is None:
        return Cell("not known", tone="quiet")
    return Cell("yes", tone="good") if view.online else Cell("no", tone="warn")


def contract_cell(view: SiteView) -> Cell:
    """Whether a site's rows fit the contract that it was asked about last."""
    if view.heard is None or view.heard.fits is None:
        return Cell("not judged yet", tone="quiet")
    name = view.heard.contract
    return Cell(f"fits {name}", tone="good") if view.heard.fits else Cell(f"does not fit {name}", tone="bad")


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


ROUTES: Final = (Route("/sites", show_all, MEMBERS),)
