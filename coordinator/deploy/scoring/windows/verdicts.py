"""What a place says to itself of a window of which nothing may leave: the exact counts beside the reference, by the rules that the centre judges by.

A verdict stays in the state folder and in the service's own log. It is a function of exact counts, so it is never told to the centre: one bit a window
would be a release as well.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from protos.documents import load_document
from protos.drift import DriftReference, DriftRules, require_window
from protos.windows import Monitor, Window
from strategies.errors import CovenantError
from strategies.ids import Digest


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Of one window: whether a stream has `moved` further than is tolerated, in `words`."""

    moved: bool
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Judge:
    """Judges exact windows of the versions whose references it has."""

    monitor: Monitor
    references: Mapping[Digest, DriftReference]
    rules: DriftRules

    @classmethod
    def reading(cls, monitor: Monitor, references: Sequence[Path], rules: Path | None) -> Self:
        """With what `covenant monitor reference` wrote. Raises UsageError for a file that is none, or has other bins than the monitor."""
        found = [load_document(each, DriftReference) for each in references]
        for each in found:
            each.require_fits(monitor)
        return cls(
            monitor=monitor,
            references={Digest(each.version_digest): each for each in found},
            rules=DriftRules() if rules is None else load_document(rules, DriftRules),
        )

    def verdict(self, exact: Window) -> Verdict:
        """What `exact` says; where that is nothing, why."""
        from coordinator.deploy.monitoring.judging import judge  # what it computes with takes long to load

        reference = self.references.get(Digest(exact.version_digest))
        if reference is None:
            return Verdict(
                moved=False,
                words=f"nothing can be said of {exact.model}: its reference is not here, start the service with --reference",
            )
        try:
            require_window(exact, reference, self.monitor)
            judged = judge(exact, reference, self.rules, self.monitor.score_scale)
        except CovenantError as error:
            return Verdict(moved=False, words=f"nothing can be said of {exact.model}: {error}")
        if judged.said is not None:
            return Verdict(moved=False, words=f"nothing can be said of {exact.model}: {judged.said}")
        if not judged.moved:
            return Verdict(moved=False, words=f"nothing of {exact.model} has moved further than is tolerated")
        sizes = {each.name: each.figures["psi"] for each in judged.streams if "psi" in each.figures}
        moved = ", ".join(f"{name} (PSI {sizes[name][0]:.2f})" for name in judged.moved)
        return Verdict(moved=True, words=f"of {exact.model} have moved: {moved}")
