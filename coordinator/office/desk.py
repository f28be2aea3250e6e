"""The desk on the coordinator's own machine: no wire, and whoever has the database."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from coordinator import runs as views
from coordinator.bootstrap import Centre
from coordinator.db.schema import FINAL_STATES
from coordinator.governance import halts as recorded
from coordinator.governance.exports import export_log, newest_witnesses
from coordinator.governance.halts import HaltView
from coordinator.governance.log import RawEntry, TransparencyLog, open_log
from coordinator.office import comments, halts, plans, runs
from coordinator.office.actors import here
from coordinator.office.comments import Comment
from coordinator.office.ledger_desk import LocalLedger
from coordinator.office.plans import ProposedPlan
from coordinator.office.policies import LocalPolicies
from coordinator.office.requests import Asked
from coordinator.office.standing import PlanStanding
from coordinator.runs import RunView
from protos.approvals import PlanStatement
from protos.halt_lifts import LiftStatement
from protos.halts import HaltOrder
from strategies.encoding import digest_of
from strategies.ids import RunId
from strategies.transparency.notes import Checkpoint, NoteKey, SignedNote

_LAUNCH: Final = "launch"
_RUNS_EVERY_S: Final = 0.1
_EVENTS_EVERY_S: Final = 0.2


@dataclass(frozen=True, slots=True)
class LocalDesk:
    """See `coordinator.desk.Desk`."""

    centre: Centre

    @property
    def policies(self) -> LocalPolicies:
        """See `Desk.policies`."""
        return LocalPolicies(self.centre)

    @property
    def ledger(self) -> LocalLedger:
        """See `Desk.ledger`."""
        return LocalLedger(self.centre)

    def runs(self) -> Iterable[RunView]:
        """See `Desk.runs`."""
        return views.views(self.centre.engine)

    def watch(self, run: RunId) -> Iterator[RunView]:
        """See `Desk.watch`."""
        while True:
            now = views.view(self.centre.engine, run)
            yield now
            if now.state in FINAL_STATES:
                return
            time.sleep(_RUNS_EVERY_S)

    def launch(self, what: ProposedPlan, request_id: str | None = None) -> RunId:
        """See `Desk.launch`."""
        asked = None
        if request_id is not None:
            content = digest_of([what.plan.digest, what.contract.digest, what.evidence.digest])
            asked = Asked(id=request_id, officer=here().name, method=_LAUNCH, digest=content)
        return runs.launch(self.centre, here(), what, asked)

    def launch_proposed(self, plan: str, contract: str, request_id: str | None = None) -> RunId:
        """See `Desk.launch_proposed`."""
        return self.launch(plans.find_plan(self.centre, plan, contract), request_id)

    def stop(self, run: RunId) -> None:
        """See `Desk.stop`."""
        runs.stop(self.centre, here(), run)

    def resume(self, run: RunId) -> None:
        """See `Desk.resume`."""
        runs.resume(self.centre, here(), run)

    def propose(self, what: ProposedPlan, statement: PlanStatement) -> PlanStanding:
        """See `Desk.propose`."""
        return plans.propose(self.centre, here(), what.plan, what.contract, statement)

    def approve(self, statement: PlanStatement) -> PlanStanding:
        """See `Desk.approve`."""
        return plans.approve(self.centre, here(), statement)

    def plan(self, plan: str, contract: str) -> tuple[ProposedPlan, PlanStanding]:
        """See `Desk.plan`."""
        found = plans.find_plan(self.centre, plan, contract)
        return found, plans.standing(self.centre, found)

    def plans(self) -> Iterable[PlanStanding]:
        """See `Desk.plans`."""
        return plans.list_plans(self.centre, 0, None)

    def comment(self, plan: str, contract: str, text: str) -> Comment:
        """See `Desk.comment`."""
        return comments.comment(self.centre, here(), plan, contract, text)

    def comments(self, plan: str, contract: str) -> Iterable[Comment]:
        """See `Desk.comments`."""
        return comments.list_comments(self.centre, plan, contract, 0, comments.MOST)

    def entries(self, last: int, kind: str | None) -> tuple[int, list[RawEntry]]:
        """See `Desk.entries`."""
        log = self._log()
        size = log.size()
        return size, list(log.entries(max(0, size - last), kind=kind))

    def events(self, start: int | None) -> Iterator[RawEntry]:
        """See `Desk.events`."""
        log = self._log()
        position = log.size() if start is None else start
        while True:
            for each in log.entries(position):
                yield each
                position = each.seq + 1
            time.sleep(_EVENTS_EVERY_S)

    def checkpoint(self) -> tuple[SignedNote, NoteKey]:
        """See `Desk.checkpoint`."""
        log = self._log()
        return log.checkpoint(), log.key

    def export(self, file: Path) -> Checkpoint:
        """See `Desk.export`."""
        return export_log(
            self._log(), self.centre.settings.config.federation, file, newest_witnesses(self.centre)
        )

    def halts(self) -> Iterable[HaltView]:
        """See `Desk.halts`."""
        return recorded.views(self.centre.engine)

    def halt(self, halt_id: str) -> HaltView:
        """See `Desk.halt`."""
        return recorded.view(self.centre.engine, halt_id)

    def give_halt(self, order: HaltOrder) -> HaltView:
        """See `Desk.give_halt`."""
        return halts.give(self.centre, here(), order)

    def say_lift(self, halt_id: str, statement: LiftStatement) -> HaltView:
        """See `Desk.say_lift`."""
        return halts.say_lift(self.centre, here(), halt_id, statement)

    def _log(self) -> TransparencyLog:
        return open_log(self.centre.engine, self.centre.settings, self.centre.clock)
