"""What the arms of a scoring service have done since an order was confirmed: its counts then, and what it tells now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from coordinator.deploy.scoring.serving import ArmStatus, ServiceStatus
from protos.rollouts import Figures


def figures_since(baseline: Mapping[str, Any] | None, status: ServiceStatus) -> tuple[Figures, Figures]:
    """What both arms have done since the order was confirmed. After a restart of the service counts begin again, and so does this."""
    same = baseline is not None and baseline["started_at"] == status.started_at.isoformat()
    before = baseline if same and baseline is not None else {}
    return _since(before.get("stable"), status.stable), _since(before.get("challenger"), status.challenger)


def _since(before: Mapping[str, Any] | None, arm: ArmStatus | None) -> Figures:
    if arm is None:
        return Figures(requests=0, rows=0, errors=0, latency_sum_ms=0.0, scores=())
    if before is None or before["since"] != arm.since.isoformat():
        before = {
            "requests": 0,
            "rows": 0,
            "errors": 0,
            "latency_sum_ms": 0.0,
            "scores": [0] * len(arm.scores),
        }
    return Figures(
        requests=arm.requests - before["requests"],
        rows=arm.rows - before["rows"],
        errors=arm.errors - before["errors"],
        latency_sum_ms=arm.latency_sum_ms - before["latency_sum_ms"],
        scores=tuple(now - then for now, then in zip(arm.scores, before["scores"], strict=True)),
    )


def counted(status: ServiceStatus | None) -> dict[str, Any] | None:
    """What a service has counted, as it is kept with the order that it has confirmed."""
    if status is None:
        return None
    return {
        "started_at": status.started_at.isoformat(),
        "stable": _arm(status.stable),
        "challenger": _arm(status.challenger),
    }


def _arm(arm: ArmStatus | None) -> dict[str, Any] | None:
    if arm is None:
        return None
    return {
        "since": arm.since.isoformat(),
        "requests": arm.requests,
        "rows": arm.rows,
        "errors": arm.errors,
        "latency_sum_ms": arm.latency_sum_ms,
        "scores": list(arm.scores),
    }
