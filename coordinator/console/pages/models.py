"""The list of models and versions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from starlette.responses import Response

from coordinator.console.downloads import asked_for, link_to
from coordinator.console.reads import models as reads
from coordinator.console.reads.models import ModelRow
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.visit import Visit
from coordinator.governance.policies.facts import stage_of
from protos.model_stages import Stage

TONES: Final[dict[Stage, Tone]] = {
    Stage.CANDIDATE: "quiet",
    Stage.VALIDATED: "warn",
    Stage.APPROVED: "good",
    Stage.DEPLOYED: "good",
    Stage.RETIRED: "quiet",
    Stage.QUARANTINED: "bad",
}


def show(visit: Visit) -> Response:
    """All versions, by name, or those of a name or in a stage."""
    name, word = visit.query.get("name", "").strip(), visit.query.get("stage", "")
    found = reads.page(
        visit.centre.engine,
        after=visit.query.get("after"),
        before=visit.query.get("before"),
        name=name or None,
        stage=stage_of(word),
    )
    table = models_table(
        "models",
        "Models",
        found.rows,
        empty="No version is like that; show all of them."
        if name or word
        else "No model is registered yet. A run that completes registers one: launch a plan, and look at Runs.",
        newer=visit.with_query(before=found.newer, after=None) if found.newer else None,
        older=visit.with_query(after=found.older, before=None) if found.older else None,
    )
    return asked_for(visit, [table]) or visit.page(
        "models.html",
        models=table,
        csv=link_to(visit, table),
        filled={"name": name, "stage": word},
        stages=list(Stage),
        refs=[each.ref for each in found.rows],
    )


def models_table(
    name: str,
    caption: str,
    rows: Sequence[ModelRow],
    *,
    empty: str,
    newer: str | None = None,
    older: str | None = None,
) -> Table:
    """Versions with how far each has come, how well it does, who approved it and where it runs."""
    labels = ("Model", "Stage", "Called", "AUC", "Gate", "Approved by", "Good until", "Runs at", "Registered")
    return Table(
        name=name,
        caption=caption,
        columns=[Column(each, number=each == "AUC") for each in labels],
        rows=[_row(each) for each in rows],
        empty=empty,
        newer=newer,
        older=older,
    )


def _row(each: ModelRow) -> Sequence[Cell]:
    verdict = {None: Cell(None), True: Cell("passed", tone="good"), False: Cell("failed", tone="bad")}
    until = min((said.expires for said in each.said), default=None)
    runs = [f"{target} (trial)" if arm == "challenger" else target for target, arm in each.runs_at]
    auc = (each.metrics or {}).get("auc")
    return (
        Cell(each.ref, href=f"/models/{each.ref}"),
        Cell(each.stage, tone=TONES[each.stage]),
        Cell(", ".join(each.aliases)),
        Cell(auc, text=None if auc is None else f"{auc:.4f}"),
        verdict[each.passed],
        Cell(", ".join(said.officer for said in each.said)),
        Cell(until),
        Cell(few(runs)),
        Cell(each.created_at),
    )


def few(words: Sequence[str], most: int = 3) -> str:
    """`a, b, c and 4 more`."""
    more = f" and {len(words) - most} more" if len(words) > most else ""
    return ", ".join(words[:most]) + more


ROUTES: Final = (Route("/models", show, "covenant.control.v1.Models/ListModels"),)
