"""What the full demo adds to the demo's report: officers at their own machines, two models deployed, drift found, a plan drafted."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields

from protos.shell import people, tell
from simulation.demo.loop_report import DriftReport, RetrainingReport


@dataclass(frozen=True, slots=True, kw_only=True)
class GovernedReport:
    """The second run: halted after `halted_after` committed rounds, seen stopped `stopped_within_s` seconds after the order was recorded."""

    run: str
    plan: str
    machines: list[str]
    halt: str
    halted_by: str
    halted_after: int
    stopped_within_s: float
    lifted_by: list[str]
    rounds: int

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)

    @property
    def words(self) -> str:
        """For people."""
        return (
            f"{self.run} of plan {self.plan[:12]}, halted by {self.halted_by} after round {self.halted_after} and seen stopped {self.stopped_within_s:.2f} s"
            f" later; lifted by {' and '.join(self.lifted_by)}, resumed, and finished with {self.rounds} rounds"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationReport:
    """One application as a target with a threshold answers it; `reasons` are there if it is declined."""

    version: int
    probability: float
    reasons: list[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentReport:
    """Two versions at one target: `first` served, `second` was tried on `canary_share` of applicants, served, and was taken back.

    `rolled_back_within_s` are the seconds from the recorded order to the first answer of `first`.
    """

    target: str
    first: str
    second: str
    digests: list[str]
    verdicts: list[str]
    approved_by: list[str]
    canary_share: float
    canary_answered: dict[str, int]
    decline_at: float
    declined: ApplicationReport
    model_signing: str
    rolled_back_by: str
    rolled_back_within_s: float
    after_rollback: ApplicationReport

    def facts(self) -> dict[str, object]:
        """As JSON."""
        return asdict(self)

    @property
    def words(self) -> str:
        """For people."""
        tried = ", ".join(f"{each} {count}" for each, count in self.canary_answered.items())
        return (
            f"Deployed to {self.target}: {self.first}, then {self.second} on {self.canary_share:.0%} of applicants (answered by {tried}), then on all. It declined an application at"
            f" {self.declined.probability:.3f} of {self.decline_at:g}: {'; '.join(self.declined.reasons)}. {self.rolled_back_by} took it back, and {self.first} answered"
            f" {self.rolled_back_within_s:.2f} s after the order. model_signing says of its export: {self.model_signing}"
        )


@dataclass(frozen=True, slots=True)
class Afterwards:
    """What the full demo adds, in its order."""

    governed: GovernedReport | None = None
    deployment: DeploymentReport | None = None
    drift: DriftReport | None = None
    retraining: RetrainingReport | None = None

    def facts(self) -> dict[str, object]:
        """As JSON: each by its name, those that there are."""
        parts = {each.name: getattr(self, each.name) for each in fields(self)}
        return {name: part.facts() for name, part in parts.items() if part is not None}

    def show(self) -> None:
        """For people."""
        if self.governed is not None:
            people.print(f"\nOver the control API: {self.governed.words}.", highlight=False)
        if self.deployment is not None:
            people.print(f"\n{self.deployment.words}.", highlight=False)
        if self.drift is not None:
            people.print(self.drift.table())
            tell(f"{self.drift.words}.")
        if self.retraining is not None:
            tell(f"\n{self.retraining.words}.")
