"""The desk for the loop on the coordinator's own machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from coordinator.bootstrap import Centre
from coordinator.db.engine import reading
from coordinator.deploy.desk import Facts
from coordinator.deploy.monitoring.retraining import views
from coordinator.deploy.monitoring.retraining.advice import advise
from coordinator.deploy.monitoring.retraining.status import loop_status
from coordinator.office import retraining
from coordinator.office.actors import here
from protos.plan import Plan


@dataclass(frozen=True, slots=True)
class LocalLoopDesk:
    """See `coordinator.deploy.monitoring.retraining.desk.LoopDesk`."""

    centre: Centre

    def status(self, model: str | None = None) -> Facts:
        """See `LoopDesk.status`."""
        return loop_status(self.centre.engine, model)

    def drafts(self, *, only_open: bool) -> Facts:
        """See `LoopDesk.drafts`."""
        return views.drafts(self.centre.engine, only_open=only_open)

    def draft_facts(self, draft: str) -> dict[str, Any]:
        """See `LoopDesk.draft_facts`."""
        return views.draft_facts(self.centre.engine, draft)

    def advice(self, plan: Plan) -> dict[str, Any]:
        """See `LoopDesk.advice`."""
        with reading(self.centre.engine, "looking at the history of runs") as session:
            return advise(session, plan).facts()

    def draft(self, model: str) -> str:
        """See `LoopDesk.draft`."""
        return retraining.draft(self.centre, here(), model)

    def adopt(self, draft: str, why: str) -> dict[str, Any]:
        """See `LoopDesk.adopt`."""
        return retraining.adopt(self.centre, here(), draft, why)

    def dismiss(self, draft: str, why: str) -> dict[str, Any]:
        """See `LoopDesk.dismiss`."""
        return retraining.dismiss(self.centre, here(), draft, why)
