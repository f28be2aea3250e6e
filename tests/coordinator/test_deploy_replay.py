"""A log that is replayed into an empty database gives the same targets, releases, orders, rollouts, recalls, and what runs where."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from shutil import copyfile

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from coordinator.db import open_database, writing
from coordinator.deploy.inventory import orders
from coordinator.documents import read_listed, read_root
from coordinator.governance.log import append_again, open_log
from coordinator.governance.policies.packs import publish
from coordinator.governance.replay import Replay
from coordinator.registry.versions import get_version
from protos.log_audit import Audit, AuditRefused
from protos.log_deploy import DeployStory
from protos.log_deploy_events import Deployed, RecallConfirmed, RecallOrdered
from protos.log_entries import LogEntry, ModelRegistered, What
from protos.log_gate import GateJudged
from protos.log_registry_events import ModelMoved
from protos.model_release import ModelRelease, Released
from protos.model_stages import Stage
from protos.rollouts import Canary, Shadow
from strategies.errors import Refused
from tests.coordinator.deploy_for_tests import NAME, Works
from tests.coordinator.gate_for_tests import gated_run
from tests.coordinator.recovery_for_tests import told
from tests.policies_for_tests import pack, rule, signed
from tests.trust_for_tests import key_of

TABLES = (
    "deploy_targets",
    "releases",
    "rollouts",
    "deploy_orders",
    "running",
    "running_events",
    "recalls",
    "models",
    "model_moves",
    "model_aliases",
)
DEPLOYED = {"target-added", "deployed", "rollout-moved", "recalled", "recall-confirmed"}


@pytest.fixture(scope="module")
def works(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Works:
    """One whole life: shadow, canary, full, rolled back, deployed again, quarantined. Nobody changes it."""
    folder = tmp_path_factory.mktemp("life")
    copyfile(migrated_sqlite, folder / "covenant.db")
    works = Works.make(folder / "works", open_database(f"sqlite:///{folder / 'covenant.db'}"))
    with works.serving():
        works.approved(1)
        works.start(1, "branch")
        works.drive("branch")
        works.approved(2)
        works.start(2, "branch", Shadow())
        works.drive("branch")
        for step in (Canary(0.1), None):
            works.promote("branch", step)
            works.drive("branch")
        works.roll_back("branch")
        works.drive("branch")
        works.start(2, "branch")
        works.drive("branch")
        works.move(2, Stage.QUARANTINED)
        works.drive("branch")
    return works


def entries(works: Works) -> list[bytes]:
    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    return [each.body for each in log.entries()]


def test_what_was_deployed_comes_back_with_the_log(works: Works, engine: Engine) -> None:
    before, again = told(works.centre.engine), engine
    with writing(again, "submitting") as session:
        session.add(gated_run())
    with again.begin() as connection, Session(bind=connection, expire_on_commit=False) as session:
        replay = Replay(session, again, read_root(works.centre.settings))
        for seq, body in enumerate(entries(works)):
            append_again(session, [body])
            replay.take(seq, body)
        session.commit()
    after = told(again)
    for table in TABLES:
        assert before[table], table
        assert after[table] == before[table], table


def judged(works: Works, change: Callable[[What], What | None]) -> DeployStory:
    """The story of the deployments, with what an entry is changed to; None leaves it out."""
    story, trusted = DeployStory(), read_listed(works.centre.settings).trusted

    def find(name: str, version: int) -> Released:
        found = get_version(works.centre.engine, name, version)
        return Released(model=name, version=version, digest=found.digest, artifacts=dict(found.artifacts))

    for body in entries(works):
        what = LogEntry.from_canonical(body).what
        if what.kind in DEPLOYED and (kept := change(what)) is not None:
            story.take(kept, trusted, find)  # type: ignore[arg-type]
    return story


def leave_out(kind: str, number: int = 0) -> Callable[[What], What | None]:
    seen = -1

    def change(what: What) -> What | None:
        nonlocal seen
        seen += what.kind == kind
        return None if what.kind == kind and seen == number else what

    return change


def with_release(**changes: object) -> Callable[[What], What | None]:
    def change(what: What) -> What | None:
        if isinstance(what, Deployed) and what.revision == 1:
            changed = what.releases[0].model_copy(update=changes)
            return what.model_copy(update={"releases": (changed,)})
        return what

    return change


def by_somebody_else(what: What) -> What | None:
    if isinstance(what, Deployed) and what.revision == 1:
        release = what.releases[0]
        signature = key_of("somebody").sign("covenant/model-release/v1", release.message)
        facts = {**release.model_dump(), "signature": signature}
        return what.model_copy(update={"releases": (ModelRelease(**facts),)})
    return what


def an_order(revision: int, **changes: object) -> Callable[[What], What | None]:
    def change(what: What) -> What | None:
        mine = isinstance(what, Deployed) and what.revision == revision
        return what.model_copy(update=changes) if mine else what

    return change


def of_another_version(what: What) -> What | None:
    if isinstance(what, Deployed) and what.revision == 2:
        assert what.started is not None
        return what.model_copy(update={"started": what.started.model_copy(update={"version": 1})})
    return what


def confirmed_before(what: What) -> What | None:
    return what.model_copy(update={"revision": 5}) if isinstance(what, RecallConfirmed) else what


def test_the_log_as_it_is_is_believed(works: Works) -> None:
    story = judged(works, lambda what: what)
    assert [each.started.version for each in story.targets["branch"].rollouts.values()] == [1, 2, 2]
    assert story.recalls == set()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (leave_out("target-added"), "was never added"),
        (leave_out("deployed"), "which is not the newest"),
        (leave_out("rollout-moved"), "while .* is under way"),
        (leave_out("recalled"), "was not recalled"),
        (an_order(7, stable=4, releases=()), "being recalled from there"),
        (an_order(6, stable=3, releases=()), "does not run its version so"),
        (an_order(3, challenger=None), "does not run its version so"),
        (of_another_version, "does not run its version so"),
        (confirmed_before, "not the newest and confirmed"),
        (with_release(sequence=2), "not signed by artifacts"),
        (by_somebody_else, "not signed by artifacts"),
    ],
)
def test_a_log_that_was_changed_is_not_believed(
    works: Works, change: Callable[[What], What | None], reason: str
) -> None:
    with pytest.raises(Refused, match=reason):
        judged(works, change)
    assert get_version(works.centre.engine, NAME, 2).stage is Stage.QUARANTINED


# --- what is quarantined is recalled with that


def audited(works: Works, bodies: list[bytes]) -> Audit:
    """What an auditor says of entries, with the versions as they are registered: their run is a row and no more, and told nowhere."""
    story = Audit(read_root(works.centre.settings))
    for seq, body in enumerate(bodies):
        match LogEntry.from_canonical(body).what:
            case ModelRegistered() as model:
                story.models.append(model)
                story.registry.register(model.name, model.version, model.digest)
            case GateJudged() as said:
                story.registry.judge(said.name, said.version, said.verdict.digest, passed=said.verdict.passed)
            case _:
                story.take(seq, body)
    story.require_whole()
    return story


def kinds(bodies: list[bytes]) -> list[str]:
    return [LogEntry.from_canonical(each).what.kind for each in bodies]


def test_a_quarantine_is_followed_by_its_recalls(works: Works) -> None:
    bodies = entries(works)
    story = audited(works, bodies)
    assert story.registry.versions[NAME, 2].stage is Stage.QUARANTINED
    place = kinds(bodies).index("recalled")
    assert isinstance(moved := LogEntry.from_canonical(bodies[place - 1]).what, ModelMoved)
    assert moved.to is Stage.QUARANTINED
    assert not story.deployments.recalls


def test_a_quarantine_without_its_recall_is_not_believed(works: Works) -> None:
    bodies = entries(works)
    place = kinds(bodies).index("recalled")
    words = f"{NAME}@2 was taken back while branch runs it, and is not recalled from there"
    with pytest.raises(AuditRefused, match=f"entry {place} .deployed.: {words}"):
        audited(works, [*bodies[:place], *bodies[place + 1 :]])
    with pytest.raises(AuditRefused, match=words):  # a recall that comes later
        audited(works, [*bodies[:place], bodies[place + 1], bodies[place], *bodies[place + 2 :]])
    with pytest.raises(Refused, match=words):  # a log that ends before it
        audited(works, bodies[:place])
    another = LogEntry.from_canonical(bodies[place])
    assert isinstance(another.what, RecallOrdered)
    changed = another.model_copy(update={"what": another.what.model_copy(update={"version": 1})})
    with pytest.raises(AuditRefused, match=words):
        audited(works, [*bodies[:place], changed.canonical, *bodies[place:]])


def test_every_target_that_runs_it_or_is_about_to_is_recalled_at_once(
    tmp_path: Path, engine: Engine, migrated_sqlite: Path
) -> None:
    works = Works.make(tmp_path / "works", engine)
    with works.serving("branch"), works.serving("centre"), works.serving("spare"), works.serving("twice"):
        works.approved(1)
        for name in ("branch", "centre", "twice"):
            works.start(1, name)
            works.drive(name)
        works.approved(2)
        works.start(2, "branch")  # ordered, and not confirmed
        works.start(2, "centre", Shadow())  # on trial
        works.drive("centre")
        works.start(2, "twice")  # ordered and taken back, and neither is confirmed
        works.roll_back("twice")
        works.move(2, Stage.QUARANTINED)
    bodies = entries(works)
    assert kinds(bodies)[-4:] == ["model-moved", "recalled", "recalled", "recalled"]
    assert {target for target, *_ in audited(works, bodies).deployments.recalls} == {
        "branch",
        "centre",
        "twice",
    }
    for number, target in ((3, "branch"), (2, "centre")):
        with pytest.raises(Refused, match=f"{NAME}@2 was taken back while {target} runs it"):
            audited(works, [each for each in bodies if each != bodies[-number]])


def test_what_serves_is_recalled_beside_one_on_trial_and_the_log_is_believed(
    tmp_path: Path, engine: Engine
) -> None:
    works = Works.make(tmp_path / "works", engine)
    with works.serving():
        works.approved(1)
        works.start(1, "branch")
        works.drive("branch")
        works.approved(2)
        works.start(2, "branch", Shadow())
        works.drive("branch")
        works.move(1, Stage.QUARANTINED)
        with pytest.raises(Refused, match="lending-default@1 is quarantined; only an approved version"):
            works.promote("branch", Canary(0.1))
        works.drive("branch")
    story = judged(works, lambda what: what)
    assert [each.state for each in story.targets["branch"].rollouts.values()] == ["recalled", "rolled_back"]
    assert story.recalls == set()


def test_what_is_retired_while_it_serves_is_recalled(tmp_path: Path, engine: Engine) -> None:
    works = Works.make(tmp_path / "works", engine)
    with works.serving() as service:
        works.approved(1)
        works.start(1, "branch")
        works.drive("branch")
        works.move(1, Stage.RETIRED)
        works.drive("branch")
        assert not service.status().ready
    assert judged(works, lambda what: what).recalls == set()


def test_the_packs_in_effect_are_asked_before_a_version_is_brought_on(tmp_path: Path, engine: Engine) -> None:
    works = Works.make(tmp_path / "works", engine)
    with works.serving():
        works.approved(1)
        listed = read_listed(works.centre.settings)
        what = pack(
            rule(id="not-yet", applies_to="model", expression="model.stage != 'deployed'", remedy="Wait.")
        )
        made = signed(what, works.centre.clock(), federation=listed.trusted.federation)
        publish(works.centre, made, listed)
        with pytest.raises(Refused, match="cannot become deployed: house@1/not-yet"):
            works.start(1, "branch")
        assert orders(works.centre.engine, "branch") == []


def test_an_order_that_goes_back_or_renews_brings_nothing_on(works: Works) -> None:
    story, brought = DeployStory(), []
    trusted = read_listed(works.centre.settings).trusted

    def find(name: str, version: int) -> Released:
        found = get_version(works.centre.engine, name, version)
        return Released(model=name, version=version, digest=found.digest, artifacts=dict(found.artifacts))

    for body in entries(works):
        what = LogEntry.from_canonical(body).what
        if isinstance(what, Deployed) and (started := story.brought_on(what)) is not None:
            brought.append((what.revision, started.version))
        if what.kind in DEPLOYED:
            story.take(what, trusted, find)  # type: ignore[arg-type]
    assert brought == [(1, 1), (2, 2), (3, 2), (4, 2), (6, 2)]


def test_a_version_is_moved_to_deployed_where_it_serves_and_nowhere_else(works: Works) -> None:
    """Who is champion follows from these moves, so nobody makes one of nothing."""
    story = DeployStory()
    moves = [LogEntry.from_canonical(each).what for each in entries(works)]
    trusted = read_listed(works.centre.settings).trusted

    def find(name: str, version: int) -> Released:
        found = get_version(works.centre.engine, name, version)
        return Released(model=name, version=version, digest=found.digest, artifacts=dict(found.artifacts))

    judged_moves = 0
    for what in moves:
        if what.kind in DEPLOYED:
            story.take(what, trusted, find)  # type: ignore[arg-type]
        elif isinstance(what, ModelMoved) and Stage.DEPLOYED in {what.before, what.to}:
            story.require_stage(what)
            judged_moves += 1
            if what.to is not Stage.QUARANTINED:
                turned = what.model_copy(update={"before": what.to, "to": what.before})
                with pytest.raises(Refused, match=r"serves (nowhere|at branch)"):
                    story.require_stage(turned)
    assert judged_moves >= 4
