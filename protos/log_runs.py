"""A run as the transparency log tells it: which of its events may come when. What it releases is on the accounts (`log_budgets`).

1. A sum is settled once, over sites that the plan invites and no fewer than its minimum: to prepare before the first round, to train for the round
   that is next and for no second attempt before the first is voided, to evaluate once a round is committed.
   A run that ended by its plan's gate says which sum was above it: one that was settled, by a norm above the gate. It was opened, so its round is had
   in no other attempt either: it is not voided, nothing more is settled of the round, and the round never is committed.
2. A round is committed after the one before, over the very sites and the statement that its attempt settled. A run completes with all its rounds, and
   with the evaluation of the last: sites judge a round's aggregate by the gate when they are asked for the next, and who is asked last is asked that.
3. Nothing is settled before as many sites have witnessed the run as the plan asks for (`log_witnesses`), and over none that has not.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, assert_never

from protos.approvals import ApprovedPlan
from protos.log_run_events import (
    AttemptVoided,
    ReservationGivenUp,
    RoundCommitted,
    RoundEvaluated,
    RoundPrepared,
    RunEnded,
    RunEvent,
    RunResumed,
    RunWitnessed,
    SiteRefused,
    SumSettled,
    Tripped,
)
from protos.membership import MemberList
from protos.plan import Plan
from protos.plan_releases import EVALUATE, PREPARE, TRAIN, PlannedReleases
from strategies.errors import Refused
from strategies.ids import Digest, RunId, SiteName

At = tuple[str, int, int]
"""Stage, round, attempt."""


@dataclass
class RunStory:
    """A run as the log tells it."""

    run: RunId
    plan: Plan
    contract: Digest
    approved: ApprovedPlan
    releases: PlannedReleases | None
    launch: int
    """The entry of its launch."""
    members: MemberList
    witnesses: set[SiteName] = field(default_factory=set)
    settled: dict[At, SumSettled] = field(default_factory=dict)
    voided: set[At] = field(default_factory=set)
    evaluated: set[At] = field(default_factory=set)
    metrics: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By round, those that came last."""
    alone: dict[int, dict[str, Any]] = field(default_factory=dict)
    """By round, the panels of evaluations that gave no metrics."""
    tripped: set[At] = field(default_factory=set)
    """What was opened and is above the plan's gate."""
    scaling: Digest | None = None
    committed: int = 0
    weights: Digest | None = None
    """Of the model after the last round."""
    survivors: set[SiteName] = field(default_factory=set)
    fewest: int = 0
    """The fewest sites in a committed sum."""
    prepared: bool = False
    is_before_gap: bool = False
    """Whether entries were lost after this run was launched: what became of it meanwhile nobody knows."""
    state: str = "running"

    @property
    def is_complete(self) -> bool:
        """Whether all rounds of the plan are committed."""
        return self.committed == self.plan.training.rounds

    def require_settled(self, at: At, survivors: tuple[SiteName, ...]) -> SumSettled:
        """What was settled of an attempt, which was over exactly these sites and not voided. Raises Refused."""
        found = self.settled.get(at)
        if found is None or found.sites != survivors or at in self.voided:
            raise Refused(
                f"{self.run}: attempt {at[2]} at {at[0]} of round {at[1]} was not settled over these sites"
            )
        return found

    def take(self, what: RunEvent) -> None:
        """Judge the next event of this run. Raises Refused."""
        match what:
            case RunResumed():
                _resume(self, what)
            case ReservationGivenUp() | RunWitnessed() | SiteRefused():
                pass  # matters of the accounts and of the sites, which a run may leave behind after its end
            case AttemptVoided():
                _void(self, what)
            case _:
                _require_running(self)
                if not isinstance(what, RunEnded):
                    _require_going_on(self)
                self._take_running(what)

    def _take_running(
        self, what: RoundPrepared | SumSettled | RoundCommitted | RoundEvaluated | RunEnded
    ) -> None:
        match what:
            case SumSettled():
                _settle(self, what)
            case RoundPrepared():
                _prepare(self, what)
            case RoundCommitted():
                _commit(self, what)
            case RoundEvaluated():
                _evaluate(self, what)
            case RunEnded():
                _end(self, what)
            case unreachable:
                assert_never(unreachable)


def _require_running(run: RunStory) -> None:
    if run.state != "running":
        raise Refused(f"{run.run} is {run.state}")


def _require_going_on(run: RunStory) -> None:
    if run.is_before_gap:
        raise Refused(f"{run.run} goes on, but entries were lost after its launch: nobody knows what it did")


def _resume(run: RunStory, what: RunResumed) -> None:
    if run.state not in {"failed", "stopped"}:
        raise Refused(f"{what.run} is resumed, but it is {run.state}")
    if run.is_before_gap:
        raise Refused(f"{what.run} is resumed, but entries were lost after its launch: it may have gone on")
    run.state = "running"


def _settle(run: RunStory, what: SumSettled) -> None:
    at = (what.stage, what.round, what.attempt)
    if at in run.settled:
        raise Refused(
            f"{run.run}: attempt {what.attempt} at {what.stage} of round {what.round} is settled twice"
        )
    if what.stage == TRAIN:
        _require_not_tripped(run, what.round, "settles another sum of")
    if not _is_due(run, what):
        raise Refused(f"{run.run}: to {what.stage} in round {what.round} is not due")
    strangers = sorted(set(what.sites) - set(run.plan.sites.invite))
    if strangers or len(set(what.sites)) < run.plan.sites.minimum:
        raise Refused(
            f"{run.run}: a sum over {', '.join(what.sites)}; the plan invites {', '.join(run.plan.sites.invite)}, at least {run.plan.sites.minimum}"
        )
    _require_witnessed(run, what)
    expected = () if run.releases is None else (run.releases.of(what.stage).digest,)
    if what.releases != expected:
        raise Refused(f"{run.run}: {what.stage} is charged as another release than the plan's")
    run.settled[at] = what
    run.survivors |= set(what.sites)


