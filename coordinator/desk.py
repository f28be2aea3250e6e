"""What a person's commands need of a coordinator, wherever it is: one set of views, from its own database or over the control API."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Protocol

from coordinator.governance.halts import HaltView
from coordinator.governance.log import RawEntry
from coordinator.ledger_desk import LedgerDesk
from coordinator.office.comments import Comment
from coordinator.office.plans import ProposedPlan
from coordinator.office.standing import PlanStanding
from coordinator.policy_desk import PolicyDesk
from coordinator.runs import RunView
from protos.approvals import PlanStatement
from protos.halt_lifts import LiftStatement
from protos.halts import HaltOrder
from strategies.ids import RunId
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote


class Desk(Protocol):
    """A coordinator as commands see it. Everything raises `CovenantError`."""

    @property
    def policies(self) -> PolicyDesk:
        """Policy packs, and what they say."""
        ...

    @property
    def ledger(self) -> LedgerDesk:
        """The sites' privacy accounts, and their ceilings."""
        ...

    def runs(self) -> Iterable[RunView]:
        """All runs, the latest first."""
        ...

    def watch(self, run: RunId) -> Iterator[RunView]:
        """Where a run stands, again and again until it is over."""
        ...

    def launch(self, what: ProposedPlan, request_id: str | None = None) -> RunId:
        """Launch a plan with its evidence; the same request again gets the same run."""
        ...

    def launch_proposed(self, plan: str, contract: str, request_id: str | None = None) -> RunId:
        """Launch a plan that was proposed, by digest; the same request again gets the same run."""
        ...

    def stop(self, run: RunId) -> None:
        """Stop a run."""
        ...

    def resume(self, run: RunId) -> None:
        """Go on with a run."""
        ...

    def propose(self, what: ProposedPlan, statement: PlanStatement) -> PlanStanding:
        """Hand in a plan with its author's statement."""
        ...

    def approve(self, statement: PlanStatement) -> PlanStanding:
        """Hand in an approval."""
        ...

    def plan(self, plan: str, contract: str) -> tuple[ProposedPlan, PlanStanding]:
        """A plan that was proposed, by digest."""
        ...

    def plans(self) -> Iterable[PlanStanding]:
        """All plans that were proposed, the latest first."""
        ...

    def comment(self, plan: str, contract: str, text: str) -> Comment:
        """Say something about a plan that was proposed."""
        ...

    def comments(self, plan: str, contract: str) -> Iterable[Comment]:
        """What was said about a plan, the earliest first."""
        ...

    def entries(self, last: int, kind: str | None) -> tuple[int, list[RawEntry]]:
        """The size of the log, and those of its `last` entries that are of `kind`."""
        ...

    def events(self, start: int | None) -> Iterator[RawEntry]:
        """Entries as they are committed, from `start` or from now on, until the caller has enough."""
        ...

    def checkpoint(self) -> tuple[SignedNote, NoteKey]:
        """The log's signed head, and the key it is said to be signed with."""
        ...

    def export(self, file: Path) -> Checkpoint:
        """Write the whole log to a new file; returns its head."""
        ...

    def halts(self) -> Iterable[HaltView]:
        """All halts, the latest first."""
        ...

    def halt(self, halt_id: str) -> HaltView:
        """The halt with this id, or with the one id that begins so."""
        ...

    def give_halt(self, order: HaltOrder) -> HaltView:
        """Hand in an order to halt, which stops what it covers at once."""
        ...

    def say_lift(self, halt_id: str, statement: LiftStatement) -> HaltView:
        """Hand in an officer's word that a halt may be lifted."""
        ...
