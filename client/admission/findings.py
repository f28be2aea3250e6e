"""What a site finds when it judges a plan, rule by rule: for the operator all of it, for the centre one sentence about what refuses."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from client.refusal import TaskRefused
from protos.frames import RefusalCode

NOT_NOW: Final = "this site does not take part at present; ask again later"
"""All that the centre hears of a site that awaits consent, or is outside its hours."""


class Outcome(enum.StrEnum):
    """What came of one rule."""

    PASSES = "passes"
    REFUSES = "refuses"
    AWAITS = "awaits"
    """A person, or an hour: the plan itself is not refused."""
    OPEN = "open"
    """Of what is there only when a run is launched."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One rule: its key in site.yaml, what the plan asks, what the site admits, and what to do. The centre may hear `reason` and `code` alone."""

    rule: str
    outcome: Outcome
    asks: str
    admits: str
    reason: str = ""
    remedy: str = ""
    code: RefusalCode = RefusalCode.POLICY

    @property
    def refusal(self) -> TaskRefused:
        """What the centre is told."""
        if self.outcome is Outcome.AWAITS:
            return TaskRefused(RefusalCode.LATER, NOT_NOW, local=f"{self.asks}: {self.remedy}")
        return TaskRefused(
            self.code, self.reason, local=f"{self.reason}. {self.remedy}" if self.remedy else ""
        )

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "rule": self.rule,
            "outcome": self.outcome.value,
            "asks": self.asks,
            "admits": self.admits,
            "remedy": self.remedy,
        }


def passed(rule: str, asks: str, admits: str) -> Finding:
    """The finding on a rule that the plan keeps."""
    return Finding(rule=rule, outcome=Outcome.PASSES, asks=asks, admits=admits)


def refused(
    rule: str, asks: str, admits: str, reason: str, remedy: str, *, code: RefusalCode = RefusalCode.POLICY
) -> Finding:
    """The finding on a rule that the plan breaks."""
    return Finding(
        rule=rule,
        outcome=Outcome.REFUSES,
        asks=asks,
        admits=admits,
        reason=reason,
        remedy=remedy,
        code=code,
    )


def found(
    rule: str,
    passes: bool,  # noqa: FBT001 (reads as a sentence)
    asks: str,
    admits: str,
    reason: str,
    remedy: str,
    *,
    code: RefusalCode = RefusalCode.POLICY,
) -> Finding:
    """The finding on `rule`; `reason`, `remedy` and `code` are of a refusal only."""
    if passes:
        return passed(rule, asks, admits)
    return refused(rule, asks, admits, reason, remedy, code=code)


def listed(values: Iterable[str], *, none: str = "nothing") -> str:
    """For people."""
    return ", ".join(values) or none


def refusals(findings: Iterable[Finding]) -> list[Finding]:
    """Those that refuse."""
    return [each for each in findings if each.outcome is Outcome.REFUSES]


def require(findings: Iterable[Finding]) -> None:
    """Raise the `TaskRefused` of the first that refuses, or else of the first that awaits something."""
    known = list(findings)
    stopping = refusals(known) or [each for each in known if each.outcome is Outcome.AWAITS]
    if stopping:
        raise stopping[0].refusal
