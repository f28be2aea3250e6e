"""What a check of the doctor's is, and what it finds.

1. A check takes the site's configuration and its file, and gives findings. It changes nothing, and says no value of any row.
2. A `CovenantError` that a check raises is a finding: its sentence says what is wrong and what to do.
3. A room adds its checks with a `CHECKS` of its own, and one line in `examination.ROOMS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from protos.site import SiteConfig

Level = Literal["ok", "warning", "wrong"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: `what` in a sentence, the `evidence`, and the `next` thing to do where something is to be done."""

    check: str
    level: Level
    what: str
    evidence: str = ""
    next: str = ""

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "check": self.check,
            "level": self.level,
            "what": self.what,
            "evidence": self.evidence,
            "next": self.next,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The site that is looked at."""

    config: SiteConfig
    file: Path
    clock: Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class Check:
    """A check by its name."""

    name: str
    look: Callable[[Patient], Iterable[Finding]]


def fine(check: str, what: str, evidence: str = "") -> Finding:
    """Nothing is to be done."""
    return Finding(check, "ok", what, evidence)


def doubtful(check: str, what: str, *, evidence: str = "", then: str) -> Finding:
    """The agent works, and somebody should do something."""
    return Finding(check, "warning", what, evidence, then)


def wrong(check: str, what: str, *, evidence: str = "", then: str) -> Finding:
    """The agent does not work, or not for long."""
    return Finding(check, "wrong", what, evidence, then)
