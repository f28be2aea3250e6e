"""A run is followed to its end: whoever follows looks at each view of it, and a run that did not complete is an error."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from coordinator.db.schema import RunState
from coordinator.runs import RunView
from strategies.errors import CovenantError


def follow(views: Iterable[RunView], look: Callable[[RunView], None]) -> RunView:
    """The last of `views`, each of which `look` has seen. Raises `CovenantError` if the run did not complete, and what `look` raises."""
    now = None
    for now in views:
        look(now)
    if now is None:
        raise CovenantError("the coordinator told nothing of the run; ask again with `covenant run watch`")
    if now.state != RunState.COMPLETED:
        raise CovenantError(f"{now.run} {now.state}: {now.reason or 'no reason was recorded'}")
    return now
