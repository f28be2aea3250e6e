"""A seed that gives two results gives none: the difference is shown, and it is an error."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from strategies.errors import CovenantError

_SHOWN = 20


class RepeatsDifferentlyError(CovenantError):
    """Something reads a clock, a random source or an order that the seed does not decide."""


def require_equal(what: str, first: Sequence[str], second: Sequence[str]) -> None:
    """Raise `RepeatsDifferentlyError` with the first differences unless both times gave the same lines."""
    if first == second:
        return
    difference = list(difflib.unified_diff(first, second, "first time", "second time", lineterm="", n=2))
    shown = "\n".join(difference[:_SHOWN])
    raise RepeatsDifferentlyError(
        f"{what} repeats differently, so no result of it counts; the first difference:\n{shown}"
    )
