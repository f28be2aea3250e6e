"""What this site has answered and refused, run by run, as its journal and its accounts have it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from client.accounts.book import Charge
from client.journal.answers import ANSWERED, REFUSED
from client.journal.entries import Entry

_LAST_STEPS: Final = frozenset({"answer", "unmask"})


@dataclass
class RunHistory:
    """One run, as this site took part in it. A round is answered once its sum may hold this site's input; times are UTC in ISO 8601."""

    run: str
    plan: str | None = None
    first_at: str = ""
    last_at: str = ""
    prepared: bool = False
    trained: int = 0
    evaluated: int = 0
    steps: int = 0
    charges: int = 0
    refusals: list[dict[str, str]] = field(default_factory=list)

    def facts(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)


def history(journal: Iterable[Entry], charges: Iterable[Charge]) -> list[RunHistory]:
    """The runs that stand in `journal`, the latest first, with what was charged for them."""
    runs: dict[str, RunHistory] = {}
    for entry in journal:
        if entry.kind not in {ANSWERED, REFUSED}:
            continue
        body = entry.body
        run = runs.setdefault(body["run"], RunHistory(body["run"]))
        run.first_at = run.first_at or body["at"]
        run.last_at = body["at"]
        if entry.kind == REFUSED:
            run.refusals.append({"code": body["code"].lower(), "reason": body["reason"], "at": body["at"]})
        else:
            run.plan = body["plan"]
            _count(run, body["stage"].lower(), body["step"])
    for charge in charges:
        if charge.occasion.run in runs:
            runs[charge.occasion.run].charges += 1
    return sorted(runs.values(), key=lambda each: each.last_at, reverse=True)


def _count(run: RunHistory, stage: str, step: str) -> None:
    run.steps += 1
    if step in _LAST_STEPS:
        run.prepared |= stage == "prepare"
        run.trained += stage == "train"
        run.evaluated += stage == "evaluate"
