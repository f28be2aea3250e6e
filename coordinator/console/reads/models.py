"""Versions of models as lists show them: a page in a few queries, however many there are."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from sqlalchemy import ColumnElement, Engine, Text, and_, cast, func, or_, select, tuple_
from sqlalchemy.orm import InstrumentedAttribute, Session

from coordinator.db.deploy_schema import RolloutRow, RunningRow
from coordinator.db.engine import reading
from coordinator.db.gate_schema import ModelVerdict
from coordinator.db.registry_schema import ModelAlias, ModelMove, ModelStatementRow
from coordinator.db.schema import Attempt, Model, Round, RoundState, Run
from protos.gates import Verdict
from protos.model_approvals import ModelStatement
from protos.model_stages import RELEASABLE, Stage
from protos.rollouts import UNDER_WAY, State
from strategies.errors import UsageError
from strategies.ids import Digest, RunId

MOST: Final = 50
_MOST_VERSIONS: Final = 200
_MOST_DIGITS: Final = 9
_FEWEST_DIGITS: Final = 8
Place = tuple[str, int]
"""Name and number of a version."""
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelRow:
    """A version in a list. `passed` is the newest verdict's word, None without one; `said` are the approvals since it was validated; `runs_at` has
    target and arm."""

    name: str
    version: int
    stage: Stage
    run: RunId
    digest: Digest
    metrics: Mapping[str, Any] | None
    created_at: datetime
    signed: bool
    aliases: tuple[str, ...]
    passed: bool | None
    said: tuple[ModelStatement, ...]
    runs_at: tuple[tuple[str, str], ...]

    @property
    def ref(self) -> str:
        """`lending-default@3`: also its place in the list, for `page`."""
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class ModelPage:
    """Versions by name, the newest of a name first. `newer` and `older` are keys for `page`: before these, and after them; None where there are none."""

    rows: Sequence[ModelRow]
    newer: str | None
    older: str | None


def page(
    engine: Engine,
    *,
    after: str | None = None,
    before: str | None = None,
    name: str | None = None,
    stage: Stage | None = None,
    limit: int = MOST,
) -> ModelPage:
    """At most `limit` versions: the first, those `after` a key, or those just `before` one; of one `name`, or in one `stage`. Raises UsageError for a
    key that no page has given."""
    query = select(Model)
    if name is not None:
        query = query.where(Model.name == name)
    if stage is not None:
        query = query.where(Model.stage == stage)
    if before is not None:
        of, number = _place(before)
        beside = or_(Model.name < of, and_(Model.name == of, Model.version > number))
        query = query.where(beside).order_by(Model.name.desc(), Model.version)
    else:
        query = query.order_by(Model.name, Model.version.desc())
        if after is not None:
            of, number = _place(after)
            query = query.where(or_(Model.name > of, and_(Model.name == of, Model.version < number)))
    with reading(engine, "listing models") as session:
        found = list(session.scalars(query.limit(limit + 1)))
        more, kept = len(found) > limit, found[:limit]
        if before is not None:
            kept.reverse()
        rows = _rows(session, kept)
    if before is not None:
        return ModelPage(rows, rows[0].ref if more else None, rows[-1].ref if rows else None)
    return ModelPage(
        rows, rows[0].ref if rows and after is not None else None, rows[-1].ref if more else None
    )


def releasable(engine: Engine) -> Sequence[ModelRow]:
    """The newest versions that may be brought to where they run, by name."""
    query = select(Model).where(Model.stage.in_([str(each) for each in RELEASABLE]))
    with reading(engine, "listing approved models") as session:
        found = session.scalars(query.order_by(Model.created_at.desc()).limit(_MOST_VERSIONS))
        return _rows(session, sorted(found, key=lambda each: (each.name, -each.version)))


def made_by_run(engine: Engine, run: str) -> Sequence[ModelRow]:
    """The versions that came of a run."""
    return _those(engine, Model.run_id == run)


def made_by_plan(engine: Engine, plan: str) -> Sequence[ModelRow]:
    """The newest versions that came of a plan: its name, or the first digits of its digest."""
    beginning = len(plan) >= _FEWEST_DIGITS and plan.isalnum()
    of_plan = (
        or_(Run.plan_name == plan, Run.plan_digest.startswith(plan)) if beginning else Run.plan_name == plan
    )
    return _those(engine, Model.run_id.in_(select(Run.id).where(of_plan)))


def made_with_site(engine: Engine, site: str) -> Sequence[ModelRow]:
    """Of the newest versions those that the rows of a site had a part in: a sum over its input was opened."""
    with reading(engine, f"looking what came of {site[:63]}") as session:
        newest = select(Model.run_id).order_by(Model.created_at.desc()).limit(_MOST_VERSIONS)
        runs = list(dict.fromkeys(session.scalars(newest)))
        rounds = select(Round.run_id).where(
            Round.run_id.in_(runs),
            Round.state == RoundState.COMMITTED,
            _names(Round.survivors, site),
        )
        tries = select(Attempt.run_id).where(Attempt.run_id.in_(runs), _names(Attempt.survivors, site))
        shaped = {*session.scalars(rounds.distinct()), *session.scalars(tries.distinct())}
    return _those(engine, Model.run_id.in_(shaped))


def would_recall(engine: Engine, name: str, version: int) -> tuple[str, ...]:
    """The targets that a version runs at, or is under way to: what a quarantine recalls it from."""
    runs = select(RunningRow.target).where(RunningRow.name == name, RunningRow.version == version)
    there = select(RolloutRow.target).where(
        RolloutRow.name == name, RolloutRow.version == version, RolloutRow.state.in_([*UNDER_WAY, State.FULL])
    )
    with reading(engine, f"looking where {name}@{version} runs") as session:
        return tuple(sorted({*session.scalars(runs), *session.scalars(there)}))


def last_verdict(engine: Engine, name: str, version: int) -> tuple[Verdict, ModelVerdict] | None:
    """The newest verdict on a version, and its row."""
    query = select(ModelVerdict).where(ModelVerdict.name == name, ModelVerdict.version == version)
    with reading(engine, f"looking for the verdict on {name}@{version}") as session:
        row = session.scalar(query.order_by(ModelVerdict.entry.desc()).limit(1))
    return None if row is None else (Verdict.from_canonical(row.document.encode()), row)


def moves_of(engine: Engine, name: str, version: int) -> Sequence[ModelMove]:
    """The last moves of a version, the latest first."""
    query = select(ModelMove).where(ModelMove.name == name, ModelMove.version == version)
    with reading(engine, f"reading the moves of {name}@{version}") as session:
        return session.scalars(query.order_by(ModelMove.number.desc()).limit(MOST)).all()


def _names(sites: InstrumentedAttribute[list[str] | None], site: str) -> ColumnElement[bool]:
    """Whether a JSON list of sites has `site`."""
    return cast(sites, Text).contains(f'"{site}"', autoescape=True)


def _those(engine: Engine, where: ColumnElement[bool]) -> Sequence[ModelRow]:
    query = select(Model).where(where).order_by(Model.created_at.desc(), Model.name).limit(MOST)
    with reading(engine, "looking for models") as session:
        return _rows(session, list(session.scalars(query)))


def _rows(session: Session, found: Sequence[Model]) -> Sequence[ModelRow]:
    places = [(each.name, each.version) for each in found]
    aliases, passed = _aliases(session, places), _passed(session, places)
    said, runs = _said(session, places), _running(session, places)
    return [
        ModelRow(
            name=each.name,
            version=each.version,
            stage=Stage(each.stage),
            run=RunId(each.run_id),
            digest=Digest(each.digest),
            metrics=each.metrics,
            created_at=each.created_at,
            signed=each.signature is not None,
            aliases=tuple(aliases[place]),
            passed=passed.get(place),
            said=tuple(said[place]),
            runs_at=tuple(runs[place]),
        )
        for each, place in zip(found, places, strict=True)
    ]


def _aliases(session: Session, places: Collection[Place]) -> Mapping[Place, list[str]]:
    query = select(ModelAlias).where(tuple_(ModelAlias.name, ModelAlias.version).in_(places))
    return _by_place(
        (each.name, each.version, each.alias) for each in session.scalars(query.order_by(ModelAlias.alias))
    )


def _passed(session: Session, places: Collection[Place]) -> Mapping[Place, bool]:
    of = tuple_(ModelVerdict.name, ModelVerdict.version)
    last = (
        select(func.max(ModelVerdict.entry))
        .where(of.in_(places))
        .group_by(ModelVerdict.name, ModelVerdict.version)
    )
    query = select(ModelVerdict.name, ModelVerdict.version, ModelVerdict.passed).where(
        ModelVerdict.entry.in_(last)
    )
    return {(name, version): passed for name, version, passed in session.execute(query)}


def _said(session: Session, places: Collection[Place]) -> Mapping[Place, list[ModelStatement]]:
    """Approvals count from the last move to `validated` on."""
    moves = (
        select(ModelMove.name, ModelMove.version, func.max(ModelMove.entry))
        .where(tuple_(ModelMove.name, ModelMove.version).in_(places), ModelMove.after == Stage.VALIDATED)
        .group_by(ModelMove.name, ModelMove.version)
    )
    since = {(name, version): entry for name, version, entry in session.execute(moves)}
    query = select(ModelStatementRow).where(
        tuple_(ModelStatementRow.name, ModelStatementRow.version).in_(places)
    )
    return _by_place(
        (row.name, row.version, ModelStatement.from_canonical(row.document.encode()))
        for row in session.scalars(query.order_by(ModelStatementRow.officer))
        if row.entry > since.get((row.name, row.version), row.entry)
    )


def _running(session: Session, places: Collection[Place]) -> Mapping[Place, list[tuple[str, str]]]:
    query = select(RunningRow).where(tuple_(RunningRow.name, RunningRow.version).in_(places))
    rows = session.scalars(query.order_by(RunningRow.target))
    return _by_place((row.name, row.version, (row.target, row.arm)) for row in rows)


def _by_place(found: Iterable[tuple[str, int, T]]) -> Mapping[Place, list[T]]:
    kept: dict[Place, list[T]] = defaultdict(list)
    for name, version, what in found:
        kept[name, version].append(what)
    return kept


def _place(key: str) -> Place:
    name, _, number = key.partition("@")
    if not (number.isascii() and number.isdecimal() and len(number) <= _MOST_DIGITS):
        raise UsageError("this page's address is cut or changed; begin at the first page again")
    return name, int(number)
