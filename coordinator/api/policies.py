"""`Policies` of the policy API."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from coordinator.api.door import Call, Function
from coordinator.api.pages import limit_of, page_of, start_of
from coordinator.api.policy_messages import judged_message, pack_message, said_message, simulated_message
from coordinator.bootstrap import Centre
from coordinator.governance.policies.facts import stage_of
from coordinator.governance.policies.packs import kept_packs, last_judgements
from coordinator.governance.policies.rejudge import Said, judge_now, simulate
from coordinator.office import policies as office
from coordinator.office.plans import ProposedPlan
from protos import policy_pb2 as policy
from protos.approvals import PlanEvidence
from protos.contract import Contract
from protos.documents import make_document
from protos.plan import Plan
from protos.plan_fit import check_contract
from protos.policy_pack import PolicyPack, SignedPack
from protos.policy_verdicts import ModelSubject


class Policies:
    """Answers for policy packs."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            "covenant.policy.v1.Policies/PublishPack": self.publish,
            "covenant.policy.v1.Policies/ListPacks": self.list,
            "covenant.policy.v1.Policies/ListJudgements": self.judgements,
            "covenant.policy.v1.Policies/SimulatePack": self.simulate,
            "covenant.policy.v1.Policies/JudgePlan": self.judge_plan,
            "covenant.policy.v1.Policies/JudgeModel": self.judge_model,
        }

    def publish(self, request: policy.PublishPackRequest, call: Call) -> policy.Pack:
        """Publish a pack."""
        signed = SignedPack.from_canonical(request.pack)
        return pack_message(office.publish(self._centre, call.actor, signed, call.asked))

    def list(self, request: policy.ListPacksRequest, call: Call) -> policy.ListPacksResponse:
        """All versions of all packs."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = kept_packs(self._centre)[start : start + limit + 1]
        packs, token = page_of(start, limit, map(pack_message, found))
        return policy.ListPacksResponse(packs=packs, next_page_token=token)

    def judgements(self, request: policy.ListJudgementsRequest, call: Call) -> policy.ListJudgementsResponse:
        """The last judgement of each subject."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        found = last_judgements(self._centre, request.pack, start, limit + 1)
        judged, token = page_of(start, limit, map(judged_message, found))
        return policy.ListJudgementsResponse(judged=judged, next_page_token=token)

    def simulate(self, request: policy.SimulatePackRequest, call: Call) -> policy.SimulatePackResponse:
        """What a pack would say."""
        del call
        start, limit = start_of(request.page_token), limit_of(request.page_size)
        pack = PolicyPack.from_canonical(request.pack)
        found = simulate(self._centre, pack, start, limit + 1)
        judged, token = page_of(start, limit, map(simulated_message, found))
        return policy.SimulatePackResponse(judged=judged, next_page_token=token)

    def judge_plan(self, request: policy.JudgePlanRequest, call: Call) -> policy.JudgeResponse:
        """What the packs in effect say of a plan."""
        del call
        plan, contract = Plan.from_canonical(request.plan), Contract.from_canonical(request.contract)
        check_contract(plan, contract)
        evidence = PlanEvidence.from_canonical(request.evidence) if request.evidence else PlanEvidence()
        what = ProposedPlan(plan=plan, contract=contract, evidence=evidence)
        return _answer(office.judge_plan(self._centre, what))

    def judge_model(self, request: policy.JudgeModelRequest, call: Call) -> policy.JudgeResponse:
        """What the packs in effect say of a version."""
        del call
        subject = make_document(ModelSubject, "the model", name=request.name, version=request.version)
        return _answer(judge_now(self._centre, subject, stage_of(request.stage)))


def _answer(found: Sequence[Said]) -> policy.JudgeResponse:
    return policy.JudgeResponse(said=map(said_message, found))
