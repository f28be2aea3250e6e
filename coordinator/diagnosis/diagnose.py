"""From evidence to findings: which causes show their signs, whom they concern, and what to do."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Final

from coordinator.diagnosis.causes import CAUSES, Cause
from coordinator.diagnosis.evidence import RunEvidence, Symptom

_SHOWN: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A cause that shows: the `sites` that it concerns, evidence of it, and what to do next."""

    cause: str
    means: str
    sites: tuple[str, ...]
    evidence: tuple[str, ...]
    seen: int
    next: tuple[str, ...]
    page: str

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def diagnose(evidence: RunEvidence) -> list[Finding]:
    """The findings on a run, the most serious first; empty where nothing was said of it."""
    invited = sorted({each.site for each in evidence.symptoms if each.site is not None})
    found = (_finding(cause, evidence, invited) for cause in CAUSES)
    return [each for each in found if each is not None]


def _finding(cause: Cause, evidence: RunEvidence, invited: Iterable[str]) -> Finding | None:
    showing = [each for each in evidence.symptoms if cause.shows_in(each.text)]
    if not showing:
        return None
    sites = sorted({site for each in showing for site in _sites_of(cause, each, invited)})
    lines = list(dict.fromkeys(f"{each.where}: {_named(each)}" for each in showing))
    one = sites[0] if len(sites) == 1 else "SITE"
    return Finding(
        cause=cause.name,
        means=cause.means,
        sites=tuple(sites),
        evidence=tuple(lines[-_SHOWN:]),
        seen=len(showing),
        next=tuple(each.format(run=evidence.run, site=one) for each in cause.next),
        page=cause.page,
    )


def _named(symptom: Symptom) -> str:
    return symptom.text if symptom.site is None else f"{symptom.site} {symptom.text}"


def _sites_of(cause: Cause, symptom: Symptom, invited: Iterable[str]) -> Iterable[str]:
    """Whom a symptom is about: its own site, or those that its sentence names before a sign of the cause."""
    if symptom.site is not None:
        return [symptom.site]
    parts = re.split(r"[;:] ", symptom.text)
    return [site for part in parts if cause.shows_in(part) for site in invited if part.startswith(f"{site} ")]
