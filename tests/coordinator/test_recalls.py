"""Recalls and rollbacks go through whatever became of the version before: approvals that count no more, a package that is refused, a trial beside it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine

from coordinator.deploy.inventory import inventory, recalls, rollouts
from coordinator.deploy.scoring.serving import Opened, PackageRef
from coordinator.documents import read_listed
from coordinator.governance.log import open_log
from coordinator.registry.versions import get_version
from protos.log_deploy import DeployStory
from protos.log_deploy_events import DeployEvent
from protos.log_entries import LogEntry
from protos.model_release import Released
from protos.model_stages import Stage
from protos.rollouts import Canary, Step
from strategies.errors import Refused
from tests.coordinator.deploy_for_tests import Serving, Works
from tests.trust_for_tests import officers


@pytest.fixture
def works(tmp_path: Path, engine: Engine) -> Works:
    return Works.make(tmp_path / "works", engine)


@pytest.fixture
def service(works: Works) -> Iterator[Serving]:
    """A target with a version that serves."""
    with works.serving() as service:
        works.approved(1)
        works.start(1, "branch")
        works.drive("branch")
        yield service


def second(works: Works, step: Step | None = None) -> None:
    """A second version, that serves after the first or is tried beside it."""
    works.approved(2)
    works.start(2, "branch", step)
    works.drive("branch")


def states(works: Works) -> list[tuple[int, str]]:
    return [(each.version, each.state) for each in reversed(rollouts(works.centre.engine))]


def runs(works: Works) -> dict[str, int]:
    return {each.arm: each.version for each in inventory(works.centre.engine)}


def officer_leaves(works: Works) -> None:
    """The next member list is without one of those who approved."""
    before = read_listed(works.centre.settings).trusted.members
    left = tuple(each for each in before.officers if each.name != "risk-1")
    listed = officers().sign(before.model_copy(update={"version": before.version + 1, "officers": left}))
    (works.home / "members.json").write_bytes(listed.canonical)


def audited(works: Works) -> DeployStory:
    """The log as an auditor reads it, but for the run, which these models do not come from."""
    story, trusted = DeployStory(), read_listed(works.centre.settings).trusted

    def find(name: str, version: int) -> Released:
        found = get_version(works.centre.engine, name, version)
        return Released(model=name, version=version, digest=found.digest, artifacts=dict(found.artifacts))

    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    for each in log.entries():
        what = LogEntry.from_canonical(each.body).what
        if isinstance(what, DeployEvent):
            story.take(what, trusted, find)
    return story


def test_the_auditor_believes_a_recall_of_what_serves_beside_a_trial(works: Works, service: Serving) -> None:
    second(works, Canary(0.1))
    works.move(1, Stage.QUARANTINED)
    works.drive("branch")
    assert states(works) == [(1, "recalled"), (2, "rolled_back")]
    assert audited(works).recalls == set()


def test_a_recall_does_not_wait_for_approvals_of_the_version_before(works: Works, service: Serving) -> None:
    second(works)
    officer_leaves(works)
    works.move(2, Stage.QUARANTINED)
    works.drive("branch")
    assert (runs(works), service.opened) == ({}, {})
    assert all(each.confirmed_at for each in recalls(works.centre.engine))
    audited(works)


def test_a_trial_is_taken_back_though_what_serves_cannot_be_released_anew(
    works: Works, service: Serving
) -> None:
    second(works, Canary(0.1))
    officer_leaves(works)
    works.roll_back("branch")
    works.drive("branch")
    assert (runs(works), states(works)) == ({"stable": 1}, [(1, "full"), (2, "rolled_back")])
    assert service.opened.keys() == {"stable"}
    audited(works)


def test_a_recalled_version_does_not_serve_on_because_the_one_before_is_refused(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    second(works)
    opens = service._open

    def refuses(ref: PackageRef) -> Opened:
        found = opens(ref)
        if found.version == 1:
            raise Refused("this service cannot load version 1 any more")
        return found

    monkeypatch.setattr(service, "_open", refuses)
    works.move(2, Stage.QUARANTINED)
    works.drive("branch", times=4)
    assert (runs(works), service.opened) == ({}, {})
    assert all(each.confirmed_at for each in recalls(works.centre.engine))
    audited(works)


def test_what_an_order_between_the_confirmed_and_the_newest_brought_is_recalled(
    works: Works, service: Serving
) -> None:
    """The service may have taken the second version before its rollback was made, though it confirmed neither."""
    works.approved(2)
    works.start(2, "branch")
    works.driver.drive("branch")
    works.roll_back("branch")
    story = audited(works)
    story.take_back("lending-default", 2)
    with pytest.raises(Refused, match="is not recalled from there"):
        story.require_recalled()
    works.move(2, Stage.QUARANTINED)
    audited(works).require_recalled()
    assert [(each.target, each.version) for each in recalls(works.centre.engine)] == [("branch", 2)]
    works.drive("branch")
    assert runs(works) == {"stable": 1}
    assert all(each.confirmed_at is not None for each in recalls(works.centre.engine))
    assert audited(works).recalls == set()
