"""Policy packs over the control API: the same views, from another machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from coordinator.api.client import ControlClient
from coordinator.api.policy_messages import judged_view, pack_view, said_view, simulated_view
from coordinator.governance.policies.packs import KeptJudgement, KeptPack
from coordinator.governance.policies.rejudge import Effect, Said
from coordinator.office.plans import ProposedPlan
from protos import policy_pb2 as policy
from protos.model_stages import Stage
from protos.policy_pack import PolicyPack, SignedPack

_PAGE: Final = 500
_POLICIES: Final = "covenant.policy.v1.Policies/"


@dataclass(frozen=True, slots=True)
class RemotePolicies:
    """See `coordinator.policy_desk.PolicyDesk`."""

    client: ControlClient

    def publish(self, signed: SignedPack) -> KeptPack:
        """See `PolicyDesk.publish`."""
        return pack_view(
            self.client.change(
                f"{_POLICIES}PublishPack",
                lambda id_: policy.PublishPackRequest(request_id=id_, pack=signed.canonical),
                policy.Pack,
            )
        )

    def packs(self) -> Iterator[KeptPack]:
        """See `PolicyDesk.packs`."""
        for page in self.client.pages(
            f"{_POLICIES}ListPacks",
            lambda token: policy.ListPacksRequest(page_size=_PAGE, page_token=token),
            policy.ListPacksResponse,
        ):
            yield from map(pack_view, page.packs)

    def judgements(self, name: str) -> Iterator[KeptJudgement]:
        """See `PolicyDesk.judgements`."""
        for page in self.client.pages(
            f"{_POLICIES}ListJudgements",
            lambda token: policy.ListJudgementsRequest(pack=name, page_size=_PAGE, page_token=token),
            policy.ListJudgementsResponse,
        ):
            yield from map(judged_view, page.judged)

    def simulate(self, pack: PolicyPack) -> Iterator[Effect]:
        """See `PolicyDesk.simulate`."""
        for page in self.client.pages(
            f"{_POLICIES}SimulatePack",
            lambda token: policy.SimulatePackRequest(pack=pack.canonical, page_size=_PAGE, page_token=token),
            policy.SimulatePackResponse,
        ):
            yield from map(simulated_view, page.judged)

    def judge_plan(self, what: ProposedPlan) -> Sequence[Said]:
        """See `PolicyDesk.judge_plan`."""
        request = policy.JudgePlanRequest(
            plan=what.plan.canonical,
            contract=what.contract.canonical,
            evidence=what.evidence.canonical if what.evidence.statements else b"",
        )
        return self._said("JudgePlan", request)

    def judge_model(self, name: str, version: int, stage: Stage | None) -> Sequence[Said]:
        """See `PolicyDesk.judge_model`."""
        request = policy.JudgeModelRequest(name=name, version=version, stage=stage or "")
        return self._said("JudgeModel", request)

    def _said(
        self, method: str, request: policy.JudgePlanRequest | policy.JudgeModelRequest
    ) -> Sequence[Said]:
        found = self.client.ask(f"{_POLICIES}{method}", request, policy.JudgeResponse)
        return [said_view(each) for each in found.said]
