"""The desk for the loop over the control API: the same views, from another machine."""

from __future__ import annotations

from typing import Any, Final

from coordinator.api.client import ControlClient
from coordinator.api.facts import listed, one
from coordinator.deploy.desk import Facts
from protos import loop_pb2 as wire
from protos.plan import Plan

_SERVICE: Final = "covenant.loop.v1.Loop/"


class RemoteLoopDesk:
    """See `coordinator.deploy.monitoring.retraining.desk.LoopDesk`: over the control API."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def status(self, model: str | None = None) -> Facts:
        """See `LoopDesk.status`."""
        return self._listed("GetStatus", wire.GetStatusRequest(model=model or ""))

    def drafts(self, *, only_open: bool) -> Facts:
        """See `LoopDesk.drafts`."""
        return self._listed("ListDrafts", wire.ListDraftsRequest(open=only_open))

    def draft_facts(self, draft: str) -> dict[str, Any]:
        """See `LoopDesk.draft_facts`."""
        return self._one(self._ask("GetDraft", wire.GetDraftRequest(draft=draft)))

    def advice(self, plan: Plan) -> dict[str, Any]:
        """See `LoopDesk.advice`."""
        return self._one(self._ask("AdvisePlan", wire.AdvisePlanRequest(plan=plan.canonical)))

    def draft(self, model: str) -> str:
        """See `LoopDesk.draft`."""
        answer = self._client.change(
            f"{_SERVICE}DraftRetraining",
            lambda id_: wire.DraftRetrainingRequest(request_id=id_, model=model),
            wire.Drafted,
        )
        return str(answer.draft)

    def adopt(self, draft: str, why: str) -> dict[str, Any]:
        """See `LoopDesk.adopt`."""
        return self._decide("AdoptDraft", draft, why)

    def dismiss(self, draft: str, why: str) -> dict[str, Any]:
        """See `LoopDesk.dismiss`."""
        return self._decide("DismissDraft", draft, why)

    def _decide(self, method: str, draft: str, why: str) -> dict[str, Any]:
        answer = self._client.change(
            f"{_SERVICE}{method}",
            lambda id_: wire.DecideDraftRequest(request_id=id_, draft=draft, why=why),
            wire.LoopFacts,
        )
        return self._one(answer)

    def _ask(self, method: str, request: Any) -> wire.LoopFacts:  # noqa: ANN401  (a message)
        return self._client.ask(f"{_SERVICE}{method}", request, wire.LoopFacts)

    def _one(self, answer: wire.LoopFacts) -> dict[str, Any]:
        return one(answer, self._client.server)

    def _listed(self, method: str, request: Any) -> Facts:  # noqa: ANN401  (a message)
        return listed(self._ask(method, request), self._client.server)
