"""What the desk's pages share."""

from __future__ import annotations

from typing import Final

from coordinator.console.desk.checks import Checks
from coordinator.console.desk.visit import DeskVisit
from coordinator.console.tables import Cell, Column, Table, Tone
from strategies.errors import UsageError

_TONES: Final[dict[str, Tone]] = {"good": "good", "bad": "bad", "open": "quiet"}
_SAID: Final = {"good": "holds", "bad": "does not hold", "open": "not looked at"}


def checks_table(checks: Checks) -> Table:
    """The checks, one a row."""
    return Table(
        name="checks",
        caption="What this desk has checked",
        columns=[Column("Check"), Column("Result"), Column("What was found")],
        rows=[
            (Cell(each.name), Cell(_SAID[each.state], tone=_TONES[each.state]), Cell(each.words))
            for each in checks.made
        ],
    )


def require_typed(visit: DeskVisit, word: str) -> None:
    """Check that the officer has typed `word`. Raises UsageError."""
    if visit.form.get("confirmed", "").strip() != word:
        raise UsageError(f"nothing was signed: type {word}, the first digits of the digest, to confirm it")
