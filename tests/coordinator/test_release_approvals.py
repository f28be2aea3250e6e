"""What is released runs no longer than officers have approved it, and runs on once they approve it for longer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from coordinator.db import reading
from coordinator.deploy.accepted import Machine
from coordinator.deploy.effects import release_of
from coordinator.deploy.opening import order_of, package_of
from coordinator.deploy.package import Package, open_package, write_package
from coordinator.documents import read_root
from coordinator.office import deployments
from coordinator.office.actors import here
from protos.log_audit import AuditRefused, audit
from protos.log_deploy_events import Deployed, RolloutStarted, TargetAdded
from protos.log_entries import LogEntry
from protos.model_release import Mode, ModelRelease, Released, sign_release
from protos.model_stages import Stage
from protos.rollouts import RolloutRules, State
from strategies.errors import Refused
from tests.coordinator.conftest import Clock
from tests.coordinator.deploy_for_tests import Works
from tests.coordinator.private_for_tests import Templates, templates
from tests.coordinator.registry_for_tests import GATED, Registry
from tests.coordinator.test_log_export import log_of, pinned_by
from tests.trust_for_tests import key_of

__all__ = ["templates"]
MONTH = timedelta(days=30)


@pytest.fixture
def works(tmp_path: Path, engine: Engine) -> Iterator[Works]:
    """A version that is approved for 30 days, and a target whose releases last for 90."""
    made = Works.make(tmp_path / "works", engine, clock=Clock())
    made.approved(1)
    with made.serving("branch"):
        yield made


def later(works: Works, days: float) -> None:
    clock = works.centre.clock
    assert isinstance(clock, Clock)
    clock.now += timedelta(days=days)


def package(works: Works, revision: int) -> Package:
    found = order_of(works.centre, "branch", revision).stable
    assert found is not None
    return found


def opens(works: Works, found: Package, folder: Path) -> bool:
    """Whether a machine that has seen nothing yet takes it."""
    machine = Machine(read_root(works.centre.settings), "branch", folder / "machine")
    open_package(write_package(folder, found), machine, works.centre.clock())
    return True


def test_a_release_ends_with_the_approvals(works: Works, tmp_path: Path) -> None:
    approved = works.centre.clock()
    works.start(1, "branch")
    ends = package(works, 1).release.expires
    assert timedelta(0) <= approved + MONTH - ends < timedelta(minutes=1)
    assert opens(works, package(works, 1), tmp_path / "a")


def test_nothing_is_released_once_the_approvals_are_over(works: Works) -> None:
    later(works, 31)
    with pytest.raises(Refused, match="nobody has approved this model"):
        works.start(1, "branch")


def test_approved_for_longer_it_is_renewed_for_longer(works: Works, tmp_path: Path) -> None:
    works.start(1, "branch")
    works.drive("branch")
    later(works, 20)
    assert works.agree(1, days=60).stage is Stage.DEPLOYED
    first = package(works, 1)
    assert opens(works, first, tmp_path / "first")  # as it was carried before
    deployments.renew(works.centre, here(), "branch", "it would end")
    renewed = package(works, 2)
    assert renewed.release.expires - first.release.expires > timedelta(days=49)
    later(works, 31)
    assert opens(works, renewed, tmp_path / "renewed")
    with reading(works.centre.engine, "looking") as session:
        release = release_of(session, "branch", 1)
        assert release is not None
        assert package_of(works.centre, session, release).approvals == first.approvals


# --- what an auditor finds ------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(templates: Templates) -> Iterator[Registry]:
    federation = templates.copy(GATED)
    yield Registry.of(federation)
    federation.close()


def released(registry: Registry, mode: Mode, days: float) -> ModelRelease:
    """A release of the registry's version that is good for `days`."""
    version, at = registry.version, registry.federation.clock.wall()
    return sign_release(
        key_of("artifacts"),
        federation=registry.listed.trusted.federation,
        members=registry.listed.membership.digest,
        target="branch",
        sequence=1,
        floor=1,
        mode=mode,
        released=Released(
            model=version.name,
            version=version.version,
            digest=version.digest,
            artifacts=dict(version.artifacts),
        ),
        at=at,
        expires=at + timedelta(days=days),
    )


def test_an_auditor_believes_no_release_that_outlasts_its_approvals(registry: Registry) -> None:
    registry.approved()
    federation = registry.federation
    story = audit((each.body for each in log_of(federation).entries()), pinned_by(federation)).registry
    trusted, at = registry.listed.trusted, federation.clock.wall()
    for mode in ("serve", "trial"):
        story.require_approved([released(registry, mode, 29)], trusted, at)
        with pytest.raises(Refused, match="nothing runs for longer than it was approved"):
            story.require_approved([released(registry, mode, 31)], trusted, at)
        with pytest.raises(Refused, match="nobody has approved this model"):
            story.require_approved([released(registry, mode, 29)], trusted, at + timedelta(days=31))
    story.require_approved([released(registry, "recall", 99)], trusted, at + timedelta(days=31))


def deployed(registry: Registry, days: float) -> list[bytes]:
    """The log with an order of a release that is good for `days`."""
    release, at = released(registry, "serve", days), registry.federation.clock.wall()
    named = release.released
    target = TargetAdded(name="branch", target_kind="local", settings={}, by="engineer-1")
    started = RolloutStarted(
        model=named.model, version=named.version, digest=named.digest, rules=RolloutRules(automatic=False)
    )
    order = Deployed(
        target="branch",
        revision=1,
        rollout="rollout-0123456789abcdef",
        started=started,
        state=State.FULL,
        share=1.0,
        mode="none",
        stable=1,
        releases=(release,),
        why="a test",
        by="engineer-1",
    )
    said = [LogEntry(at=at, what=each).canonical for each in (target, order)]
    return [*(each.body for each in log_of(registry.federation).entries()), *said]


def test_an_auditor_finds_it_in_the_log(registry: Registry) -> None:
    registry.approved()
    pinned = pinned_by(registry.federation)
    assert audit(deployed(registry, 29), pinned).deployments.targets["branch"].orders
    with pytest.raises(AuditRefused, match=r"\(deployed\): release 1 of private@1 for branch is good until"):
        audit(deployed(registry, 31), pinned)
