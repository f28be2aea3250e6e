"""The desk for deployments over the control API: the same views, from another machine."""

from __future__ import annotations

from typing import Any, Final

from coordinator.api.client import ControlClient
from coordinator.api.facts import listed
from coordinator.deploy.desk import Facts
from coordinator.deploy.targets.settings import TargetSettings
from protos import deployments_pb2 as wire
from protos.rollouts import Canary, Full, RolloutRules, Shadow, Step

_SERVICE: Final = "covenant.deploy.v1.Deployments/"


class RemoteDeployDesk:
    """See `coordinator.deploy.desk.DeployDesk`: over the control API."""

    def __init__(self, client: ControlClient) -> None:
        self._client = client

    def add_target(self, name: str, settings: TargetSettings) -> None:
        """See `DeployDesk.add_target`."""
        self._client.change(
            f"{_SERVICE}AddTarget",
            lambda id_: wire.AddTargetRequest(request_id=id_, name=name, settings=settings.canonical),
            wire.Done,
        )

    def start(
        self,
        name: str,
        version: int,
        target: str,
        step: Step,
        rules: RolloutRules,
        why: str,
        seen: int | None = None,
    ) -> str:
        """See `DeployDesk.start`."""
        word, share = words_of(step)
        started = self._client.change(
            f"{_SERVICE}StartRollout",
            lambda id_: wire.StartRolloutRequest(
                request_id=id_,
                model=name,
                version=version,
                target=target,
                step=word,
                share=share,
                rules=rules.canonical,
                why=why,
                seen=seen,
            ),
            wire.RolloutStarted,
        )
        rollout: str = started.rollout
        return rollout

    def promote(self, target: str, step: Step | None, why: str, seen: int | None = None) -> None:
        """See `DeployDesk.promote`."""
        word, share = ("", 0.0) if step is None else words_of(step)
        self._client.change(
            f"{_SERVICE}PromoteRollout",
            lambda id_: wire.PromoteRolloutRequest(
                request_id=id_, target=target, step=word, share=share, why=why, seen=seen
            ),
            wire.Done,
        )

    def roll_back(self, target: str, why: str, seen: int | None = None) -> None:
        """See `DeployDesk.roll_back`."""
        self._client.change(
            f"{_SERVICE}RollBack",
            lambda id_: wire.RollBackRequest(request_id=id_, target=target, why=why, seen=seen),
            wire.Done,
        )

    def renew(self, target: str, why: str, seen: int | None = None) -> None:
        """See `DeployDesk.renew`."""
        self._client.change(
            f"{_SERVICE}RenewRelease",
            lambda id_: wire.RenewReleaseRequest(request_id=id_, target=target, why=why, seen=seen),
            wire.Done,
        )

    def recall(self, name: str, version: int, target: str | None, why: str) -> tuple[str, ...]:
        """See `DeployDesk.recall`."""
        found = self._client.change(
            f"{_SERVICE}RecallModel",
            lambda id_: wire.RecallModelRequest(
                request_id=id_, model=name, version=version, target=target or "", why=why
            ),
            wire.RecallOrdered,
        )
        return tuple(found.targets)

    def follow(self, target: str) -> None:
        """See `DeployDesk.follow`: the coordinator's own driver does that."""

    def targets(self) -> Facts:
        """See `DeployDesk.targets`."""
        return self._listed("ListTargets", wire.ListTargetsRequest())

    def rollouts(self, target: str | None) -> Facts:
        """See `DeployDesk.rollouts`."""
        return self._listed("ListRollouts", wire.ListRolloutsRequest(target=target or ""))

    def orders(self, target: str) -> Facts:
        """See `DeployDesk.orders`."""
        return self._listed("ListOrders", wire.ListOrdersRequest(target=target))

    def running(self, *, past: bool) -> Facts:
        """See `DeployDesk.running`."""
        return self._listed("ListRunning", wire.ListRunningRequest(past=past))

    def recalls(self) -> Facts:
        """See `DeployDesk.recalls`."""
        return self._listed("ListRecalls", wire.ListRecallsRequest())

    def _listed(self, method: str, request: Any) -> Facts:  # noqa: ANN401  (a message)
        return listed(self._client.ask(f"{_SERVICE}{method}", request, wire.Facts), self._client.server)


def words_of(step: Step) -> tuple[str, float]:
    """The word and share of a step."""
    match step:
        case Shadow():
            return "shadow", 0.0
        case Canary(share):
            return "canary", share
        case Full():
            return "full", 0.0
