"""Which sites personalise which models, as they have stated it. The log is where that stands, and nothing else is known of a personal model.

1. A statement is judged under the log's lock by the newest member list, as the log's auditor will judge it.
2. It is recorded once for a site and a model; handed in again, it changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading, writing
from coordinator.db.log_schema import LoggedEntry
from coordinator.documents import read_root
from coordinator.governance.log import append
from coordinator.governance.members import Listed, members_signed
from protos.log_entries import LogEntry, LoggedDocument, ModelRegistered, PersonalTold, What
from protos.personal import PersonalStatement, require_personal
from strategies.errors import UsageError
from strategies.ids import SiteName

First = Callable[[Session], None]


def tell(centre: Centre, statement: PersonalStatement, listed: Listed, first: First | None = None) -> None:
    """Record a statement. `first` is the first thing that the transaction does.

    Raises Refused for a statement that does not count, and UsageError for a model that is not registered.
    """
    with writing(centre.engine, f"recording what {statement.site} tells") as session:
        if first is not None:
            first(session)
        append(session, centre.clock(), _told(centre, session, statement, listed))


def versions_of(engine: Engine, statement: PersonalStatement) -> tuple[str, ...]:
    """The versions that a statement is about, as NAME@VERSION."""
    with reading(engine, f"looking for what {statement.site} tells of") as session:
        return tuple(
            f"{each.name}@{each.version}" for each in _models(session) if each.holds(statement.model)
        )


def personal_sites(session: Session) -> Mapping[tuple[str, int], tuple[SiteName, ...]]:
    """The sites that personalise a version, by its name and number."""
    told = [each for each in _entries(session, "personal") if isinstance(each, PersonalTold)]
    said = [each.statement.read_as(PersonalStatement) for each in told]
    if not said:
        return {}
    return {
        (each.name, each.version): tuple(sorted({one.site for one in said if each.holds(one.model)}))
        for each in _models(session)
    }


def _told(centre: Centre, session: Session, statement: PersonalStatement, listed: Listed) -> Iterator[What]:
    yield from members_signed(session, listed)
    require_personal(statement, listed.trusted.members, read_root(centre.settings).root.identity)
    if not any(each.holds(statement.model) for each in _models(session)):
        raise UsageError(
            f"no model with weights or files {statement.model} is registered here; {statement.site} states it of another federation's model, or before the run's model was registered"
        )
    for each in _entries(session, "personal"):
        if isinstance(each, PersonalTold) and each.is_of(statement.site, statement.model):
            return
    yield PersonalTold(statement=LoggedDocument.of(statement))


def _models(session: Session) -> list[ModelRegistered]:
    return [each for each in _entries(session, "model") if isinstance(each, ModelRegistered)]


def _entries(session: Session, kind: str) -> Iterator[What]:
    query = select(LoggedEntry.body).where(LoggedEntry.kind == kind).order_by(LoggedEntry.seq)
    for body in session.scalars(query):
        yield LogEntry.from_canonical(bytes(body)).what
