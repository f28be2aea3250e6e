"""Models as officers change them: approved, quarantined, retired, named; each request once."""

from __future__ import annotations

from typing import Any, Final

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed, read_members
from coordinator.governance.evidence import notes
from coordinator.office.actors import Actor
from coordinator.office.requests import Asked, Remember, once
from coordinator.registry import approvals, stages
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.lineage import came_of, lineage_of
from coordinator.registry.versions import ModelVersion, find_version
from protos.model_approvals import ModelStatement
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from strategies.errors import UsageError
from strategies.ids import Digest, digest

_TRACED: Final = "name a version, or one of --plan, --run and --site"


def standing(centre: Centre, model: str) -> ModelStanding:
    """How far a version is approved now. Raises `CovenantError`."""
    found, trusted = find_version(centre.engine, model), read_members(centre.settings)[1]
    return approvals.standing(centre.engine, found, trusted, centre.clock())


def approve(
    centre: Centre, actor: Actor, statement: ModelStatement, asked: Asked | None = None
) -> ModelStanding:
    """Record an officer's own approval of a version. Raises `CovenantError`."""

    def act(remember: Remember) -> str:
        actor.require_own(statement.officer, "the approval")
        actor.require([statement.role], f"an approval as {statement.role}")
        listed = read_listed(centre.settings)
        approvals.approve(centre, statement, listed, first=lambda session: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)
    return standing(centre, statement.subject.ref)


def state(centre: Centre, actor: Actor, note: ModelNote, asked: Asked | None = None) -> Digest:
    """Record what an officer says of a version; returns the note's digest. Raises `CovenantError`."""

    def act(remember: Remember) -> str:
        actor.require_own(note.officer, "the note")
        actor.require([note.role], f"a note as {note.role}")
        listed = read_listed(centre.settings)
        notes.record(centre, note, listed, first=lambda session: remember(session, note.digest))
        return note.digest

    return digest(once(centre, asked, centre.clock(), act))


def move(
    centre: Centre, actor: Actor, model: str, to: Stage, why: str, asked: Asked | None = None
) -> ModelVersion:
    """Quarantine or retire a version, or make a quarantined one a candidate again. Raises `CovenantError`."""

    def act(remember: Remember) -> str:
        found = find_version(centre.engine, model)
        stages.move_by_hand(
            centre, found, to, why=why, by=actor.name, first=lambda session: remember(session, found.ref)
        )
        return found.ref

    return find_version(centre.engine, once(centre, asked, centre.clock(), act))


def name(
    centre: Centre, actor: Actor, model: str, alias: str, version: int | None, asked: Asked | None = None
) -> None:
    """Let `alias` name a version of a model, or nothing any more. Raises `CovenantError`."""

    def act(remember: Remember) -> str:
        stages.set_alias(
            centre, model, alias, version, by=actor.name, first=lambda session: remember(session, "")
        )
        return ""

    once(centre, asked, centre.clock(), act)


def trace(
    centre: Centre,
    model: str | None = None,
    *,
    plan: str | None = None,
    run: str | None = None,
    site: str | None = None,
) -> dict[str, Any]:
    """What a version comes from; or `models`, the versions that came of a plan, a run or a site. Raises `CovenantError`."""
    asked = [each for each in (plan, run, site) if each is not None]
    if (model is None) == (not asked):
        raise UsageError(_TRACED)
    if model is not None:
        return lineage_of(centre, find_version(centre.engine, model)).facts()
    found = came_of(centre, plan=plan, run=run, site=site)
    return {
        "models": [
            {"model": each.ref, "stage": str(each.stage), "digest": each.digest, "run": each.run_id}
            for each in found
        ]
    }
