"""What commands about models need of a coordinator, wherever it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion
from protos.model_approvals import ModelStatement
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from strategies.ids import Digest


class ModelDesk(Protocol):
    """A coordinator's registry as commands see it. Everything raises `CovenantError`."""

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


def model_desk_at(home: Path | None, access: Path | None) -> ModelDesk:
    """The registry that `access` opens from another machine, or the one of the coordinator whose folder is `home`."""
    if access is None:
        from coordinator.bootstrap import open_centre
        from coordinator.office.model_desk import LocalModelDesk
        from coordinator.settings import load_settings

        return LocalModelDesk(open_centre(load_settings(home)))
    from coordinator.api.client import ControlClient
    from coordinator.api.model_desk import RemoteModelDesk

    return RemoteModelDesk(ControlClient(access))
