"""Halt: on every page, for every role, without a key. Lifting takes two officers' signatures, which this page does not make.

A form that is sent twice gives one order: its id follows from the form's request and the officer, so the second time finds what the first has done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Final, cast

from starlette.responses import Response

from coordinator.console.forms import require_typed
from coordinator.console.reads import runs as reads
from coordinator.console.routes import Route
from coordinator.console.tables import Cell, Column, Table
from coordinator.console.texts import words
from coordinator.console.visit import Visit
from coordinator.db.schema import RunState
from coordinator.documents import read_root
from coordinator.governance import halts
from coordinator.governance.halts import HaltView
from coordinator.keys import log_signer
from coordinator.office.requests import RequestConflict
from protos import governance_pb2 as governance
from protos.halts import SHOWN, HaltOrder, HaltScope, OrderedBy, order_halt
from strategies.errors import Refused, UsageError

_GIVE: Final = "covenant.governance.v1.Halts/GiveHalt"
_FEW: Final = 50
_ID_BYTES: Final = 16


def show(visit: Visit) -> Response:
    """The form, and the halts so far."""
    return visit.page(
        "halt.html",
        targets=_targets(visit),
        scope=visit.query.get("scope", "all"),
        halts=_halts(visit),
    )


def give(visit: Visit) -> Response:
    """Halt. Raises UsageError where the word was not typed."""
    require_typed(visit.form, "halt")
    order = _order(visit)
    before = _given(visit, order)
    if before is None:
        request = governance.GiveHaltRequest(
            request_id=visit.form.get("request_id", ""), order=order.canonical
        )
        try:
            visit.ask(_GIVE, request)
        except RequestConflict:  # the same form, at the same moment, perhaps
            before = _given(visit, order)
            if before is None:
                raise
    if before is not None and before.lifted_at is not None:
        raise Refused(
            f"this form was sent before, and what it halted was lifted at {before.lifted_at:%Y-%m-%d %H:%M:%S} UTC; open the page again to halt anew"
        )
    return visit.go("/halt", words("{what} is halted", what=order.what))


def _given(visit: Visit, order: HaltOrder) -> HaltView | None:
    """What the same form has halted before; a form that says something else meanwhile has halted nothing."""
    try:
        found = halts.view(visit.centre.engine, order.id)
    except UsageError:
        return None
    return found if _says(found.order) == _says(order) else None


def _says(order: HaltOrder) -> tuple[str, str | None, str, OrderedBy]:
    return order.scope, order.target, order.reason, order.by


def _halts(visit: Visit) -> Table:
    """The latest halts."""
    return Table(
        name="halts",
        caption="Halts",
        columns=[
            Column("What"),
            Column("By"),
            Column("Why"),
            Column("Since"),
            Column("State"),
            Column("Halt"),
        ],
        rows=[_row(each) for each in halts.views(visit.centre.engine, 0, _FEW)],
        empty="Nothing is halted, and nothing ever was. The form above halts everything, a run that goes, or a site.",
    )


def _row(each: HaltView) -> Sequence[Cell]:
    order = each.order
    return (
        Cell(order.what),
        Cell(order.by.words),
        Cell(order.reason),
        Cell(each.halted_at),
        Cell(each.state, tone="quiet" if each.lifted_at else "bad"),
        Cell(order.id, text=order.id[:SHOWN], code=True),
    )


def _targets(visit: Visit) -> Sequence[tuple[str, str]]:
    """What can be halted besides everything: runs that go, and sites."""
    going = reads.page(visit.centre.engine, states=[RunState.SUBMITTED, RunState.RUNNING], limit=_FEW).rows
    runs = [(f"run {each.run}", f"Run {each.run} ({each.plan})") for each in going]
    sites = visit.console.members.now().members
    return [*runs, *((f"site {each.site}", f"Site {each.site}") for each in sites)]


def _order(visit: Visit) -> HaltOrder:
    """The order that the log's service gives for whoever is signed in. Raises CovenantError."""
    scope, _, target = visit.form.get("scope", "").partition(" ")
    if scope not in {"all", "run", "site"}:
        raise UsageError("choose what to halt: everything, a run, or a site")
    settings = visit.centre.settings
    return order_halt(
        read_root(settings).root.identity,
        cast("HaltScope", scope),
        target or None,
        visit.form.get("reason", ""),
        OrderedBy(
            kind="service", name=visit.console.members.now().service("log").name, asked_by=visit.who.name
        ),
        log_signer(settings),
        at=visit.now,
        entropy=_entropy(visit),
    )


def _entropy(visit: Visit) -> bytes:
    """What the order's id is made of: one for each form of each officer."""
    told = json.dumps(["halt", visit.who.name, visit.form.get("request_id", "")])
    return hashlib.sha256(told.encode()).digest()[:_ID_BYTES]


ROUTES: Final = (
    Route("/halt", show, "covenant.governance.v1.Halts/ListHalts"),
    Route("/halt", give, _GIVE, "POST", form="/halt"),
)
