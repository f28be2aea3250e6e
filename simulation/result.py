"""What a simulated run found, as facts: reports, gates and `--json` all read this and nothing else.

Two runs with one seed give equal results, except for the figures that a clock measured (`*_s`).
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

from strategies.analytics.histograms import ScoreMetrics
from strategies.dp.units import Guarantee
from strategies.ids import Digest, RunId, SiteName


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteResult:
    """One simulated site. No site of a real federation tells its rows or its own AUC; a simulation may show them.

    `auc` is the final model's on this site's held-out rows alone, None where they hold one class only. `sent` and `received` are
    bytes of frames, `compute_s` is measured on this machine.
    """

    site: SiteName
    training_rows: int
    held_out_rows: int
    positives: float
    """Share of the positive class among all rows of the site, 0 to 1."""
    answered: int
    """Rounds in which its update was counted."""
    missed: int
    """Rounds whose roster named it, but that were committed without it."""
    auc: float | None
    sent: int
    received: int
    compute_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """One committed round. `auc` and `log_loss` are None where the plan does not evaluate; `epsilon` is spent up to here."""

    number: int
    attempts: int
    roster: int
    survivors: int
    auc: float | None
    log_loss: float | None
    epsilon: float
    traffic: int
    """Bytes of frames to and from the sites, all attempts of the round and its evaluation included."""
    compute_s: float
    """The slowest survivor's computing time: what a round would take where sites work side by side."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulationResult:
    """A simulated run from its plan to its model. `metrics` and `model_digest` are None for a run that did not complete."""

    plan: str
    plan_digest: Digest
    run: RunId
    seed: int
    partition: str
    """How the rows were dealt to the sites, in words."""
    completed: bool
    reason: str | None
    aggregation: str
    privacy: str
    planned_rounds: int
    parameters: int
    sites: tuple[SiteResult, ...]
    rounds: tuple[RoundResult, ...]
    metrics: ScoreMetrics | None
    model_digest: Digest | None
    elapsed_s: float
    guarantee: Guarantee | None = None
    """What everything released until the last committed round costs one unit; None without privacy."""

    @property
    def epsilon(self) -> float:
        """What the committed rounds have spent; infinite without privacy: nothing bounds what a model tells of a person."""
        return self.rounds[-1].epsilon if self.rounds else math.inf

    @property
    def whose(self) -> str:
        """What an epsilon of this run is about: `at delta 1e-05 per record (add-or-remove-one)`. Empty without privacy."""
        given = self.guarantee
        return (
            "" if given is None else f"at delta {given.delta:g} per {given.unit.words} ({given.neighbours})"
        )

    def facts(self) -> dict[str, object]:
        """The result as JSON has it. An epsilon stands with its delta, unit and neighbours; without privacy there is null in their place."""
        return {
            **asdict(self),
            "guarantee": self._guaranteed(self.epsilon),
            "rounds": [self._round(each) for each in self.rounds],
        }

    def _round(self, each: RoundResult) -> dict[str, object]:
        facts = asdict(each)
        epsilon = facts.pop("epsilon")
        return {**facts, "guarantee": self._guaranteed(epsilon)}

    def _guaranteed(self, epsilon: float) -> dict[str, object] | None:
        given = self.guarantee
        if given is None or not math.isfinite(epsilon):
            return None
        return {**given.facts(), "epsilon": epsilon}
