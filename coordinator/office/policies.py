"""Policy packs as officers publish them, each request once, and as commands on the coordinator's own machine see them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from coordinator.bootstrap import Centre
from coordinator.documents import read_listed
from coordinator.governance.policies import packs, rejudge
from coordinator.governance.policies.facts import facts_of_plan
from coordinator.governance.policies.packs import KeptJudgement, KeptPack
from coordinator.governance.policies.rejudge import Effect, Said
from coordinator.office.actors import Actor, here
from coordinator.office.plans import ProposedPlan
from coordinator.office.requests import Asked, Remember, once
from protos.model_stages import Stage
from protos.policy_pack import PolicyPack, SignedPack
from protos.policy_verdicts import ModelSubject


def publish(centre: Centre, actor: Actor, signed: SignedPack, asked: Asked | None = None) -> KeptPack:
    """Publish a pack, whoever hands it in: those who signed it decide. Raises `CovenantError`."""
    del actor

    def act(remember: Remember) -> str:
        listed = read_listed(centre.settings)
        packs.publish(centre, signed, listed, first=lambda session: remember(session, ""))
        return ""

    once(centre, asked, centre.clock(), act)
    return packs.find_pack(packs.kept_packs(centre), signed.pack.ref)


def judge_plan(centre: Centre, what: ProposedPlan) -> Sequence[Said]:
    """What the packs in effect say of a plan. Raises `CovenantError`."""
    return rejudge.judge_now(centre, facts_of_plan(what.plan, what.contract, what.evidence))


@dataclass(frozen=True, slots=True)
class LocalPolicies:
    """See `coordinator.policy_desk.PolicyDesk`."""

    centre: Centre

    def publish(self, signed: SignedPack) -> KeptPack:
        """See `PolicyDesk.publish`."""
        return publish(self.centre, here(), signed)

    def packs(self) -> Iterable[KeptPack]:
        """See `PolicyDesk.packs`."""
        return packs.kept_packs(self.centre)

    def judgements(self, name: str) -> Iterable[KeptJudgement]:
        """See `PolicyDesk.judgements`."""
        return packs.last_judgements(self.centre, name)

    def simulate(self, pack: PolicyPack) -> Iterable[Effect]:
        """See `PolicyDesk.simulate`."""
        return rejudge.simulate(self.centre, pack)

    def judge_plan(self, what: ProposedPlan) -> Sequence[Said]:
        """See `PolicyDesk.judge_plan`."""
        return judge_plan(self.centre, what)

    def judge_model(self, name: str, version: int, stage: Stage | None) -> Sequence[Said]:
        """See `PolicyDesk.judge_model`."""
        return rejudge.judge_now(self.centre, ModelSubject(name=name, version=version), stage)
