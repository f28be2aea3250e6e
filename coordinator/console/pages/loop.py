"""The loop: where every model is between training and retraining, as a picture and as a table; and drafted plans, to be adopted or thrown away."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from starlette.responses import Response

from coordinator.console.downloads import asked_for, link_to
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.console.texts import _, words
from coordinator.console.visit import Visit
from coordinator.deploy.monitoring.retraining import views
from coordinator.deploy.monitoring.retraining.status import loop_status
from protos import loop_pb2 as wire

SERVICE: Final = "covenant.loop.v1.Loop/"
STATUS: Final = f"{SERVICE}GetStatus"
DRAFTS: Final = f"{SERVICE}ListDrafts"
_LABELS: Final[Mapping[str, str]] = {
    "trained": _("Trained"),
    "judged": _("Judged"),
    "approved": _("Approved"),
    "deployed": _("Deployed"),
    "monitored": _("Monitored"),
    "alarm": _("Alarm"),
    "draft": _("Draft"),
    "retraining": _("Retraining"),
}
_TONES: Final[Mapping[str, Tone]] = {
    "none": "quiet",
    "done": "good",
    "going": "plain",
    "waits": "warn",
    "bad": "bad",
}
_STATES: Final[Mapping[str, str]] = {
    "none": _("nothing"),
    "done": _("done"),
    "going": _("goes on"),
    "waits": _("waits"),
    "bad": _("look at it"),
}
_PLAIN: Final = {"none", "done"}
"""States that a spot shows by being empty or full; all others stand in words beside it."""
_ACROSS, _DOWN, _MIDDLE = 230.0, 105.0, (320.0, 160.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Spot:
    """A step of the picture: its label, its state in words where that is to be read, its tone, and where it lies; `label_y` is where its label does."""

    label: str
    state: str
    tone: str
    here: bool
    x: float
    y: float
    label_y: float


def show(visit: Visit) -> Response:
    """Every model, and drafts."""
    found = loop_status(visit.centre.engine)
    tables = [_steps(each) for each in found]
    drafts = [_drafts(views.drafts(visit.centre.engine))] if visit.may(DRAFTS) else []
    return asked_for(visit, [*tables, *drafts]) or visit.page(
        "loop.html",
        models=[
            (each, list(_ring(each)), table, link_to(visit, table))
            for each, table in zip(found, tables, strict=True)
        ],
        drafts=[(each, link_to(visit, each)) for each in drafts],
        at={each["model"]: _LABELS[each["at"]] for each in found},
    )


def show_draft(visit: Visit) -> Response:
    """One draft: why it is as it is, and its text. Raises UsageError where there is none."""
    found = views.draft_facts(visit.centre.engine, visit.path["draft"])
    is_open = found["state"] == "open"
    return visit.page(
        "loop_draft.html",
        draft=found,
        about=list(_about(found)),
        may_adopt=is_open and found["text"] is not None and visit.may(f"{SERVICE}AdoptDraft"),
        may_dismiss=is_open and visit.may(f"{SERVICE}DismissDraft"),
    )


def _about(draft: Mapping[str, Any]) -> Iterator[tuple[str, Cell | str]]:
    """What a draft is of, and how far it has come."""
    ref = f"{draft['model']}@{draft['version']}"
    yield _("State"), draft["state"]
    yield _("Model"), Cell(ref, href=f"/models/{ref}")
    if draft["alarm"] is not None:
        yield _("Because of"), Cell(draft["alarm"], href=f"/models/{ref}/windows")
    yield _("For"), draft["author"] or _("nobody by name")
    yield _("Drafted"), Cell(datetime.fromisoformat(draft["drafted_at"]))
    if draft["run"] is not None:
        yield _("Run"), Cell(draft["run"], href=f"/runs/{draft['run']}")


def adopt(visit: Visit) -> Response:
    """Take a draft over."""
    visit.ask(f"{SERVICE}AdoptDraft", _request(visit))
    return visit.go(
        f"/loop/{visit.path['draft']}",
        words("{draft} is adopted: sign its text and submit it as any other plan", draft=visit.path["draft"]),
    )


def dismiss(visit: Visit) -> Response:
    """Throw a draft away."""
    visit.ask(f"{SERVICE}DismissDraft", _request(visit))
    return visit.go("/loop", words("{draft} is dismissed", draft=visit.path["draft"]))


def _request(visit: Visit) -> wire.DecideDraftRequest:
    return wire.DecideDraftRequest(
        request_id=visit.form.get("request_id", ""),
        draft=visit.path["draft"],
        why=visit.form.get("why", "").strip(),
    )


def _ring(model: Mapping[str, Any]) -> Iterator[Spot]:
    """Steps in a ring, clockwise from the top."""
    steps: Sequence[Mapping[str, Any]] = model["steps"]
    for place, step in enumerate(steps):
        turn = 2.0 * math.pi * place / len(steps) - math.pi / 2.0
        x, y = _MIDDLE[0] + _ACROSS * math.cos(turn), _MIDDLE[1] + _DOWN * math.sin(turn)
        yield Spot(
            label=_LABELS[step["step"]],
            state="" if step["state"] in _PLAIN else _STATES[step["state"]],
            tone=_TONES[step["state"]],
            here=step["step"] == model["at"],
            x=round(x, 1),
            y=round(y, 1),
            label_y=round(y + (-18.0 if y < _MIDDLE[1] - 1.0 else 30.0), 1),
        )


def _steps(model: Mapping[str, Any]) -> Table:
    return Table(
        name=f"loop-{model['model']}",
        caption=words("Where {model} is", model=model["model"]),
        columns=[Column("Step"), Column("State"), Column("What is known"), Column("Since")],
        rows=[
            (
                Cell(words(_LABELS[each["step"]])),
                Cell(words(_STATES[each["state"]]), tone=_TONES[each["state"]]),
                Cell(each["says"], href=_href(model, each)),
                Cell(None if each["since"] is None else datetime.fromisoformat(each["since"])),
            )
            for each in model["steps"]
        ],
    )


def _href(model: Mapping[str, Any], step: Mapping[str, Any]) -> str | None:
    """The page that has more about a step."""
    facts = step["facts"] or {}
    match step["step"]:
        case "trained" | "judged" | "approved" if "version" in facts:
            return f"/models/{model['model']}@{facts['version']}"
        case "monitored" | "alarm" if facts:
            return f"/models/{model['model']}@{facts['version']}/windows"
        case "deployed" if facts:
            return "/deployments"
        case "draft" if facts:
            return f"/loop/{facts['draft']}"
        case "retraining" if facts:
            return f"/runs/{facts['run']}"
        case _:
            return None


def _drafts(found: Sequence[Mapping[str, Any]]) -> Table:
    tones: Mapping[str, Tone] = {"open": "warn", "adopted": "good", "launched": "good"}
    return Table(
        name="drafts",
        caption="Drafted plans",
        columns=[
            Column("Draft"),
            Column("Model"),
            Column("For"),
            Column("Because of"),
            Column("State"),
            Column("Drafted"),
            Column("Adopted until"),
        ],
        rows=[
            (
                Cell(each["id"], href=f"/loop/{each['id']}"),
                Cell(f"{each['model']}@{each['version']}"),
                Cell(each["author"]),
                Cell(each["alarm"] or each["drafted_by"]),
                Cell(each["state"], tone=tones.get(each["state"], "quiet")),
                Cell(datetime.fromisoformat(each["drafted_at"])),
                Cell(None if (end := each["expires_at"]) is None else datetime.fromisoformat(end)),
            )
            for each in found
        ],
        empty="No plan was drafted yet: an alarm drafts one, and so does `covenant loop draft`.",
    )


ROUTES: Final = (
    Route("/loop", show, STATUS),
    Route("/loop/{draft}", show_draft, f"{SERVICE}GetDraft"),
    Route("/loop/{draft}/adopt", adopt, f"{SERVICE}AdoptDraft", method="POST", form="/loop/{draft}"),
    Route("/loop/{draft}/dismiss", dismiss, f"{SERVICE}DismissDraft", method="POST", form="/loop/{draft}"),
)
