"""How a computation is kept to its time, and how whoever operates the site hears of it.

A computation calls its pace before each step. It knows nothing of clocks: it goes on, or ends with `TooLate`, whole. A site that is late says so. It
never sends the result of fewer steps than the plan has: that would be another update than all have agreed to, and under privacy a number of steps that depends on time.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from strategies.errors import CovenantError

Pace = Callable[[int, int], None]
"""Told before each step how many are done, of how many, and after the last. May raise `TooLate`."""

Progress = Callable[[str, int, int], None]
"""Tells an operator what is computed, how many steps are done, and of how many."""


class TooLate(CovenantError):  # noqa: N818 (names what the site is)
    """The deadline of a round has passed before the site's part of it was done."""


def unhurried(done: int, of: int) -> None:
    """The pace of whoever has time, and no audience."""


def no_progress(what: str, done: int, of: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Paced:
    """The pace of a computation, `what`, that is worth nothing `deadline_s` after `began`, by `monotonic`."""

    what: str
    began: float
    deadline_s: float
    monotonic: Callable[[], float]
    progress: Progress

    def __call__(self, done: int, of: int) -> None:
        """See `Pace`."""
        self.progress(self.what, done, of)
        spent = self.monotonic() - self.began
        if done < of and spent > self.deadline_s:
            raise TooLate(
                f"{self.what} was at step {done} of {of} when the plan's round_deadline of {self.deadline_s:g} s had passed; nothing is sent of it."
                " Give the agent more of the machine (`run.cpu_threads`), or ask for a longer deadline; `covenant-agent rehearse` measures it"
            )
