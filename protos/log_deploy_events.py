"""What happens to targets, as the transparency log tells it: orders, what came of them, and recalls; `log_deploy` judges their order."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from protos.documents import Part
from protos.log_registry_events import By, Why
from protos.log_run_events import Facts
from protos.model_release import ModelRelease, Number
from protos.names import Name, Sha256, matching
from protos.rollouts import RolloutRules, State

RolloutId = Annotated[str, matching(r"rollout-[0-9a-f]{16}", "an id such as rollout-0123456789abcdef")]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Kind = Literal["local", "kserve", "edge"]


class TargetAdded(Part):
    """A place where models may run from now on."""

    kind: Literal["target-added"] = "target-added"
    name: Name
    target_kind: Kind
    settings: Facts
    by: By


class RolloutStarted(Part):
    """What begins with an order: a version's way to a target, by `rules`, after the rollout that served before."""

    model: Name
    version: Number
    digest: Sha256
    rules: RolloutRules
    before: RolloutId | None = None


class Deployed(Part):
    """An order to a target: what it is to run from `revision` on, with the releases that were signed for it.

    `stable`, `challenger` and `recall` are numbers of releases. Once it is confirmed, the rollout is in `state` with `share`.
    """

    kind: Literal["deployed"] = "deployed"
    target: Name
    revision: Number
    rollout: RolloutId
    started: RolloutStarted | None = None
    state: State
    share: Share
    mode: Literal["none", "shadow", "canary"]
    stable: Number | None = None
    challenger: Number | None = None
    recall: Number | None = None
    releases: Annotated[tuple[ModelRelease, ...], Field(max_length=3)] = ()
    why: Why
    by: By


class RolloutMoved(Part):
    """A target has confirmed its order `revision`, and with it the rollout has come to `state`."""

    kind: Literal["rollout-moved"] = "rollout-moved"
    target: Name
    revision: Number
    rollout: RolloutId
    state: State
    share: Share


class RecallOrdered(Part):
    """A version is to run on a target no more."""

    kind: Literal["recalled"] = "recalled"
    target: Name
    model: Name
    version: Number
    why: Why
    by: By

    @property
    def what(self) -> tuple[str, str, int]:
        """Target, model and version."""
        return self.target, self.model, self.version


class RecallConfirmed(Part):
    """The target has confirmed, with its order `revision`, that the version runs there no more."""

    kind: Literal["recall-confirmed"] = "recall-confirmed"
    target: Name
    model: Name
    version: Number
    revision: Number

    @property
    def what(self) -> tuple[str, str, int]:
        """Target, model and version."""
        return self.target, self.model, self.version


DeployEvent = TargetAdded | Deployed | RolloutMoved | RecallOrdered | RecallConfirmed
