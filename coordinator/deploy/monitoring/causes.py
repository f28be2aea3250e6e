"""The likely cause of a window that moved, from it and from what other windows of the same version say."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from coordinator.deploy.monitoring.judging import INPUT, SCORE, histograms
from coordinator.deploy.monitoring.watched import Watched
from protos.windows import Window
from strategies.analytics.drift_causes import Cause, Moved, likely_cause


@dataclass(frozen=True, slots=True)
class JudgedWindow:
    """A window with what was found in it: `Judged.facts`, as the table has them."""

    window: Window
    found: Mapping[str, Any]

    @property
    def was_tested(self) -> bool:
        """Whether any stream of it could say something."""
        return any(each.get("said") is None for each in self.found["streams"].values())

    @property
    def has_moved(self) -> bool:
        """Whether any stream moved."""
        return bool(self.found["moved"])


def cause_of(watched: Watched, told: JudgedWindow, others: Sequence[JudgedWindow]) -> Cause:
    """Judge `told`; `others` are windows of the version, the latest first, of all places, `told` among them or not."""
    here = [told, *(each for each in others if each.window.place == told.window.place)]
    decisions = _first(here, told.window.number, outcomes=False)
    outcomes = _first(here, told.window.number, outcomes=True)
    moved = [] if decisions is None else list(_moved(watched, decisions))
    return likely_cause(
        moved,
        scores_moved=decisions is not None and SCORE in decisions.found["moved"],
        outcomes_moved=None if outcomes is None else outcomes.has_moved,
        places=_places(told, others),
    )


def _first(here: Sequence[JudgedWindow], number: int, *, outcomes: bool) -> JudgedWindow | None:
    """Of one place, the window that counts decisions, or outcomes: of the same decisions if there is one, and else the latest that says anything."""
    fitting = [each for each in here if (each.window.outcomes is not None) == outcomes and each.was_tested]
    same = [each for each in fitting if each.window.number == number]
    return next(iter(same or fitting), None)


def _places(told: JudgedWindow, others: Sequence[JudgedWindow]) -> dict[str, bool]:
    """Of each place whose latest window of that kind ended no more than one window ago, whether it moved."""
    window = told.window
    found = {window.place: told.has_moved}
    for each in others:
        same = (each.window.outcomes is None) == (window.outcomes is None)
        if same and each.was_tested and each.window.ends >= window.begins:
            found.setdefault(each.window.place, each.has_moved)
    return found


def _moved(watched: Watched, told: JudgedWindow) -> Iterator[Moved]:
    if told.window.counted is None:
        return
    for name, theirs, ours, _ in histograms(told.window.counted, watched.reference):
        if name in told.found["moved"] and name.startswith(INPUT):
            feature = name.removeprefix(INPUT)
            yield Moved(
                feature=feature,
                kind=watched.reference.form_of(feature),
                labels=watched.reference.labels[feature],
                reference=theirs,
                window=ours,
                excess=told.found["streams"][name]["excess"],
            )
