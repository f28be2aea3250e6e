"""`Deployments` of the control API. What is decided is recorded; the coordinator's driver carries it out."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from coordinator.api.door import Call, Function
from coordinator.api.pages import FULL_BYTES
from coordinator.bootstrap import Centre
from coordinator.deploy import inventory
from coordinator.deploy.desk import Facts
from coordinator.deploy.targets.settings import require_within, settings_from
from coordinator.office import deployments as office
from protos import deployments_pb2 as wire
from protos.rollouts import Canary, Full, RolloutRules, Shadow, Step
from strategies.errors import UsageError

_SERVICE: Final = "covenant.deploy.v1.Deployments/"


class Deployments:
    """Answers for deployments."""

    def __init__(self, centre: Centre) -> None:
        self._centre = centre

    def functions(self) -> Mapping[str, Function]:
        """By method."""
        return {
            f"{_SERVICE}AddTarget": self.add_target,
            f"{_SERVICE}StartRollout": self.start,
            f"{_SERVICE}PromoteRollout": self.promote,
            f"{_SERVICE}RollBack": self.roll_back,
            f"{_SERVICE}RenewRelease": self.renew,
            f"{_SERVICE}RecallModel": self.recall,
            f"{_SERVICE}ListTargets": self.targets,
            f"{_SERVICE}ListRollouts": self.rollouts,
            f"{_SERVICE}ListOrders": self.orders,
            f"{_SERVICE}ListRunning": self.running,
            f"{_SERVICE}ListRecalls": self.recalls,
        }

    def add_target(self, request: wire.AddTargetRequest, call: Call) -> wire.Done:
        """Record a target, whose paths lie in the coordinator's folder for targets."""
        settings = settings_from(request.settings)
        require_within(settings, self._centre.settings.targets)
        office.add_target(self._centre, call.actor, request.name, settings, call.asked)
        return wire.Done()

    def start(self, request: wire.StartRolloutRequest, call: Call) -> wire.RolloutStarted:
        """Begin a rollout."""
        step = step_of(request.step, request.share)
        if step is None:
            raise UsageError("step is absent; say shadow, canary or full")
        what = office.Start(
            name=request.model,
            version=request.version,
            target=request.target,
            step=step,
            rules=RolloutRules.from_canonical(request.rules),
            why=request.why,
            seen=_seen(request),
        )
        return wire.RolloutStarted(rollout=office.start(self._centre, call.actor, what, call.asked))

    def promote(self, request: wire.PromoteRolloutRequest, call: Call) -> wire.Done:
        """Let what is on trial go on."""
        step = step_of(request.step, request.share)
        office.promote(
            self._centre, call.actor, request.target, step, request.why, call.asked, _seen(request)
        )
        return wire.Done()

    def roll_back(self, request: wire.RollBackRequest, call: Call) -> wire.Done:
        """Take the newest rollout back."""
        office.roll_back(self._centre, call.actor, request.target, request.why, call.asked, _seen(request))
        return wire.Done()

    def renew(self, request: wire.RenewReleaseRequest, call: Call) -> wire.Done:
        """Release what serves anew."""
        office.renew(self._centre, call.actor, request.target, request.why, call.asked, _seen(request))
        return wire.Done()

    def recall(self, request: wire.RecallModelRequest, call: Call) -> wire.RecallOrdered:
        """Order a version off targets."""
        target = request.target or None
        named = office.recall(
            self._centre, call.actor, request.model, request.version, target, request.why, call.asked
        )
        return wire.RecallOrdered(targets=named)

    def targets(self, request: wire.ListTargetsRequest, call: Call) -> wire.Facts:
        """All targets."""
        del request, call
        return _fitting([each.facts() for each in inventory.targets(self._centre.engine)])

    def rollouts(self, request: wire.ListRolloutsRequest, call: Call) -> wire.Facts:
        """All rollouts."""
        del call
        found = inventory.rollouts(self._centre.engine, request.target or None)
        return _fitting([each.facts() for each in found])

    def orders(self, request: wire.ListOrdersRequest, call: Call) -> wire.Facts:
        """The orders of a target."""
        del call
        return _fitting([each.facts() for each in inventory.orders(self._centre.engine, request.target)])

    def running(self, request: wire.ListRunningRequest, call: Call) -> wire.Facts:
        """What runs where."""
        del call
        found = inventory.inventory(self._centre.engine, past=request.past)
        return _fitting([each.facts() for each in found])

    def recalls(self, request: wire.ListRecallsRequest, call: Call) -> wire.Facts:
        """All recalls."""
        del request, call
        return _fitting([each.facts() for each in inventory.recalls(self._centre.engine)])


def step_of(word: str, share: float) -> Step | None:
    """A step by its word. Raises UsageError."""
    match word:
        case "":
            return None
        case "shadow":
            return Shadow()
        case "full":
            return Full()
        case "canary":
            if not 0.0 < share < 1.0:
                raise UsageError(f"a canary answers a share between 0 and 1 of requests, not {share}")
            return Canary(share)
    raise UsageError(f"{word[:40]!r} is no step; say shadow, canary or full")


def _seen(
    request: wire.StartRolloutRequest
    | wire.PromoteRolloutRequest
    | wire.RollBackRequest
    | wire.RenewReleaseRequest,
) -> int | None:
    return request.seen if request.HasField("seen") else None


def fitting(facts: Facts) -> Facts:
    """As many as fit one message, from the first."""
    kept, size = Facts(), 2
    for each in facts:
        size += len(json.dumps(each)) + 2
        if size > FULL_BYTES:
            break
        kept.append(each)
    return kept


def _fitting(facts: Facts) -> wire.Facts:
    kept = fitting(facts)
    return wire.Facts(facts=json.dumps(kept).encode(), more=len(kept) < len(facts))
