"""What is done about a version from its page, by the API's own functions. What the page showed comes back with the form: if that is otherwise by now, the
page says what changed and nothing is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.responses import Response

from coordinator.console.forms import require_typed
from coordinator.console.pages.model import MOVE, NAME, RECALL, VALIDATE, Sight, page_of
from coordinator.console.routes import Route
from coordinator.console.visit import Visit
from coordinator.registry.versions import ModelVersion, find_version
from protos import control_pb2 as control
from protos import deployments_pb2 as wire
from protos.gates import Verdict
from protos.model_stages import Stage

_WORDS: Final = {Stage.QUARANTINED: "quarantine", Stage.RETIRED: "retire"}
"""What is typed before something that there is no undo for."""


def validate(visit: Visit) -> Response:
    """Have the gate judge the version."""

    def act(version: ModelVersion) -> str:
        request = control.ValidateModelRequest(
            request_id=_id(visit), name=version.name, version=version.version, why=_why(visit)
        )
        verdict = Verdict.from_canonical(visit.ask(VALIDATE, request).verdict)
        return (
            f"the gate passed {version.ref}"
            if verdict.passed
            else f"the gate did not pass {version.ref}: {'; '.join(verdict.failures)}"
        )

    return _done(visit, act)


def move(visit: Visit) -> Response:
    """Quarantine, retire, or let out of quarantine."""

    def act(version: ModelVersion) -> str:
        to = visit.form.get("to", "")
        if (word := next((word for stage, word in _WORDS.items() if stage == to), None)) is not None:
            require_typed(visit.form, word)
        visit.ask(
            MOVE, control.MoveModelRequest(request_id=_id(visit), model=version.ref, to=to, why=_why(visit))
        )
        return f"{version.ref} is {to}"

    return _done(visit, act)


def name(visit: Visit) -> Response:
    """Let an alias name the version, or nothing any more."""

    def act(version: ModelVersion) -> str:
        alias, off = visit.form.get("alias", "").strip(), visit.form.get("off") == "1"
        request = control.NameModelRequest(
            request_id=_id(visit), name=version.name, alias=alias, version=0 if off else version.version
        )
        visit.ask(NAME, request)
        return f"{alias} names nothing any more" if off else f"{alias} is {version.ref}"

    return _done(visit, act)


def recall(visit: Visit) -> Response:
    """Order the version off every target, or off one."""

    def act(version: ModelVersion) -> str:
        require_typed(visit.form, "recall")
        request = wire.RecallModelRequest(
            request_id=_id(visit),
            model=version.name,
            version=version.version,
            target=visit.form.get("target", ""),
            why=_why(visit),
        )
        return f"{version.ref} is recalled from {', '.join(visit.ask(RECALL, request).targets)}"

    return _done(visit, act)


def _done(visit: Visit, act: Callable[[ModelVersion], str]) -> Response:
    version = find_version(visit.centre.engine, visit.path["model"])
    if changed := Sight.of(visit, version).changes(Sight.sent(visit.form.get("shown", ""))):
        return page_of(visit, version, changed=changed)
    notice = act(version)
    return visit.go(f"/models/{version.ref}", notice)


def _id(visit: Visit) -> str:
    return visit.form.get("request_id", "")


def _why(visit: Visit) -> str:
    return visit.form.get("why", "").strip()


ROUTES: Final = (
    Route("/models/{model}/validate", validate, VALIDATE, "POST", form="/models/{model}"),
    Route("/models/{model}/move", move, MOVE, "POST", form="/models/{model}"),
    Route("/models/{model}/name", name, NAME, "POST", form="/models/{model}"),
    Route("/models/{model}/recall", recall, RECALL, "POST", form="/models/{model}"),
)
