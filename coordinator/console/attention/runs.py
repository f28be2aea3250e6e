"""Runs that failed or were refused lately, sites that refuse or are silent, and witnesses of the log that are: from the newest entries of the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Final

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from coordinator.console.attention.matter import FEW, LATELY, Looking, Matter, Urgency, cut
from coordinator.db.engine import reading
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Run, RunState
from coordinator.db.witness_schema import WitnessRow
from protos.log_entries import LogEntry, What
from protos.log_office import CallDenied
from protos.log_run_events import RoundCommitted, RunEnded, SiteRefused
from protos.membership import Role

_RUNS: Final = "covenant.control.v1.Runs/ListRuns"
_LOG: Final = "covenant.governance.v1.Log/ListEntries"
_LAUNCHES: Final = frozenset({"covenant.control.v1.Runs/LaunchRun", "covenant.control.v1.Runs/ResumeRun"})
_LOOKED_AT: Final = 40
"""Entries of one kind that are looked at: the newest."""
_SILENT_AFTER: Final = 3
"""Rounds in a row for which a site was asked and is not in the sum."""


def find(looking: Looking) -> Iterator[Matter]:
    """What went wrong lately, for those who may read runs and the log."""
    if not (looking.visit.may(_RUNS) and looking.visit.may(_LOG)):
        return
    with reading(looking.visit.centre.engine, "looking what went wrong lately") as session:
        yield from islice(_failed(looking, session), FEW)
        yield from islice(_denied(looking, session), FEW)
        yield from islice(_refusing(looking, session), FEW)
        rounds = [
            each
            for _, each in _newest(session, "round", looking.now - LATELY)
            if isinstance(each, RoundCommitted)
        ]
        yield from islice(_silent(rounds), FEW)
        yield from islice(_witnesses(looking, session, rounds), FEW)


def _failed(looking: Looking, session: Session) -> Iterator[Matter]:
    ended = [
        (at, each)
        for at, each in _newest(session, "ended", looking.now - LATELY)
        if isinstance(each, RunEnded) and each.state == "failed"
    ]
    query = select(Run.id, Run.plan_name).where(
        Run.id.in_([each.run for _, each in ended]), Run.state == RunState.FAILED
    )
    names = {row[0]: row[1] for row in session.execute(query)}
    for at, each in ended:
        plan = names.pop(each.run, None)
        if plan is not None:
            yield Matter(
                urgency=Urgency.SOON if looking.is_any(Role.ML_ENGINEER, Role.ADMIN) else Urgency.TO_KNOW,
                what=f"{each.run} of plan {plan} failed: {cut(each.reason or 'for no reason that it told')}",
                todo="See what its diagnosis finds; an engineer resumes it, or gives up what it has reserved.",
                path=f"/runs/{each.run}/diagnosis",
                label="Diagnose it",
                at=at,
            )


def _denied(looking: Looking, session: Session) -> Iterator[Matter]:
    """Launches that were refused: to whoever asked, and to those who decide."""
    for at, each in _newest(session, "denied", looking.now - LATELY):
        if not isinstance(each, CallDenied) or each.method not in _LAUNCHES:
            continue
        mine = each.officer == looking.name
        if mine or looking.is_any(Role.PRIVACY_OFFICER, Role.MODEL_RISK, Role.AUDITOR):
            yield Matter(
                urgency=Urgency.SOON if mine else Urgency.TO_KNOW,
                what=f"{'Your launch' if mine else f'A launch by {each.officer}'} was refused: {cut(each.reason)}",
                todo="The reason says what would be accepted. A what-if shows what fits the accounts.",
                path="/plans",
                label="See the plans",
                at=at,
            )


def _refusing(looking: Looking, session: Session) -> Iterator[Matter]:
    """Each site once, by its newest refusal."""
    told: set[str] = set()
    for at, each in _newest(session, "refused", looking.now - LATELY):
        if not isinstance(each, SiteRefused) or each.site in told:
            continue
        told.add(each.site)
        yield _of_site(
            each.site,
            f"{each.site} refused {each.run} ({each.code}){f': {cut(each.reason)}' if each.reason else ''}",
            "It is the site's own decision, and signed. Ask its operator what would be accepted there.",
            at,
        )


def _silent(rounds: Sequence[RoundCommitted]) -> Iterator[Matter]:
    """Sites that were asked for their last rounds and are in none of the sums; `rounds` are the latest first."""
    missed: Counter[str] = Counter()
    heard: set[str] = set()
    for each in rounds:
        heard.update(each.survivors)
        missed.update(site for site in each.roster if site not in heard)
    for site, times in sorted(missed.items(), key=lambda each: (-each[1], each[0])):
        if times >= _SILENT_AFTER:
            yield _of_site(
                site,
                f"{site} was asked in the last {times} rounds that it was on the roster of, and is in none of their sums",
                "Ask its operator to run `covenant-agent doctor`; the site's page says what was last heard.",
                None,
            )


def _of_site(site: str, what: str, todo: str, at: datetime | None) -> Matter:
    return Matter(
        urgency=Urgency.SOON, what=what, todo=todo, path=f"/sites/{site}", label="Open the site", at=at
    )


def _witnesses(looking: Looking, session: Session, rounds: Sequence[RoundCommitted]) -> Iterator[Matter]:
    """Sites that took part lately and have not signed for as long what they see of the log."""
    taking_part = sorted({site for each in rounds for site in each.survivors})
    newest = select(WitnessRow.site, func.max(WitnessRow.id).label("id")).where(
        WitnessRow.site.in_(taking_part)
    )
    last = newest.group_by(WitnessRow.site).subquery()
    rows = session.execute(
        select(WitnessRow.site, WitnessRow.received_at).join(last, WitnessRow.id == last.c.id)
    )
    heard: dict[str, datetime] = {row[0]: row[1] for row in rows}
    for site in taking_part if heard else ():
        at = heard.get(site)
        if at is None or at < looking.now - LATELY:
            yield Matter(
                urgency=Urgency.SOON,
                what=f"{site} takes part in rounds and has signed nothing about the log lately",
                todo="Without its signature nobody outside sees whether its history is the others'. Compare heads with `covenant log witnesses`.",
                path="/log",
                label="Open the log",
                at=at,
            )


def _newest(session: Session, kind: str, since: datetime) -> Iterator[tuple[datetime, What]]:
    """The newest entries of a kind, the latest first."""
    query = select(LoggedEntry.at, LoggedEntry.body, LoggedEntry.seq).where(LoggedEntry.kind == kind)
    for at, body, _ in session.execute(query.order_by(LoggedEntry.seq.desc()).limit(_LOOKED_AT)).all():
        if at > since:
            yield at, LogEntry.from_canonical(bytes(body)).what