def _require_witnessed(run: RunStory, what: SumSettled) -> None:
    if len(run.witnesses) < run.plan.witnesses:
        raise Refused(
            f"{run.run}: a sum is settled, and {len(run.witnesses)} sites have witnessed the run; the plan asks for {run.plan.witnesses}"
        )
    unaware = sorted(set(what.sites) - run.witnesses)
    if unaware:
        raise Refused(
            f"{run.run}: a sum is settled over {unaware[0]}, which has not signed that it saw the run in this log"
        )


def _is_due(run: RunStory, what: SumSettled) -> bool:
    """Whether the plan has this stage in this round, and the run has come to it."""
    match what.stage:
        case "prepare":
            return what.round == 0 and run.committed == 0
        case "train":
            open_ = [at for at in run.settled if at[:2] == (TRAIN, what.round) and at not in run.voided]
            is_next = run.prepared and what.round == run.committed + 1 <= run.plan.training.rounds
            return is_next and not open_
        case _:
            return run.plan.evaluates(what.round) and what.round <= run.committed


def _prepare(run: RunStory, what: RoundPrepared) -> None:
    if run.committed:
        raise Refused(f"{run.run} is prepared again after round {run.committed}")
    run.require_settled((PREPARE, 0, what.attempt), what.survivors)
    run.prepared, run.scaling = True, what.scaling


def _void(run: RunStory, what: AttemptVoided) -> None:
    if what.round <= run.committed:
        raise Refused(f"{run.run} voids an attempt at round {what.round}, which is committed")
    if (TRAIN, what.round, what.attempt) in run.tripped:
        raise Refused(
            f"{run.run} voids attempt {what.attempt} at round {what.round}, whose sum was opened: it was above the plan's gate"
        )
    run.voided.add((TRAIN, what.round, what.attempt))


def _commit(run: RunStory, what: RoundCommitted) -> None:
    if not run.prepared or what.round != run.committed + 1:
        raise Refused(f"{run.run} commits round {what.round} after round {run.committed}")
    settled = run.require_settled((TRAIN, what.round, what.attempt), what.survivors)
    _require_not_tripped(run, what.round, "commits")
    if settled.statement != what.statement:
        raise Refused(f"{run.run}: round {what.round} is of another statement than was settled")
    strangers = sorted(set(what.roster) - set(run.plan.sites.invite))
    if strangers:
        raise Refused(f"{run.run} asked {strangers[0]}, which its plan does not invite")
    run.committed, run.weights = what.round, what.model
    run.fewest = min(run.fewest or len(what.survivors), len(what.survivors))


def _require_not_tripped(run: RunStory, number: int, does: str) -> None:
    if any(round_ == number for _, round_, _ in run.tripped):
        raise Refused(
            f"{run.run} {does} round {number}, whose sum was above the plan's gate when it was opened"
        )


def _evaluate(run: RunStory, what: RoundEvaluated) -> None:
    at = (EVALUATE, what.round, what.attempt)
    run.require_settled(at, what.survivors)
    if at in run.evaluated:
        raise Refused(f"{run.run}: attempt {what.attempt} at evaluating round {what.round} is told twice")
    if any(number == what.round for _, number, _ in run.evaluated):
        # Noise differs between releases: whoever may choose among them chooses the figures that a gate sees.
        raise Refused(
            f"{run.run}: round {what.round} is evaluated again, and was before attempt {what.attempt}"
        )
    run.evaluated.add(at)
    if what.metrics is not None:
        run.metrics[what.round] = what.metrics
    if what.panels is not None:
        run.alone[what.round] = what.panels


def _end(run: RunStory, what: RunEnded) -> None:
    if what.state == "completed" and not run.is_complete:
        raise Refused(f"{run.run} completed with {run.committed} of {run.plan.training.rounds} rounds")
    if what.state == "completed" and all(number != run.committed for _, number, _ in run.evaluated):
        raise Refused(
            f"{run.run} completed, and round {run.committed}, its last, was not evaluated: no site was asked about the model"
        )
    if what.tripped is not None:
        _trip(run, what, what.tripped)
    run.state = what.state


def _trip(run: RunStory, what: RunEnded, tripped: Tripped) -> None:
    at, gate = (TRAIN, tripped.round, tripped.attempt), run.plan.update_gate
    if gate is None or what.state != "failed":
        raise Refused(
            f"{run.run} is {what.state} by a gate; its plan has {'no' if gate is None else 'a'} gate"
        )
    if tripped.norm is not None and gate.admits(tripped.norm):
        raise Refused(
            f"{run.run} failed by a norm of {tripped.norm:g}, which the plan's gate of {gate.update_norm:g} admits"
        )
    if at not in run.settled or at in run.voided or tripped.round != run.committed + 1:
        raise Refused(
            f"{run.run} failed by attempt {tripped.attempt} at round {tripped.round}, which was not opened, or was committed"
        )
    run.tripped.add(at)
