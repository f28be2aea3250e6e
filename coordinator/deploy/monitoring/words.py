"""Windows and forecasts in one line each, as the command and the console's page say them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

_FEW: Final = 4


def says(window: Mapping[str, Any]) -> str:
    """What a window says: what moved, or why nothing can be said."""
    if window["said"] is not None:
        return str(window["said"])
    moved: list[str] = window["moved"]
    if not moved:
        return "nothing moved further than is tolerated"
    return (
        "moved: " + ", ".join(moved[:_FEW]) + (f" and {len(moved) - _FEW} more" if len(moved) > _FEW else "")
    )


def known_streams(window: Mapping[str, Any]) -> dict[str, Any]:
    """The streams of a window of which anything can be said, by name."""
    return {name: one for name, one in window["streams"].items() if one.get("said") is None}


def rows_of(window: Mapping[str, Any]) -> float | None:
    """How many decisions it counts, as far as noise lets see."""
    return next((one["rows"] for one in known_streams(window).values() if "rows" in one), None)


def largest(window: Mapping[str, Any]) -> str:
    """The largest PSI, or the AUC of outcomes, with its interval; nothing where nothing is known."""
    known = known_streams(window)
    psi = {name: one["psi"] for name, one in known.items() if "psi" in one}
    if psi:
        name, (value, low, high) = max(psi.items(), key=lambda each: each[1][0])
        return f"{name}: PSI {value:.3f} ({low:.3f} to {high:.3f})"
    if "auc" not in known:
        return ""
    value, low, high = known["auc"]["window"]
    return f"AUC {value:.3f} ({low:.3f} to {high:.3f}), reference {known['auc']['reference'][0]:.3f}"


def going(told: Mapping[str, Any]) -> str:
    """Where a series goes, and whether it is over its threshold or when it crosses it."""
    if "said" in told:
        return str(told["said"])
    ahead, crosses = len(told["middle"]), told["crosses"]
    ends = f"{told['middle'][-1]:.3f} ({told['low'][-1]:.3f} to {told['high'][-1]:.3f}) in {ahead} windows"
    if told["is_over"]:
        return f"{ends}; over the threshold already"
    if crosses["earliest"] is None:
        return f"{ends}; not expected to cross the threshold"
    likely = f"in {crosses['likely']}" if crosses["likely"] is not None else f"not within {ahead}"
    return f"{ends}; crosses the threshold in {crosses['earliest']} at the earliest, probably {likely}"
