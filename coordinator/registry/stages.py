"""How versions of models move between stages, and what they are called: each change with its entry in the log, in its caller's transaction.

1. Which moves there are is `protos.model_stages`; the log's auditor goes by the same table.
2. A move is judged once its transaction has the log for itself, so two moves of a version never start from the same stage.
3. `champion` is the version that was deployed last and still is. What is quarantined or retired loses every alias.
4. What is quarantined or retired is recalled from wherever it runs, in the same transaction.
5. A candidate is validated on the gate's newest verdict and on nothing else, and a validated version approved while that passes. Who may ask for any other move, and what must be there before, is its
   caller's: approvals are `approvals`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from sqlalchemy import delete, func, select
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre
from coordinator.db.engine import writing
from coordinator.db.registry_schema import ModelAlias, ModelMove
from coordinator.db.schema import Model
from coordinator.deploy.recalls import recall_everywhere
from coordinator.deploy.verdicts import newest_verdict
from coordinator.governance.log import append
from coordinator.registry.versions import ModelVersion, locked_row, read_version
from protos.documents import make_document
from protos.log_registry import OUT, require_alias, require_passing, require_validated
from protos.log_registry_events import ModelAliased, ModelMoved
from protos.model_stages import CHAMPION, Stage, require_move
from strategies.errors import UsageError
from strategies.ids import Digest

First = Callable[[Session], None]


def move(
    session: Session,
    name: str,
    version: int,
    to: Stage,
    *,
    why: str,
    by: str,
    at: datetime,
    on: Digest | None = None,
) -> ModelVersion:
    """Move a version to the stage `to`, in the transaction of `session`, and return it as it is then.

    `why` is a sentence of at most 500 characters, `by` whoever decided (an officer's name, or what acts for the coordinator, at most 128),
    `on` the digest of the document that the move rests on, such as a verdict. The move locks the log until the transaction ends.
    Raises Refused where there is no such move, for one to validated that rests on no such verdict of the gate, and for an approval where the newest does
    not pass, UsageError for a version that is not registered or words that are too long.
    """
    moved: list[ModelMoved] = []

    def judged() -> Iterator[ModelMoved]:
        row = locked_row(session, name, version)
        require_move(f"{name}@{version}", Stage(row.stage), to)
        if to is Stage.VALIDATED:
            require_validated(f"{name}@{version}", on, newest_verdict(session, name, version))
        if (row.stage, to) == (Stage.VALIDATED, Stage.APPROVED):
            require_passing(f"{name}@{version}", newest_verdict(session, name, version))
        facts = {"name": name, "version": version, "digest": row.digest, "before": Stage(row.stage), "to": to}
        moved.append(make_document(ModelMoved, "the move", **facts, why=why, by=by, on=on))
        yield moved[0]

    size = append(session, at, judged())
    write_move(session, moved[0], at, size - 1)
    if to in OUT:
        recall_everywhere(session, name, version, why=why, by=by, at=at)
    return read_version(session, name, version)


def write_move(session: Session, what: ModelMoved, at: datetime, entry: int) -> None:
    """What a move does to the tables: the stage, its row, and the aliases. `entry` is its place in the log."""
    row = locked_row(session, what.name, what.version)
    row.stage = what.to
    last = select(func.max(ModelMove.number)).where(
        ModelMove.name == what.name, ModelMove.version == what.version
    )
    session.add(
        ModelMove(
            name=what.name,
            version=what.version,
            number=(session.scalar(last) or 0) + 1,
            before=what.before,
            after=what.to,
            why=what.why,
            moved_by=what.by,
            rests_on=what.on,
            moved_at=at,
            entry=entry,
        )
    )
    session.flush()
    if what.to in OUT:
        session.execute(
            delete(ModelAlias).where(ModelAlias.name == what.name, ModelAlias.version == what.version)
        )
    write_alias(session, what.name, CHAMPION, _deployed_last(session, what.name))


def write_alias(session: Session, name: str, alias: str, version: int | None) -> None:
    """Let an alias name `version`, or nothing."""
    row = session.get(ModelAlias, (name, alias))
    if version is None:
        session.execute(delete(ModelAlias).where(ModelAlias.name == name, ModelAlias.alias == alias))
        session.expire_all()
    elif row is None:
        session.add(ModelAlias(name=name, alias=alias, version=version))
    else:
        row.version = version
    session.flush()


def set_alias(
    centre: Centre, name: str, alias: str, version: int | None, *, by: str, first: First | None = None
) -> None:
    """Let `alias` name a version of the model `name`, or nothing any more. `first` is the first thing that the transaction does.

    Raises Refused for `champion` and for a version that is quarantined or retired, UsageError for what is not there.
    """
    at = centre.clock()
    told = make_document(ModelAliased, "the alias", name=name, alias=alias, version=version, by=by)

    def judged() -> Iterator[ModelAliased]:
        if version is not None:
            require_alias(alias, f"{name}@{version}", Stage(locked_row(session, name, version).stage))
        elif alias == CHAMPION or session.get(ModelAlias, (name, alias)) is None:
            raise UsageError(
                f"{name} has no alias {alias!r} that can be taken away; `covenant model list` shows them"
            )
        yield told

    with writing(centre.engine, f"setting the alias {alias} of {name}") as session:
        if first is not None:
            first(session)
        append(session, at, judged())
        write_alias(session, name, alias, version)


def move_by_hand(
    centre: Centre, found: ModelVersion, to: Stage, *, why: str, by: str, first: First | None = None
) -> ModelVersion:
    """Quarantine or retire a version, or make a quarantined one a candidate again, in a transaction of its own. `first` as in `set_alias`.

    Raises Refused for any other move: the gate validates, officers approve, and a deployment deploys.
    """
    if to not in {Stage.QUARANTINED, Stage.RETIRED, Stage.CANDIDATE}:
        raise UsageError(
            f"nobody makes a version {to} by hand: the gate validates it, officers approve it, and a deployment deploys it"
        )
    with writing(centre.engine, f"moving {found.ref}") as session:
        if first is not None:
            first(session)
        moved = move(session, found.name, found.version, to, why=why, by=by, at=centre.clock())
        return replace(moved, personal=found.personal)


def _deployed_last(session: Session, name: str) -> int | None:
    """The version of a model that came to be deployed last, of those that are."""
    return session.scalar(
        select(ModelMove.version)
        .join(Model, (Model.name == ModelMove.name) & (Model.version == ModelMove.version))
        .where(ModelMove.name == name, ModelMove.after == Stage.DEPLOYED, Model.stage == Stage.DEPLOYED)
        .order_by(ModelMove.entry.desc())
        .limit(1)
    )
