"""Rollouts go as they are ordered and confirmed, and are taken back by live figures; the log's auditor reads the same story."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from coordinator.deploy import driving
from coordinator.deploy.inventory import inventory, orders, recalls, rollouts
from coordinator.deploy.scoring.serving import SCORE_BINS, read_state
from coordinator.deploy.targets.settings import LocalSettings
from coordinator.governance.log import open_log
from coordinator.registry.versions import get_version
from protos.log_entries import LogEntry
from protos.model_stages import Stage
from protos.rollouts import Canary, Full, RolloutRules, Shadow
from strategies.errors import CovenantError, Refused, Unreachable, UsageError
from tests.coordinator.deploy_for_tests import NAME, Serving, Works
from tests.coordinator.gate_for_tests import passed

# Recalls, replays and crashes of deployments are tested beside these all the time.
pytestmark = pytest.mark.slow

AUTOMATIC = RolloutRules(steps=(0.1, 0.5), min_rows=100)


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


def states(works: Works) -> list[tuple[int, str]]:
    """Versions and the states of their rollouts, the first first."""
    return [(each.version, each.state) for each in reversed(rollouts(works.centre.engine))]


def runs(works: Works) -> dict[str, int]:
    return {f"{each.target}/{each.arm}": each.version for each in inventory(works.centre.engine)}


def stage(works: Works, version: int) -> Stage:
    return get_version(works.centre.engine, NAME, version).stage


def champion(works: Works) -> int | None:
    found = [each for each in (1, 2, 3) if exists(works, each) and "champion" in aliases(works, each)]
    return found[0] if found else None


def exists(works: Works, version: int) -> bool:
    try:
        get_version(works.centre.engine, NAME, version)
    except UsageError:
        return False
    return True


def aliases(works: Works, version: int) -> tuple[str, ...]:
    return get_version(works.centre.engine, NAME, version).aliases


def told(works: Works) -> list[Any]:
    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    return [LogEntry.from_canonical(each.body).what for each in log.entries()]


def test_an_approved_version_serves_and_is_the_champion(works: Works, service: Serving) -> None:
    assert states(works) == [(1, "full")]
    assert runs(works) == {"branch/stable": 1}
    assert (stage(works, 1), champion(works)) == (Stage.DEPLOYED, 1)
    assert service.opened["stable"].version == 1


def test_shadow_canary_full(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch", Shadow())
    assert states(works)[-1] == (2, "planned")
    works.drive("branch")
    assert (states(works)[-1], runs(works)) == ((2, "shadow"), {"branch/stable": 1, "branch/challenger": 2})
    works.promote("branch", Canary(0.1))
    works.drive("branch")
    assert states(works)[-1] == (2, "canary")
    assert service.status().share == 0.1
    assert stage(works, 2) is Stage.APPROVED
    works.promote("branch", Full())
    works.drive("branch")
    assert states(works) == [(1, "superseded"), (2, "full")]
    assert (stage(works, 1), stage(works, 2), champion(works)) == (Stage.APPROVED, Stage.DEPLOYED, 2)
    assert runs(works) == {"branch/stable": 2}


def test_a_rollback_brings_back_what_served(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch")
    works.drive("branch")
    works.roll_back("branch")
    works.drive("branch")
    assert states(works) == [(1, "full"), (2, "rolled_back")]
    assert (stage(works, 1), stage(works, 2), champion(works)) == (Stage.DEPLOYED, Stage.APPROVED, 1)
    assert service.opened["stable"].version == 1
    assert "challenger" not in service.opened


def test_a_trial_that_is_taken_back_counts_no_more(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch", Canary(0.2))
    works.drive("branch")
    trial = read_state(service.state)
    works.roll_back("branch")
    works.drive("branch")
    assert states(works) == [(1, "full"), (2, "rolled_back")]
    assert trial is not None
    assert trial.challenger is not None
    with pytest.raises(Refused, match="count no more"):
        service._open(trial.challenger)


def test_nothing_before_means_nothing_to_go_back_to(works: Works, service: Serving) -> None:
    with pytest.raises(Refused, match="nothing served at branch before"):
        works.roll_back("branch")
    assert service.opened["stable"].version == 1


@pytest.mark.parametrize("to", [Stage.CANDIDATE, Stage.VALIDATED, Stage.QUARANTINED, Stage.RETIRED])
def test_only_an_approved_version_is_deployed(works: Works, service: Serving, to: Stage) -> None:
    works.registered(2)
    if to is Stage.VALIDATED:
        passed(works.centre, NAME, 2)
    elif to is not Stage.CANDIDATE:
        works.move(2, to)
    with pytest.raises(Refused, match=f"{NAME}@2 is .*; only an approved version is deployed"):
        works.start(2, "branch")
    assert states(works) == [(1, "full")]


def test_one_rollout_at_a_time(works: Works, service: Serving) -> None:
    works.approved(2), works.approved(3)
    works.start(2, "branch", Shadow())
    with pytest.raises(Refused, match="is under way to branch"):
        works.start(3, "branch")
    with pytest.raises(Refused, match="has not confirmed its order"):
        works.promote("branch")


def test_nothing_is_tried_beside_nothing(works: Works) -> None:
    with works.serving("empty"):
        works.approved(1)
        with pytest.raises(Refused, match="nothing serves at empty"):
            works.start(1, "empty", Canary(0.1))


def test_figures_that_are_well_promote_step_by_step(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch", Shadow(), AUTOMATIC)
    works.drive("branch")
    seen = []
    rows = 0
    for _ in range(3):
        rows += 200
        service.count("stable", rows=rows), service.count("challenger", rows=rows)
        works.drive("branch")
        seen.append((states(works)[-1], service.status().share))
    assert seen == [((2, "canary"), 0.1), ((2, "canary"), 0.5), ((2, "full"), 0.0)]


def test_rows_of_the_step_before_do_not_count(works: Works, service: Serving) -> None:
    works.approved(2)
    service.count("stable", rows=1000)
    works.start(2, "branch", Shadow(), AUTOMATIC)
    works.drive("branch")
    service.count("stable", rows=1200), service.count("challenger", rows=120)
    works.drive("branch")
    assert states(works)[-1] == (2, "canary")
    works.drive("branch")
    assert (states(works)[-1], service.status().share) == ((2, "canary"), 0.1)


SHIFTED = tuple(0 if each < SCORE_BINS // 2 else 40 for each in range(SCORE_BINS))


@pytest.mark.parametrize(
    ("worse", "why"),
    [
        ({"errors": 40}, "10.00% of requests failed"),
        ({"latency_ms": 50.0}, "25.0 times as long"),
        ({"scores": SHIFTED}, "PSI of"),
    ],
)
def test_what_is_worse_is_taken_back(works: Works, service: Serving, worse: dict[str, Any], why: str) -> None:
    works.approved(2)
    works.start(2, "branch", Canary(0.1), AUTOMATIC)
    works.drive("branch")
    service.count("stable", rows=400), service.count("challenger", rows=400, **worse)
    works.drive("branch")
    assert states(works)[-1] == (2, "rolled_back")
    newest = orders(works.centre.engine, "branch")[0]
    assert (newest.by, newest.state) == ("the rollout's rules", "rolled_back")
    assert why in newest.why
    assert service.opened.keys() == {"stable"}


def test_a_challenger_that_fails_every_request_is_taken_back(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch", Canary(0.1), AUTOMATIC)
    works.drive("branch")
    service.count("stable", rows=1000)
    service.counts["challenger"] = 0, 0, 120, 0.0, (0,) * SCORE_BINS
    works.drive("branch")
    assert states(works) == [(1, "full"), (2, "rolled_back")]


def test_a_version_that_the_service_refuses_fails_and_what_served_goes_on(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    works.approved(2)
    works.start(2, "branch", Canary(0.1))
    works.driver.drive("branch")
    state = read_state(service.state)
    assert state is not None
    assert state.challenger is not None
    onnx = Path(state.challenger.package) / "model.onnx"
    onnx.write_bytes(onnx.read_bytes()[:-1] + b"!")
    works.drive("branch", times=3)
    assert states(works) == [(1, "full"), (2, "failed")]
    assert "model.onnx in the package has the digest" in rollouts(works.centre.engine)[0].reason
    assert (service.opened.keys(), service.refused) == ({"stable"}, None)


def test_a_target_that_does_not_answer_is_asked_again(works: Works) -> None:
    with works.serving() as service:
        works.approved(1)
        works.start(1, "branch")
        url = service.url
    with pytest.raises(Unreachable, match="does not answer"):
        works.driver.drive("branch")
    works.driver.drive_all()
    assert states(works) == [(1, "planned")]
    assert url


def test_quarantine_recalls_from_everywhere_and_each_confirms(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch")
    works.drive("branch")
    with works.serving("second") as second:
        works.start(2, "second")
        works.drive("second")
        works.move(2, Stage.QUARANTINED, "its figures are wrong")
        assert [(each.target, each.confirmed_at) for each in recalls(works.centre.engine)] == [
            ("second", None),
            ("branch", None),
        ]
        with pytest.raises(Refused, match="quarantined"):
            works.start(2, "branch")
        works.drive("branch")
        assert [each.confirmed_at is None for each in recalls(works.centre.engine)] == [True, False]
        works.drive("second")
        assert all(each.confirmed_at for each in recalls(works.centre.engine))
        assert runs(works) == {"branch/stable": 1}
        assert second.opened == {}
        assert read_state(second.state).stable is None  # type: ignore[union-attr]
        assert states(works) == [(1, "full"), (2, "recalled"), (2, "recalled")]
        assert stage(works, 2) is Stage.QUARANTINED


def test_a_recall_of_what_serves_ends_the_trial_beside_it(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch", Canary(0.1))
    works.drive("branch")
    works.move(1, Stage.QUARANTINED)
    works.drive("branch")
    assert runs(works) == {}
    assert states(works) == [(1, "recalled"), (2, "rolled_back")]
    assert all(each.confirmed_at for each in recalls(works.centre.engine))


def test_renewing_serves_the_same_for_longer(works: Works, service: Serving) -> None:
    from coordinator.office import deployments
    from coordinator.office.actors import here

    before = service.opened["stable"].expires
    works.agree(1, days=60)
    deployments.renew(works.centre, here(), "branch", "it would end")
    works.drive("branch")
    after = service.opened["stable"].expires
    assert before is not None
    assert after is not None
    assert after > before
    assert (states(works), runs(works)) == ([(1, "full")], {"branch/stable": 1})


def test_two_coordinators_start_one_rollout(works: Works, service: Serving, engine: Engine) -> None:
    works.approved(2), works.approved(3)
    results: list[object] = []
    ready = threading.Barrier(2)

    def one(version: int) -> None:
        ready.wait()
        try:
            results.append(works.start(version, "branch", Shadow()))
        except CovenantError as error:
            results.append(error)

    threads = [threading.Thread(target=one, args=(version,)) for version in (2, 3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    refused = [each for each in results if isinstance(each, CovenantError)]
    assert len(refused) == 1
    assert "under way to branch" in str(refused[0])
    assert [state for _, state in states(works)] == ["full", "planned"]


def test_two_drivers_confirm_once(works: Works, service: Serving) -> None:
    works.approved(2)
    works.start(2, "branch")
    ready, errors = threading.Barrier(2), []

    def one() -> None:
        driver = works.driver
        ready.wait()
        for _ in range(3):
            try:
                driver.drive("branch")
            except CovenantError as error:
                errors.append(error)
            service.look()

    threads = [threading.Thread(target=one) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    works.drive("branch")
    assert errors == []
    assert states(works) == [(1, "superseded"), (2, "full")]
    moved = [each for each in told(works) if each.kind == "rollout-moved" and each.revision == 2]
    assert len(moved) == 2


def test_an_older_order_is_refused_by_the_target(works: Works, service: Serving) -> None:
    from coordinator.deploy.opening import open_target, order_of

    works.approved(2)
    works.start(2, "branch")
    works.drive("branch")
    with pytest.raises(Refused, match="another deployment came first"):
        open_target(works.centre, "branch").give(order_of(works.centre, "branch", 1))


def test_a_target_is_added_once(works: Works) -> None:
    works.add("branch", LocalSettings(state=str(works.home / "s"), url="http://127.0.0.1:1"))
    with pytest.raises(UsageError, match="there is a target branch already"):
        works.add("branch", LocalSettings(state=str(works.home / "s"), url="http://127.0.0.1:1"))


def test_the_auditor_follows_every_deployment(works: Works, service: Serving) -> None:
    """All but the run, which these models do not come from."""
    works.approved(2)
    works.start(2, "branch", Shadow())
    works.drive("branch")
    works.promote("branch")
    works.drive("branch")
    works.move(2, Stage.QUARANTINED)
    works.drive("branch")
    from coordinator.documents import read_listed
    from protos.log_deploy import DeployStory, served
    from protos.model_release import Released

    story = DeployStory()
    trusted = read_listed(works.centre.settings).trusted

    def find(name: str, version: int) -> Released:
        found = get_version(works.centre.engine, name, version)
        return Released(model=name, version=version, digest=found.digest, artifacts=dict(found.artifacts))

    kinds = {"target-added", "deployed", "rollout-moved", "recalled", "recall-confirmed"}
    for each in told(works):
        if each.kind in kinds:
            story.take(each, trusted, find)
    assert served(story, "branch") == get_version(works.centre.engine, NAME, 1).digest
    assert story.recalls == set()


def test_a_new_order_is_driven_when_it_is_seen_and_not_when_it_is_due(
    works: Works, service: Serving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(driving, "_AWAKE_S", 0.0)
    works.approved(2)
    with service.watching(), driving.Driving(works.centre, every_s=1000.0):
        for given in (
            lambda: works.start(2, "branch", Canary(0.1)),
            lambda: works.roll_back("branch"),
            lambda: works.start(2, "branch"),
        ):
            given()
            wanted = orders(works.centre.engine, "branch")[0].revision
            ends = time.monotonic() + 30
            while service.revision < wanted:
                assert time.monotonic() < ends
                time.sleep(0.01)
            works.drive("branch")
