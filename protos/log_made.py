"""Models as the transparency log tells them when they are registered and released: a version is what its run has made, with those files and no others."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from protos.drift import DriftReference
from protos.log_entries import ModelRegistered
from protos.log_monitor import MonitorAdded
from protos.log_registry import VersionStory
from protos.log_runs import RunStory
from protos.model_release import Released
from protos.model_stages import RELEASABLE
from strategies.analytics.panels import Panels
from strategies.errors import Refused

PLAN_FILE: Final = "plan.json"
CONTRACT_FILE: Final = "contract.json"
"""The artifacts of a model that are the documents of its run."""


def require_made(what: ModelRegistered, run: RunStory, before: Collection[ModelRegistered]) -> None:
    """Check that a version comes from a run with all its rounds, and follows the versions `before` it. Raises Refused."""
    versions = sum(each.name == what.name for each in before)
    documents = (what.artifacts.get(PLAN_FILE), what.artifacts.get(CONTRACT_FILE))
    if (
        not run.is_complete
        or what.name != run.plan.name
        or what.weights != run.weights
        or what.version != versions + 1
        or documents != (run.plan.digest, run.contract)
    ):
        raise Refused(
            f"{what.name}@{what.version} is said to come from {what.run}, which has not made such a model"
        )


def require_reference(what: MonitorAdded, made: ModelRegistered, panels: Panels | None) -> None:
    """Check that a version is watched by what its run's last evaluation, with those `panels`, released. Raises Refused."""
    reference = DriftReference.of_panels(
        panels,
        model=f"{made.name}@{made.version}",
        version_digest=made.digest,
        contract=made.artifacts[CONTRACT_FILE],
    )
    if (what.reference, what.contract) != (reference.digest, reference.contract):
        raise Refused(
            f"{made.name}@{made.version} is watched by reference {what.reference[:12]} of contract {what.contract[:12]}; what {made.run} released comes to"
            f" {reference.digest[:12]} of contract {reference.contract[:12]}"
        )


def released(
    name: str,
    version: int,
    models: Collection[ModelRegistered],
    versions: Mapping[tuple[str, int], VersionStory],
) -> Released:
    """A version as it may be released. Raises Refused where it is not registered or not approved."""
    for each in models:
        if (each.name, each.version) == (name, version):
            stage = versions[name, version].stage
            if stage not in RELEASABLE:
                raise Refused(f"{name}@{version} is released, and is {stage}")
            return Released(model=name, version=version, digest=each.digest, artifacts=dict(each.artifacts))
    raise Refused(f"{name}@{version} is released, and was never registered")
