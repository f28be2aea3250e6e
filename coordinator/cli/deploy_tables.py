"""Deployments as tables for people: targets, rollouts, what runs where, recalls, and all of one target."""

from __future__ import annotations

from rich.table import Table

from coordinator.deploy.desk import DeployDesk, Facts
from protos.shell import as_written, emit, people


def show_target(
    desk: DeployDesk, target: str, *, json: bool, rollout: str | None = None, seconds: float | None = None
) -> None:
    """All of one target, as tables or in JSON; with the `rollout` that was begun, and the `seconds` until its newest order was in force."""
    found = [each for each in desk.targets() if each["name"] == target]
    orders, rollouts = desk.orders(target), desk.rollouts(target)
    running = [each for each in desk.running(past=False) if each["target"] == target]
    if json:
        more = {} if rollout is None else {"rollout": rollout}
        timed = {} if seconds is None else {"in_force_after_s": round(seconds, 3)}
        emit(
            {**more, **timed, "target": found[0], "running": running, "rollouts": rollouts, "orders": orders}
        )
        return
    targets_table(found)
    rollouts_table(rollouts)
    table = Table("order", "to", "by", "at", "confirmed", "why", title="orders")
    for each in orders:
        to = f"{each['state']} {each['share']:.0%}" if each["state"] == "canary" else each["state"]
        state = (each["confirmed_at"] or "")[:19] or (
            f"refused: {each['refused']}" if each["refused"] else "waits"
        )
        cells = (str(each["revision"]), to, each["by"], each["made_at"][:19], state, each["why"])
        table.add_row(*map(as_written, cells))
    people.print(table)
    if seconds is not None:
        people.print(f"in force after {seconds:.2f} s", highlight=False)


def targets_table(found: Facts) -> None:
    """Targets, and how the newest order of each stands."""
    table = Table("target", "kind", "order", "state", "its release ends", title="targets")
    for each in found:
        state = (
            "waits for confirmation" if each["waits"] else "in force" if each["revision"] else "nothing yet"
        )
        state = f"refused: {each['refused']}" if each["refused"] else state
        cells = (each["name"], each["kind"], str(each["revision"]), state, (each["expires"] or "")[:19])
        table.add_row(*map(as_written, cells))
    people.print(table)


def rollouts_table(found: Facts) -> None:
    """Rollouts, and how far each has come."""
    table = Table("rollout", "target", "model", "state", "since", "reason", title="rollouts")
    for each in found:
        state = f"{each['state']} {each['share']:.0%}" if each["state"] == "canary" else each["state"]
        ref = f"{each['model']}@{each['version']}"
        cells = (each["id"], each["target"], ref, state, each["moved_at"][:19], each["reason"] or "")
        table.add_row(*map(as_written, cells))
    people.print(table)


def recalls_table(found: Facts) -> None:
    """Recalls, and which of them are confirmed."""
    table = Table("target", "model", "ordered", "confirmed", "by", "why", title="recalls")
    for each in found:
        ref, confirmed = f"{each['model']}@{each['version']}", (each["confirmed_at"] or "waits")[:19]
        cells = (each["target"], ref, each["ordered_at"][:19], confirmed, each["by"], each["why"])
        table.add_row(*map(as_written, cells))
    people.print(table)


def running_table(running: Facts) -> None:
    """What runs where, or ran."""
    table = Table("target", "arm", "model", "digest", "release", "since", "until")
    for each in running:
        ref, until = f"{each['model']}@{each['version']}", (each["until"] or "")[:19]
        cells = (each["target"], each["arm"], ref, each["digest"][:16], str(each["sequence"]))
        table.add_row(*map(as_written, (*cells, each["since"][:19], until)))
    people.print(table)
