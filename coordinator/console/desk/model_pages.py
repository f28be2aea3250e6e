"""The desk's page of a version of a model, and its signature."""

from __future__ import annotations

import json
from collections.abc import Sequence

from starlette.responses import Response

from coordinator.console.desk import models, plans
from coordinator.console.desk.parts import checks_table, require_typed
from coordinator.console.desk.visit import DeskVisit, changed
from coordinator.console.tables import Cell, Column, Table
from strategies.errors import UsageError


def model(visit: DeskVisit) -> Response:
    """A version, as it would be signed."""
    looked = visit.session.look()
    return _model_page(visit, models.model_at_desk(visit.session, looked, _ref(visit)))


def _ref(visit: DeskVisit) -> str:
    name, _, number = visit.path["model"].partition("@")
    if not name or not (number.isascii() and number.isdecimal()):
        raise UsageError("name the version as NAME@NUMBER")
    return f"{name}@{number}"


def _model_page(
    visit: DeskVisit, view: models.ModelAtDesk, differs: Sequence[str] = (), status: int = 200
) -> Response:
    subject, found = view.subject, view.found
    files = Table(
        name="files",
        caption="Its files",
        columns=[Column("File"), Column("SHA-256")],
        rows=[]
        if found is None
        else [(Cell(name), Cell(each, code=True)) for name, each in found.version.artifacts.items()],
    )
    gates = Table(
        name="gates",
        caption="What the gate said, by the log",
        columns=[Column("Gate"), Column("Result"), Column("Why")],
        rows=[]
        if view.verdict is None
        else [
            (
                Cell(each.gate.words),
                Cell("passed" if each.passed else "failed", tone="good" if each.passed else "bad"),
                Cell(each.reason or None),
            )
            for each in view.verdict.gates
        ],
    )
    given = Table(
        name="given",
        caption="Approvals, by the log",
        columns=[Column("Officer"), Column("As"), Column("Good until")],
        rows=[(Cell(each.officer), Cell(str(each.role)), Cell(each.expires)) for each in view.given],
        empty="Nobody has approved it yet.",
    )
    return visit.page(
        "model.html",
        status=status,
        title=_ref(visit),
        view=view,
        checks=checks_table(view.checks),
        failed=view.checks.failed,
        differs=differs,
        subject=subject,
        files=files,
        gates=gates,
        given=given,
        shown=json.dumps(view.shown),
        typed_digits="" if subject is None else subject.digest[: plans.TYPED],
        path=f"{visit.session.home}/models/{_ref(visit)}",
    )


def approve_model(visit: DeskVisit) -> Response:
    """Sign the version that was shown, and hand it in."""
    session, before = visit.session, visit.shown()
    looked = session.look()
    view = models.model_at_desk(session, looked, _ref(visit))
    if not view.checks.hold_all or view.subject is None:
        return _model_page(visit, view, status=409)
    if differs := changed(before, view.shown):
        return _model_page(visit, view, differs, status=409)
    require_typed(visit, view.subject.digest[: plans.TYPED])
    said = models.sign_model(session, view, looked, visit.form.get("role", ""))
    standing = session.models.approve(said)
    return visit.go("/", f"You approved {said.subject.ref} as {said.role}; it is {standing.words}.")
