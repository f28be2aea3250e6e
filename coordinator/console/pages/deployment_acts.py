"""What is decided about a target from its page, by the API's own functions. The newest order that the page showed comes back with the form: once there is
another one nothing is done, and the page shows what came meanwhile. The API looks at the same once more, under the log's lock."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import Message
from starlette.responses import Response

from coordinator.console.forms import require_typed
from coordinator.console.pages.deploy_tables import orders_table
from coordinator.console.pages.deployment import PROMOTE, RENEW, ROLL_BACK, START, page_of
from coordinator.console.reads import deployments as reads
from coordinator.console.routes import Route
from coordinator.console.visit import Visit
from protos import deployments_pb2 as wire
from protos.documents import make_document
from protos.rollouts import RolloutRules
from strategies.errors import Refused, UsageError

_MOST_DIGITS: Final = 9
_MOST_STEPS: Final = 20
_ORDERED: Final = "it is in force as soon as the target confirms it, which this page shows"


def start(visit: Visit) -> Response:
    """Begin to bring a version here."""
    name, _, number = visit.form.get("model", "").partition("@")
    step = visit.form.get("step", "")
    return _decided(
        visit,
        START,
        lambda common: wire.StartRolloutRequest(
            model=name,
            version=_whole(number, "the version"),
            step=step,
            share=_share(visit) if step == "canary" else 0.0,
            rules=_rules(visit).canonical,
            **common,
        ),
        f"{name}@{number} is ordered to {visit.path['target']} ({step}); {_ORDERED}",
    )


def promote(visit: Visit) -> Response:
    """Let what is on trial go on."""
    step = visit.form.get("step", "")
    return _decided(
        visit,
        PROMOTE,
        lambda common: wire.PromoteRolloutRequest(
            step=step, share=_share(visit) if step == "canary" else 0.0, **common
        ),
        f"what is on trial goes on; {_ORDERED}",
    )


def roll_back(visit: Visit) -> Response:
    """Take the newest rollout back."""
    require_typed(visit.form, "roll back")
    return _decided(
        visit, ROLL_BACK, lambda common: wire.RollBackRequest(**common), f"rolled back; {_ORDERED}"
    )


def renew(visit: Visit) -> Response:
    """Release what serves anew."""
    return _decided(
        visit,
        RENEW,
        lambda common: wire.RenewReleaseRequest(**common),
        f"what serves is released anew; {_ORDERED}",
    )


def _decided(
    visit: Visit, method: str, request: Callable[[dict[str, Any]], Message], notice: str
) -> Response:
    target, seen = visit.path["target"], _whole(visit.form.get("shown", ""), "what the page showed")
    if reads.place(visit.centre.engine, target).view.revision != seen:
        return _changed(visit, target, seen)
    common = {
        "request_id": visit.form.get("request_id", ""),
        "target": target,
        "why": visit.form.get("why", "").strip(),
        "seen": seen,
    }
    try:
        visit.ask(method, request(common))
    except Refused:
        if reads.place(visit.centre.engine, target).view.revision != seen:
            return _changed(visit, target, seen)
        raise
    return visit.go(f"/deployments/{target}", notice)


def _changed(visit: Visit, target: str, seen: int) -> Response:
    found, _ = reads.orders(visit.centre.engine, target, since=seen)
    since = orders_table(found, name="since", caption=f"Ordered since you looked (you saw order {seen})")
    return page_of(visit, reads.place(visit.centre.engine, target), changed=since)


def _rules(visit: Visit) -> RolloutRules:
    """The rules of a rollout as the form has them. Raises UsageError."""
    form, usual = visit.form, RolloutRules()
    words = form.get("steps", "").replace(",", " ").split()
    if len(words) > _MOST_STEPS:
        raise UsageError(f"a rollout has at most {_MOST_STEPS} steps")
    return make_document(
        RolloutRules,
        "the rollout's rules",
        automatic="automatic" in form,
        steps=tuple(_number(each, "a step") / 100.0 for each in words),
        min_rows=_whole(form.get("min_rows", str(usual.min_rows)), "the fewest rows"),
        most_error_rate=_number(form.get("most_error_rate", "1"), "the share of errors") / 100.0,
        most_latency_ratio=_number(form.get("most_latency_ratio", "3"), "the latency ratio"),
        most_psi=_number(form.get("most_psi", "0.25"), "the PSI"),
    )


def _share(visit: Visit) -> float:
    """Of requests, from per cent."""
    return _number(visit.form.get("share", ""), "the share") / 100.0


def _number(text: str, what: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise UsageError(f"{what} is {text[:20]!r}; use a number") from error


def _whole(text: str, what: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= _MOST_DIGITS):
        raise UsageError(f"{what} is {text[:20]!r}; use a whole number")
    return int(text)


ROUTES: Final = (
    Route("/deployments/{target}/start", start, START, "POST", form="/deployments/{target}"),
    Route("/deployments/{target}/promote", promote, PROMOTE, "POST", form="/deployments/{target}"),
    Route("/deployments/{target}/rollback", roll_back, ROLL_BACK, "POST", form="/deployments/{target}"),
    Route("/deployments/{target}/renew", renew, RENEW, "POST", form="/deployments/{target}"),
)
