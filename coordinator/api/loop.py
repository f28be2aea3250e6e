"""`Loop` of the control API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from coordinator.api.deployments import fitting
from coordinator.api.door import Call, Function
from coordinator.bootstrap import Centre
from coordinator.deploy.desk import Facts
from coordinator.office import retraining as office
from coordinator.office.loop_desk import LocalLoopDesk
from protos import loop_pb2 as wire
from protos.plan import Plan

_SERVICE: Final = "covenant.loop.v1.Loop/"


class Loop:
    """Answers for retraining."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre
        self._looks = LocalLoopDesk(centre)

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            f"{_SERVICE}GetStatus": self.status,
            f"{_SERVICE}ListDrafts": self.drafts,
            f"{_SERVICE}GetDraft": self.draft_facts,
            f"{_SERVICE}AdvisePlan": self.advice,
            f"{_SERVICE}DraftRetraining": self.draft,
            f"{_SERVICE}AdoptDraft": self.adopt,
            f"{_SERVICE}DismissDraft": self.dismiss,
        }

    def status(self, request: wire.GetStatusRequest, call: Call) -> wire.LoopFacts:
        """Where models are."""
        del call
        return _listed(self._looks.status(request.model or None))

    def drafts(self, request: wire.ListDraftsRequest, call: Call) -> wire.LoopFacts:
        """Drafts."""
        del call
        return _listed(self._looks.drafts(only_open=request.open))

    def draft_facts(self, request: wire.GetDraftRequest, call: Call) -> wire.LoopFacts:
        """A draft."""
        del call
        return _told(self._looks.draft_facts(request.draft))

    def advice(self, request: wire.AdvisePlanRequest, call: Call) -> wire.LoopFacts:
        """What history advises."""
        del call
        return _told(self._looks.advice(Plan.from_canonical(request.plan)))

    def draft(self, request: wire.DraftRetrainingRequest, call: Call) -> wire.Drafted:
        """Have a plan drafted."""
        return wire.Drafted(draft=office.draft(self._centre, call.actor, request.model, call.asked))

    def adopt(self, request: wire.DecideDraftRequest, call: Call) -> wire.LoopFacts:
        """Take a draft over."""
        return _told(office.adopt(self._centre, call.actor, request.draft, request.why, call.asked))

    def dismiss(self, request: wire.DecideDraftRequest, call: Call) -> wire.LoopFacts:
        """Throw a draft away."""
        return _told(office.dismiss(self._centre, call.actor, request.draft, request.why, call.asked))


def _told(facts: Mapping[str, Any]) -> wire.LoopFacts:
    return wire.LoopFacts(facts=json.dumps(facts).encode())


def _listed(facts: Facts) -> wire.LoopFacts:
    kept = fitting(facts)
    return wire.LoopFacts(facts=json.dumps(kept).encode(), more=len(kept) < len(facts))
