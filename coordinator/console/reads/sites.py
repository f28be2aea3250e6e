"""Sites as pages show them: the member list beside what was heard of each, in queries that do not grow with runs or the log."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from coordinator.console.fleet import Seen
from coordinator.db.engine import reading
from coordinator.db.halt_schema import HaltRow
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.progress_schema import SiteExchange, SiteHeard
from coordinator.db.schema import Site
from coordinator.db.witness_schema import WitnessRow
from coordinator.diagnosis.causes import CAUSES, Cause
from coordinator.governance.halted import standing
from protos.halts import HaltOrder
from protos.keys import fingerprint
from protos.log_entries import LogEntry, PersonalTold
from protos.membership import Member, MemberList
from protos.personal import PersonalStatement
from strategies.ids import RunId, SiteName

LATELY: Final = timedelta(days=30)
_MOST_STATEMENTS: Final = 2000
_LOOKED_THROUGH: Final = 1000
_MOST_RUNS: Final = 20
_MOST_TROUBLES: Final = 50
_MOST_HALTS: Final = 50
Health = Literal["well", "suspended", "unfit", "refuses", "silent", "away", "new"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteView:
    """A member site. `online` is None where nobody knows; `troubles` counts the exchanges without use of late; `personal` the models that it personalises."""

    site: SiteName
    identity: str
    node_key: str
    enrolled_at: datetime | None
    online: bool | None
    heard: SiteHeard | None
    troubles: int
    suspended: HaltOrder | None
    personal: int

    @property
    def health(self) -> Health:
        """The one word that matters most."""
        if self.suspended is not None:
            return "suspended"
        if self.heard is not None and self.heard.fits is False:
            return "unfit"
        if self._troubled:
            said = "" if self.heard is None else self.heard.trouble or ""
            return "refuses" if said.startswith("refused") else "silent"
        if self.online is False:
            return "away"
        return "new" if self.heard is None or self.heard.answered_at is None else "well"

    @property
    def heard_at(self) -> datetime | None:
        """When it said something of use last."""
        return None if self.heard is None else self.heard.answered_at

    @property
    def trouble(self) -> str:
        """What it said last, or that it said nothing, while that stands; empty once it has answered."""
        return (self.heard.trouble or "") if self.heard is not None and self._troubled else ""

    @property
    def cause(self) -> Cause | None:
        """What its trouble shows, while that stands."""
        return cause_of(self.trouble) if self.trouble else None

    @property
    def _troubled(self) -> bool:
        at, answered = (None, None) if self.heard is None else (self.heard.trouble_at, self.heard.answered_at)
        return at is not None and (answered is None or at > answered)


def site_views(engine: Engine, members: MemberList, seen: Seen, now: datetime) -> Sequence[SiteView]:
    """All member sites, by name."""
    return _views(engine, members.members, seen, now)


def site_view(engine: Engine, members: MemberList, site: SiteName, seen: Seen, now: datetime) -> SiteView:
    """One of them. Raises Refused for no member."""
    return _views(engine, [members.member(site)], seen, now)[0]


def _views(engine: Engine, members: Iterable[Member], seen: Seen, now: datetime) -> Sequence[SiteView]:
    with reading(engine, "reading the sites") as session:
        heard = {row.site: row for row in session.scalars(select(SiteHeard))}
        enrolled = {row.name: row.enrolled_at for row in session.execute(select(Site.name, Site.enrolled_at))}
        late = SiteExchange.trouble.is_not(None), SiteExchange.changed_at > now - LATELY
        count = select(SiteExchange.site, func.count()).where(*late).group_by(SiteExchange.site)
        troubles = {site: int(times) for site, times in session.execute(count)}
        suspended = {each.target: each for each in standing(session) if each.scope == "site"}
        personal = _personal(session)
    return [
        SiteView(
            site=each.site,
            identity=fingerprint(each.identity_key),
            node_key=each.node_key,
            enrolled_at=enrolled.get(each.site),
            online=_online(each, seen),
            heard=heard.get(each.site),
            troubles=troubles.get(each.site, 0),
            suspended=suspended.get(each.site),
            personal=personal.get(each.site, 0),
        )
        for each in members
    ]


def cause_of(trouble: str) -> Cause | None:
    """What a sentence of a site is a sign of."""
    return next((each for each in CAUSES if each.shows_in(trouble)), None)


def witnessed(engine: Engine, site: SiteName) -> tuple[int, datetime] | None:
    """How many entries of the log a site has signed for last, and when that came."""
    query = (
        select(WitnessRow.size, WitnessRow.received_at)
        .where(WitnessRow.site == site)
        .order_by(WitnessRow.id.desc())
    )
    with reading(engine, f"reading what {site} has witnessed") as session:
        found = session.execute(query.limit(1)).first()
    return None if found is None else (found.size, found.received_at)


def runs_of(engine: Engine, site: SiteName) -> Sequence[RunId]:
    """The runs in which a site was asked, as far as its latest exchanges go back, the latest first."""
    latest = select(SiteExchange.run_id).where(SiteExchange.site == site)
    latest = latest.order_by(SiteExchange.changed_at.desc()).limit(_LOOKED_THROUGH)
    with reading(engine, f"looking for the runs of {site}") as session:
        found = dict.fromkeys(session.scalars(latest))
    return [RunId(each) for each in list(found)[:_MOST_RUNS]]


def troubles_of(engine: Engine, site: SiteName) -> Sequence[SiteExchange]:
    """The latest exchanges with a site that brought nothing of use."""
    latest = select(SiteExchange).where(SiteExchange.site == site, SiteExchange.trouble.is_not(None))
    latest = latest.order_by(SiteExchange.changed_at.desc()).limit(_MOST_TROUBLES)
    with reading(engine, f"reading the refusals of {site}") as session:
        return session.scalars(latest).all()


def halts_of(engine: Engine, site: SiteName) -> Sequence[tuple[HaltOrder, datetime | None]]:
    """Halts of one site, the latest first, and when they were lifted."""
    query = select(HaltRow).where(HaltRow.scope == "site", HaltRow.target == site)
    with reading(engine, f"reading the halts of {site}") as session:
        rows = session.scalars(query.order_by(HaltRow.halted_at.desc()).limit(_MOST_HALTS)).all()
    return [(HaltOrder.from_canonical(row.order.encode()), row.lifted_at) for row in rows]


def _online(member: Member, seen: Seen) -> bool | None:
    if seen.nodes is None:
        return None
    node = seen.nodes.get(member.node_key.encode())
    return node is not None and node.online


def _personal(session: Session) -> Mapping[str, int]:
    """How many models each site has stated that it personalises."""
    query = select(LoggedEntry.body).where(LoggedEntry.kind == "personal")
    found: dict[str, set[str]] = {}
    for body in session.scalars(query.order_by(LoggedEntry.seq.desc()).limit(_MOST_STATEMENTS)):
        what = LogEntry.from_canonical(bytes(body)).what
        if isinstance(what, PersonalTold):
            said = what.statement.read_as(PersonalStatement)
            found.setdefault(said.site, set()).add(said.model)
    return {site: len(models) for site, models in found.items()}
