"""The registry's desk over the control API. An officer signs what this machine shows, so it must be what was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from coordinator.api.client import ControlClient
from coordinator.api.messages import model_version
from coordinator.api.models import standing_read
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import ModelVersion
from protos import control_pb2 as control
from protos.gates import Verdict
from protos.model_approvals import ModelStatement
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from protos.personal import PersonalStatement
from strategies.encoding import digest_of
from strategies.errors import Refused
from strategies.ids import Digest, digest

_PAGE: Final = 500
_MODELS: Final = "covenant.control.v1.Models/"


@dataclass(frozen=True, slots=True)
class RemoteModelDesk:
    """See `coordinator.model_desk.ModelDesk`."""

    client: ControlClient

    def versions(self) -> Iterable[ModelVersion]:
        """See `ModelDesk.versions`."""
        for page in self.client.pages(
            f"{_MODELS}ListModels",
            lambda token: control.ListModelsRequest(page_size=_PAGE, page_token=token),
            control.ListModelsResponse,
        ):
            yield from map(model_version, page.models)

    def standing(self, model: str) -> ModelStanding:
        """See `ModelDesk.standing`; refuses another version than was asked for, and a digest that is not of the files that are named."""
        found = standing_read(
            self.client.ask(
                f"{_MODELS}GetStanding", control.GetStandingRequest(model=model), control.ModelStanding
            )
        )
        name, _, word = model.partition("@")
        version = found.version
        if version.name != name or (word.isdecimal() and version.version != int(word)):
            raise Refused(
                f"{self.client.server} sent {version.ref} for {model}: it is not what was asked for; sign nothing"
            )
        if digest_of(dict(version.artifacts)) != version.digest:
            raise Refused(
                f"{self.client.server} sent files of {version.ref} that are not those of its digest; sign nothing"
            )
        return found

    def approve(self, statement: ModelStatement) -> ModelStanding:
        """See `ModelDesk.approve`."""
        return standing_read(
            self.client.change(
                f"{_MODELS}ApproveModel",
                lambda id_: control.ApproveModelRequest(request_id=id_, statement=statement.canonical),
                control.ModelStanding,
            )
        )

    def state(self, note: ModelNote) -> Digest:
        """See `ModelDesk.state`."""
        kept = self.client.change(
            f"{_MODELS}StateModel",
            lambda id_: control.StateModelRequest(request_id=id_, note=note.canonical),
            control.StateModelResponse,
        )
        return digest(kept.digest)

    def move(self, model: str, to: Stage, why: str) -> ModelVersion:
        """See `ModelDesk.move`."""
        return model_version(
            self.client.change(
                f"{_MODELS}MoveModel",
                lambda id_: control.MoveModelRequest(request_id=id_, model=model, to=str(to), why=why),
                control.Model,
            )
        )

    def name(self, model: str, alias: str, version: int | None) -> None:
        """See `ModelDesk.name`."""
        self.client.change(
            f"{_MODELS}NameModel",
            lambda id_: control.NameModelRequest(
                request_id=id_, name=model, alias=alias, version=version or 0
            ),
            control.NameModelResponse,
        )

    def trace(
        self, model: str | None, *, plan: str | None, run: str | None, site: str | None
    ) -> dict[str, Any]:
        """See `ModelDesk.trace`."""
        request = control.GetLineageRequest(
            model=model or "", plan=plan or "", run=run or "", site=site or ""
        )
        facts: dict[str, Any] = json.loads(
            self.client.ask(f"{_MODELS}GetLineage", request, control.Lineage).facts
        )
        return facts

    def validate(self, name: str, version: int, why: str) -> tuple[Verdict, Stage]:
        """See `ModelDesk.validate`."""
        done = self.client.change(
            f"{_MODELS}ValidateModel",
            lambda id_: control.ValidateModelRequest(request_id=id_, name=name, version=version, why=why),
            control.ValidateModelResponse,
        )
        return Verdict.from_canonical(done.verdict), Stage(done.stage)

    def tell_personal(self, statement: PersonalStatement) -> tuple[str, ...]:
        """See `ModelDesk.tell_personal`."""
        done = self.client.change(
            f"{_MODELS}TellPersonal",
            lambda id_: control.TellPersonalRequest(request_id=id_, statement=statement.canonical),
            control.TellPersonalResponse,
        )
        return tuple(done.models)
