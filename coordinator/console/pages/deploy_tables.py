"""Deployments as tables: targets, rollouts, orders, recalls, and what runs where."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from urllib.parse import quote

from coordinator.console.reads.deployments import Place
from coordinator.console.tables import Cell, Column, Table, Tone
from coordinator.deploy.inventory import OrderView, RecallView, RolloutView, RunningView
from protos.rollouts import State

_SHOWN: Final = 12
STATES: Final[dict[str, Tone]] = {
    State.PLANNED: "warn",
    State.SHADOW: "warn",
    State.CANARY: "warn",
    State.FULL: "good",
    State.SUPERSEDED: "quiet",
    State.ROLLED_BACK: "quiet",
    State.RECALLED: "bad",
    State.FAILED: "bad",
}


def targets_table(found: Sequence[Place], older: str | None, *, running: bool, chosen: str = "") -> Table:
    """Targets, how far the newest order of each has come, and, for who may read that, what runs there. They lead to the rollout of the version `chosen`."""
    what = (Column("Serves"), Column("On trial"), Column("Since")) if running else ()
    return Table(
        name="targets",
        caption="Targets",
        columns=[
            Column("Target"),
            Column("Kind"),
            Column("Order", number=True),
            Column("State"),
            *what,
            Column("Release ends"),
        ],
        rows=[
            _target(each, running=running, more=f"?model={quote(chosen)}#start" if chosen else "")
            for each in found
        ],
        empty="There is no target yet. An admin adds one: `covenant deploy targets add`.",
        older=older,
    )


def _target(each: Place, *, running: bool, more: str) -> Sequence[Cell]:
    stable, trial = each.stable, each.challenger
    serves: Sequence[Cell] = ()
    if running:
        serves = (
            Cell(None) if stable is None else version_cell(stable.model, stable.version),
            Cell(None) if trial is None else version_cell(trial.model, trial.version, trial_words(each)),
            Cell(None if stable is None else stable.since),
        )
    return (
        Cell(each.view.name, href=f"/deployments/{each.view.name}{more}"),
        Cell(each.view.kind),
        Cell(each.view.revision),
        state_of(each),
        *serves,
        Cell(each.view.expires),
    )


def state_of(each: Place) -> Cell:
    """How far the newest order of a target has come."""
    if each.view.refused:
        return Cell("refused", tone="bad")
    if each.view.waits:
        return Cell("waits for confirmation", tone="warn")
    return Cell("in force", tone="good") if each.view.revision else Cell("nothing ordered yet", tone="quiet")


def version_cell(name: str, version: int, more: str = "") -> Cell:
    """A version that leads to its page."""
    return Cell(f"{name}@{version}{more}", href=f"/models/{name}@{version}")


def trial_words(each: Place) -> str:
    """` (canary 10%)`."""
    return "" if each.under_way is None else f" ({step_words(each.under_way.state, each.under_way.share)})"


def step_words(state: str, share: float) -> str:
    """`canary 10%`, or the state."""
    return f"canary {share:.0%}" if state == State.CANARY else state.replace("_", " ")


def rollouts_table(
    found: Sequence[RolloutView],
    *,
    name: str = "rollouts",
    caption: str = "Rollouts",
    older: str | None = None,
) -> Table:
    """Rollouts, and how far each has come."""
    labels = ("Rollout", "Target", "Model", "State", "Began", "By", "Moved", "Reason")
    return Table(
        name=name,
        caption=caption,
        columns=[Column(each) for each in labels],
        rows=[
            [
                Cell(each.id, text=each.id[: _SHOWN + 4], code=True),
                Cell(each.target, href=f"/deployments/{each.target}"),
                version_cell(each.model, each.version),
                Cell(step_words(each.state, each.share), tone=STATES[each.state]),
                Cell(each.started_at),
                Cell(each.started_by),
                Cell(each.moved_at),
                Cell(each.reason),
            ]
            for each in found
        ],
        empty="Nothing was brought anywhere yet. An engineer starts a rollout on a target's page once officers have approved a version.",
        older=older,
    )


def orders_table(
    found: Sequence[OrderView], *, name: str = "orders", caption: str = "Orders", older: str | None = None
) -> Table:
    """Orders of a target: each is one decision."""
    labels = ("Order", "To", "By", "Ordered", "Confirmed", "State", "Why", "Why refused")
    return Table(
        name=name,
        caption=caption,
        columns=[Column(each, number=each == "Order") for each in labels],
        rows=[
            [
                Cell(each.revision),
                Cell(step_words(each.state, each.share)),
                Cell(each.by),
                Cell(each.made_at),
                Cell(each.confirmed_at),
                _order_state(each),
                Cell(each.why),
                Cell(each.refused),
            ]
            for each in found
        ],
        empty="Nothing was ordered here yet. An engineer starts a rollout above, once officers have approved a version.",
        older=older,
    )


def _order_state(each: OrderView) -> Cell:
    if each.refused:
        return Cell("refused", tone="bad")
    return Cell("waits", tone="warn") if each.confirmed_at is None else Cell("confirmed", tone="good")


def running_table(found: Sequence[RunningView], caption: str = "What runs where") -> Table:
    """What runs where."""
    labels = ("Target", "Arm", "Model", "Digest", "Release", "Since")
    return Table(
        name="running",
        caption=caption,
        columns=[Column(each, number=each == "Release") for each in labels],
        rows=[
            [
                Cell(each.target, href=f"/deployments/{each.target}"),
                Cell({"stable": "serves", "challenger": "on trial"}.get(each.arm, each.arm)),
                version_cell(each.model, each.version),
                Cell(each.digest, text=each.digest[:_SHOWN], code=True),
                Cell(each.sequence),
                Cell(each.since),
            ]
            for each in found
        ],
        empty="It runs nowhere. Once it is approved, an engineer starts a rollout on a target's page; Deployments has the targets.",
    )


def recalls_table(found: Sequence[RecallView]) -> Table:
    """Recalls, and which of them targets have confirmed."""
    return Table(
        name="recalls",
        caption="Recalls",
        columns=[Column(each) for each in ("Target", "Model", "Ordered", "Confirmed", "By", "Why")],
        rows=[
            [
                Cell(each.target, href=f"/deployments/{each.target}"),
                version_cell(each.model, each.version),
                Cell(each.ordered_at),
                Cell("waits for the target", tone="bad")
                if each.confirmed_at is None
                else Cell(each.confirmed_at),
                Cell(each.by),
                Cell(each.why),
            ]
            for each in found
        ],
        empty="Nothing was recalled. A version is taken out of service for good on its own page, under Models.",
    )
