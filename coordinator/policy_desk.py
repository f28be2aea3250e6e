"""What a person's commands need of a coordinator's policy packs, wherever it is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from coordinator.governance.policies.packs import KeptJudgement, KeptPack
from coordinator.governance.policies.rejudge import Effect, Said
from coordinator.office.plans import ProposedPlan
from protos.model_stages import Stage
from protos.policy_pack import PolicyPack, SignedPack


class PolicyDesk(Protocol):
    """Policy packs as commands see them. Everything raises `CovenantError`."""

    def publish(self, signed: SignedPack) -> KeptPack:
        """Publish a pack."""
        ...

    def packs(self) -> Iterable[KeptPack]:
        """All published versions, by name and number."""
        ...

    def judgements(self, name: str) -> Iterable[KeptJudgement]:
        """The last judgement of each plan and model by the pack called `name`."""
        ...

    def simulate(self, pack: PolicyPack) -> Iterable[Effect]:
        """What a pack would say, were it in effect now."""
        ...

    def judge_plan(self, what: ProposedPlan) -> Sequence[Said]:
        """What the packs in effect say of a plan."""
        ...

    def judge_model(self, name: str, version: int, stage: Stage | None) -> Sequence[Said]:
        """What the packs in effect say of a version as it is, or as it would be in `stage`."""
        ...
