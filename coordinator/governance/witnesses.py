"""What sites have signed about the log, and the evidence of histories that do not fit: kept, shown, and in the way of every launch until a
person has dealt with it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from sqlalchemy import Engine, Select, String, column, func, select, tuple_, values
from sqlalchemy.orm import Session

from coordinator.db.engine import reading, writing
from coordinator.db.witness_schema import ForkRow, WitnessRow
from protos.membership import MemberList
from protos.witness import Evidence, Position, SignedWitness, View, key_part
from protos.witness_codec import read_view, view_bytes
from strategies.encoding import sha256_hex
from strategies.errors import Refused, UsageError
from strategies.ids import RunId, SiteName

SET_BACK: Final = "set back"


@dataclass(frozen=True, slots=True)
class Seen:
    """A statement as it was received, and the view that it names."""

    signed: SignedWitness
    view: View


@dataclass(frozen=True, slots=True)
class Found:
    """Evidence, and what was done about it."""

    number: int
    run: RunId
    evidence: Evidence
    found_at: datetime
    settled_at: datetime | None
    settled: str | None

    @property
    def stands(self) -> bool:
        """Whether it keeps runs from being launched: a fork of the log that nobody has dealt with."""
        return self.evidence.shows != SET_BACK and self.settled_at is None


def keep(session: Session, at: datetime, seen: Iterable[Seen]) -> None:
    """Keep statements; one that is there already stays as it is."""
    for each in seen:
        said = each.signed.statement
        place = (said.site, said.position.epoch, said.position.sequence)
        known = select(WitnessRow.id).where(
            WitnessRow.site == place[0], WitnessRow.epoch == place[1], WitnessRow.sequence == place[2]
        )
        if session.scalar(known) is None:
            session.add(
                WitnessRow(
                    site=said.site,
                    epoch=said.position.epoch,
                    sequence=said.position.sequence,
                    run_id=said.run,
                    size=said.head.size,
                    statement=each.signed.canonical.decode(),
                    view=view_bytes(each.view).decode(),
                    received_at=at,
                )
            )


def require_no_fork(session: Session) -> None:
    """Check that no fork of the log is left that nobody has dealt with. Raises Refused."""
    standing = session.scalar(
        select(ForkRow).where(ForkRow.shows != SET_BACK, ForkRow.settled_at.is_(None)).order_by(ForkRow.id)
    )
    if standing is not None:
        raise Refused(
            f"{standing.site} has shown that the transparency log was forked or set back (evidence {standing.id}, {standing.shows}): nothing is"
            " launched before a person has dealt with it, and no run goes on. `covenant log witnesses` shows it, and the runbook says what to do"
        )


@dataclass(frozen=True, slots=True)
class WitnessBook:
    """Statements and evidence in the coordinator's database."""

    engine: Engine
    clock: Callable[[], datetime]

    def newest(self, members: MemberList, sites: Collection[SiteName] | None = None) -> dict[SiteName, Seen]:
        """The newest statement of each site, or of some `sites`, under the key that it has on `members`."""
        keys = {
            each.site: each.identity_key for each in members.members if sites is None or each.site in sites
        }
        if not keys:
            return {}
        # One look into the index for each site: there is a row for every run that a site ever took part in.
        site = column("site", String)
        listed = values(site, name="listed").data([(each,) for each in keys]).cte()
        newest = select(func.max(WitnessRow.id)).where(WitnessRow.site == listed.c.site).scalar_subquery()
        last = select(newest).select_from(listed)
        with reading(self.engine, "reading what sites have witnessed") as session:
            rows = session.scalars(select(WitnessRow).where(WitnessRow.id.in_(last))).all()
        seen = [Seen(SignedWitness.from_canonical(row.statement.encode()), _view(row.view)) for row in rows]
        return {
            each.signed.statement.site: each
            for each in seen
            if keys.get(each.signed.statement.site) == each.signed.statement.identity
        }

    def unsigned(self, view: View, members: MemberList) -> frozenset[SiteName]:
        """The sites of which `view` says where their journals stood, under their keys on `members`, and which have signed no such thing here.

        A site learns of others from here alone, so a view that has such a place is made up, or this database was set back.
        """
        keys = {each.site: key_part(each.identity_key) for each in members.members}
        claimed = {
            (site, each.epoch, each.sequence): each.head
            for site, each in view.items()
            if site in keys and each.epoch.startswith(keys[site])
        }
        if not claimed:
            return frozenset()
        place = tuple_(WitnessRow.site, WitnessRow.epoch, WitnessRow.sequence)
        with reading(self.engine, "looking for what sites have signed") as session:
            rows = session.scalars(select(WitnessRow.statement).where(place.in_(list(claimed)))).all()
        for row in rows:
            said = SignedWitness.from_canonical(row.encode()).statement
            at = (said.site, said.position.epoch, said.position.sequence)
            if claimed[at] == said.position.head:
                del claimed[at]
        return frozenset(site for site, _, _ in claimed)

    def has(self, signed: SignedWitness) -> bool:
        """Whether a statement was received here, as the answer to a head that this coordinator had shown."""
        said = signed.statement
        query = select(WitnessRow.statement).where(
            WitnessRow.site == said.site,
            WitnessRow.epoch == said.position.epoch,
            WitnessRow.sequence == said.position.sequence,
        )
        with reading(self.engine, "looking for a statement") as session:
            return session.scalar(query) == signed.canonical.decode()

    def add(self, run: RunId, evidence: Evidence) -> None:
        """Keep evidence, once."""
        data = evidence.canonical
        with writing(self.engine, "keeping evidence about the log") as session:
            if session.scalar(select(ForkRow.id).where(ForkRow.digest == sha256_hex(data))) is None:
                session.add(
                    ForkRow(
                        digest=sha256_hex(data),
                        shows=evidence.shows,
                        site=evidence.site,
                        run_id=run,
                        evidence=data,
                        found_at=self.clock(),
                    )
                )

    def found(self) -> list[Found]:
        """All evidence, the oldest first."""
        return self._found(select(ForkRow).order_by(ForkRow.id))

    def newest_found(self, limit: int) -> list[Found]:
        """At most `limit` pieces of evidence, the newest first."""
        return self._found(select(ForkRow).order_by(ForkRow.id.desc()).limit(limit))

    def numbered(self, number: int) -> Found | None:
        """Evidence `number`."""
        return next(iter(self._found(select(ForkRow).where(ForkRow.id == number))), None)

    def _found(self, query: Select[ForkRow]) -> list[Found]:
        with reading(self.engine, "reading evidence about the log") as session:
            return [_found_in(row) for row in session.scalars(query)]

    def settle(self, number: int, how: str) -> None:
        """A person has dealt with evidence `number`, and says how. Raises UsageError."""
        with writing(self.engine, f"settling evidence {number}") as session:
            row = session.get(ForkRow, number)
            if row is None or row.settled_at is not None:
                state = "is not there" if row is None else f"is settled already: {row.settled}"
                raise UsageError(f"evidence {number} {state}; `covenant log witnesses` shows all")
            row.settled_at, row.settled = self.clock(), how


def _found_in(row: ForkRow) -> Found:
    return Found(
        row.id,
        RunId(row.run_id),
        Evidence.from_canonical(bytes(row.evidence)),
        row.found_at,
        row.settled_at,
        row.settled,
    )


def _view(text: str) -> Mapping[SiteName, Position]:
    return read_view(text.encode())
