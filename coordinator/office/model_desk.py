"""The registry's desk on the coordinator's own machine."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from coordinator.bootstrap import Centre
from coordinator.office import gate, models, personal
from coordinator.office.actors import here
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion, list_versions
from protos.gates import Verdict
from protos.model_approvals import ModelStatement
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from protos.personal import PersonalStatement
from strategies.ids import Digest


@dataclass(frozen=True, slots=True)
class LocalModelDesk:
    """See `coordinator.model_desk.ModelDesk`."""

    centre: Centre

    def versions(self) -> Iterable[ModelVersion]:
        """See `ModelDesk.versions`."""
        return list_versions(self.centre.engine)

    def standing(self, model: str) -> ModelStanding:
        """See `ModelDesk.standing`."""
        return models.standing(self.centre, model)

    def approve(self, statement: ModelStatement) -> ModelStanding:
        """See `ModelDesk.approve`."""
        return models.approve(self.centre, here(), statement)

    def state(self, note: ModelNote) -> Digest:
        """See `ModelDesk.state`."""
        return models.state(self.centre, here(), note)

    def move(self, model: str, to: Stage, why: str) -> ModelVersion:
        """See `ModelDesk.move`."""
        return models.move(self.centre, here(), model, to, why)

    def name(self, model: str, alias: str, version: int | None) -> None:
        """See `ModelDesk.name`."""
        models.name(self.centre, here(), model, alias, version)

    def trace(
        self, model: str | None, *, plan: str | None, run: str | None, site: str | None
    ) -> dict[str, Any]:
        """See `ModelDesk.trace`."""
        return models.trace(self.centre, model, plan=plan, run=run, site=site)

    def validate(self, name: str, version: int, why: str) -> tuple[Verdict, Stage]:
        """See `ModelDesk.validate`."""
        return gate.validate(self.centre, here(), name, version, why)

    def tell_personal(self, statement: PersonalStatement) -> tuple[str, ...]:
        """See `ModelDesk.tell_personal`."""
        return personal.tell(self.centre, here(), statement)
