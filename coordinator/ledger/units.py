"""Whom an account protects, as people name it: record, customer:COLUMN[:MAX_ROWS[:MAX_SITES]] or site."""

from __future__ import annotations

from typing import Final

from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError

UNIT_HELP: Final = "Whom figures protect: record, customer:COLUMN[:MAX_ROWS[:MAX_SITES]] or site."
_MOST_PARTS: Final = 4


def parse_unit(text: str) -> PrivacyUnit:
    """The unit that `--unit` names. Raises UsageError."""
    kind, *rest = text.split(":")
    if (
        kind not in set(UnitKind)
        or len(rest) >= _MOST_PARTS
        or not all(part.isdecimal() for part in rest[1:])
    ):
        raise UsageError(
            f"--unit is {text!r}; use record, site or customer:COLUMN[:MAX_ROWS[:MAX_SITES]], such as customer:customer_id:4"
        )
    if kind != UnitKind.CUSTOMER and rest:
        raise UsageError(f"--unit is {text!r}; a {kind} has no column and no numbers, write {kind}")
    numbers = dict(zip(("max_rows", "max_sites"), map(int, rest[1:]), strict=False))
    return PrivacyUnit(kind=UnitKind(kind), column=rest[0] if rest else None, **numbers)


def unit_text(unit: PrivacyUnit) -> str:
    """The text that `parse_unit` reads as `unit`."""
    if unit.kind is not UnitKind.CUSTOMER:
        return str(unit.kind)
    return f"{unit.kind}:{unit.column}:{unit.max_rows}:{unit.max_sites}"
