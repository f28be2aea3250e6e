"""What commands about models need of a coordinator, wherever it is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Protocol

from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion
from protos.gates import Verdict
from protos.model_approvals import ModelStatement
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from protos.personal import PersonalStatement
from strategies.ids import Digest


class ModelDesk(Protocol):
    """A coordinator's registry as commands see it. Everything raises `CovenantError`."""

    def versions(self) -> Iterable[ModelVersion]:
        """All versions of all models."""
        ...

    def standing(self, model: str) -> ModelStanding:
        """How far a version is approved."""
        ...

    def approve(self, statement: ModelStatement) -> ModelStanding:
        """Hand in an officer's approval."""
        ...

    def state(self, note: ModelNote) -> Digest:
        """Hand in what an officer says of a version; the digest under which it was recorded."""
        ...

    def move(self, model: str, to: Stage, why: str) -> ModelVersion:
        """Quarantine or retire a version, or make a quarantined one a candidate again."""
        ...

    def name(self, model: str, alias: str, version: int | None) -> None:
        """Let an alias of a model name a version, or nothing any more."""
        ...

    def trace(
        self, model: str | None, *, plan: str | None, run: str | None, site: str | None
    ) -> dict[str, Any]:
        """What a version comes from, or the versions that came of a plan, a run or a site."""
        ...

    def validate(self, name: str, version: int, why: str) -> tuple[Verdict, Stage]:
        """Have the gate judge a version; its verdict, and the version's stage after it."""
        ...

    def tell_personal(self, statement: PersonalStatement) -> tuple[str, ...]:
        """Hand in a site's word that it personalises a model; the versions that it is about."""
        ...
