"""`Models` of the control API: versions are listed, judged, approved, moved, named, traced and personalised."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice

from coordinator.api.door import Call, Function
from coordinator.api.messages import model_message, model_version
from coordinator.api.pages import limit_of, page_of, start_of
from coordinator.bootstrap import Centre
from coordinator.office import gate, personal
from coordinator.office import models as office
from coordinator.registry.approvals import ModelStanding
from coordinator.registry.versions import find_version, list_versions
from protos import control_pb2 as control
from protos.membership import Role
from protos.model_approvals import ModelLack, ModelStatement, Subject
from protos.model_notes import ModelNote
from protos.model_stages import Stage
from protos.personal import PersonalStatement
from strategies.errors import UsageError
from strategies.ids import digest


class Models:
    """Answers for models."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.control.v1.Models/ListModels": self.list,
            "covenant.control.v1.Models/GetModel": self.get,
            "covenant.control.v1.Models/ValidateModel": self.validate,
            "covenant.control.v1.Models/GetStanding": self.standing,
            "covenant.control.v1.Models/ApproveModel": self.approve,
            "covenant.control.v1.Models/StateModel": self.state,
            "covenant.control.v1.Models/MoveModel": self.move,
            "covenant.control.v1.Models/NameModel": self.name,
            "covenant.control.v1.Models/GetLineage": self.lineage,
            "covenant.control.v1.Models/TellPersonal": self.tell_personal,
        }

    def list(self, request: control.ListModelsRequest, call: Call) -> control.ListModelsResponse:
        """All versions of all models."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = islice(list_versions(self._centre.engine), start, start + limit + 1)
        models, token = page_of(start, limit, map(model_message, found))
        return control.ListModelsResponse(models=models, next_page_token=token)

    def get(self, request: control.GetModelRequest, call: Call) -> control.Model:
        """One version."""
        del call
        version = f"@{request.version}" if request.version else ""
        return model_message(find_version(self._centre.engine, f"{request.name}{version}"))

    def validate(self, request: control.ValidateModelRequest, call: Call) -> control.ValidateModelResponse:
        """Have a version judged by the gate."""
        verdict, stage = gate.validate(
            self._centre, call.actor, request.name, request.version, request.why, call.asked
        )
        return control.ValidateModelResponse(verdict=verdict.canonical, stage=str(stage))

    def standing(self, request: control.GetStandingRequest, call: Call) -> control.ModelStanding:
        """How far a version is approved."""
        del call
        return standing_message(office.standing(self._centre, request.model))

    def approve(self, request: control.ApproveModelRequest, call: Call) -> control.ModelStanding:
        """Keep an officer's own approval."""
        statement = ModelStatement.from_canonical(request.statement)
        return standing_message(office.approve(self._centre, call.actor, statement, call.asked))

    def state(self, request: control.StateModelRequest, call: Call) -> control.StateModelResponse:
        """Keep what an officer says of a version."""
        note = ModelNote.from_canonical(request.note)
        return control.StateModelResponse(digest=office.state(self._centre, call.actor, note, call.asked))

    def move(self, request: control.MoveModelRequest, call: Call) -> control.Model:
        """Quarantine, retire or take out of quarantine."""
        to = stage_of(request.to)
        return model_message(
            office.move(self._centre, call.actor, request.model, to, request.why, call.asked)
        )

    def name(self, request: control.NameModelRequest, call: Call) -> control.NameModelResponse:
        """Set an alias, or take it away."""
        version = request.version or None
        office.name(self._centre, call.actor, request.name, request.alias, version, call.asked)
        return control.NameModelResponse()

    def lineage(self, request: control.GetLineageRequest, call: Call) -> control.Lineage:
        """What a version comes from, or what came of something."""
        del call
        facts = office.trace(
            self._centre,
            request.model or None,
            plan=request.plan or None,
            run=request.run or None,
            site=request.site or None,
        )
        return control.Lineage(facts=json.dumps(facts))

    def tell_personal(self, request: control.TellPersonalRequest, call: Call) -> control.TellPersonalResponse:
        """Keep a site's word that it personalises a model."""
        statement = PersonalStatement.from_canonical(request.statement)
        found = personal.tell(self._centre, call.actor, statement, call.asked)
        return control.TellPersonalResponse(models=found)


def stage_of(word: str) -> Stage:
    """The stage that `word` names. Raises UsageError."""
    try:
        return Stage(word)
    except ValueError as error:
        raise UsageError(f"{word[:40]!r} is no stage; use one of {', '.join(Stage)}") from error


def standing_message(found: ModelStanding) -> control.ModelStanding:
    """How far a version is approved, as a message."""
    return control.ModelStanding(
        model=model_message(found.version),
        on="" if found.subject is None else found.subject.on,
        author=None if found.subject is None else found.subject.author,
        statements=[each.canonical for each in found.statements],
        missing=[
            control.ModelLack(role=each.role, given=each.given, asked=each.asked, could=each.could)
            for each in found.missing
        ],
    )


def standing_read(message: control.ModelStanding) -> ModelStanding:
    """The same, read."""
    version = model_version(message.model)
    subject = None
    if message.on:
        subject = Subject(
            name=version.name,
            version=version.version,
            digest=version.digest,
            on=digest(message.on),
            author=message.author if message.HasField("author") else None,
        )
    return ModelStanding(
        version=version,
        subject=subject,
        statements=tuple(map(ModelStatement.from_canonical, message.statements)),
        missing=tuple(
            ModelLack(role=Role(each.role), given=each.given, asked=each.asked, could=tuple(each.could))
            for each in message.missing
        ),
    )
