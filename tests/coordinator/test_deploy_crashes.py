"""A coordinator that is killed between any two statements goes on where it was: nothing is done twice, and nothing is forgotten.

Killed is: the n-th statement to the database, or write of a file, is never made, and what was not committed is gone. Another process takes over.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from coordinator.db import open_database
from coordinator.deploy.inventory import inventory, orders, recalls, rollouts
from coordinator.governance.log import open_log
from coordinator.registry.versions import get_version
from protos import files
from protos.log_entries import LogEntry
from protos.model_stages import Stage
from protos.rollouts import Canary, Full
from tests.coordinator.deploy_for_tests import NAME, Works


class Killed(BaseException):
    """As a process is: nothing of it goes on."""


@dataclass
class Fuse:
    """Kills at the n-th of what is counted; never with None."""

    at: int | None = None
    count: int = 0

    def burn(self, *_: Any, **__: Any) -> None:
        self.count += 1
        if self.count == self.at:
            raise Killed


@contextmanager
def fused(works: Works, fuse: Fuse) -> Iterator[None]:
    """Counts statements, commits and replaced files."""
    engine, replace_file = works.centre.engine, files.replace_file

    def replaced(*arguments: Any, **named: Any) -> None:
        fuse.burn()
        replace_file(*arguments, **named)
        fuse.burn()

    with pytest.MonkeyPatch.context() as patch:
        for module in ("coordinator.deploy.scoring.serving", "coordinator.deploy.accepted"):
            patch.setattr(f"{module}.replace_file", replaced)
        event.listen(engine, "before_cursor_execute", fuse.burn)
        event.listen(engine, "commit", fuse.burn)
        try:
            yield
        finally:
            event.remove(engine, "before_cursor_execute", fuse.burn)
            event.remove(engine, "commit", fuse.burn)


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """The service of thousands of stories answers later than a driver waits, now and then, where other tests share the machine."""
    monkeypatch.setattr("coordinator.deploy.targets.local._TIMEOUT_S", 60.0)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory, migrated_sqlite: Path) -> Path:
    """A coordinator with three approved versions, of which the first serves."""
    folder = tmp_path_factory.mktemp("template")
    shutil.copy(migrated_sqlite, folder / "covenant.db")
    works = Works.make(folder / "works", open_database(f"sqlite:///{folder / 'covenant.db'}"))
    for seed in (1, 2):
        works.approved(seed)
    with works.serving():
        works.start(1, "branch")
        works.drive("branch")
    works.centre.engine.dispose()
    return folder


def canary(works: Works) -> None:
    if not any(each.version == 2 for each in rollouts(works.centre.engine)):
        works.start(2, "branch", Canary(0.1))
    works.drive("branch", times=1)


def promoted(works: Works) -> None:
    canary(works)
    if rollouts(works.centre.engine)[0].state == "canary" and not waits(works):
        works.promote("branch", Full())
    works.drive("branch", times=1)


def rolled_back(works: Works) -> None:
    promoted(works)
    newest = rollouts(works.centre.engine)[0]
    if newest.state == "full" and orders(works.centre.engine, "branch")[0].state != "rolled_back":
        works.roll_back("branch")
    works.drive("branch", times=1)


def quarantined(works: Works) -> None:
    canary(works)
    if get_version(works.centre.engine, NAME, 1).stage is not Stage.QUARANTINED:
        works.move(1, Stage.QUARANTINED)
    works.drive("branch", times=1)


def waits(works: Works) -> bool:
    return orders(works.centre.engine, "branch")[0].confirmed_at is None


STORIES: dict[str, tuple[Callable[[Works], None], list[tuple[int, str]], dict[str, int]]] = {
    "canary": (canary, [(1, "full"), (2, "canary")], {"stable": 1, "challenger": 2}),
    "promoted": (promoted, [(1, "superseded"), (2, "full")], {"stable": 2}),
    "rolled back": (rolled_back, [(1, "full"), (2, "rolled_back")], {"stable": 1}),
    "quarantined": (quarantined, [(1, "recalled"), (2, "rolled_back")], {}),
}


def lived(template: Path, folder: Path, story: Callable[[Works], None], at: int | None) -> tuple[Works, int]:
    """The story with a kill, and then by whoever comes after; what came of it, and how many statements there were until the end or the kill."""
    shutil.copytree(template, folder)
    works = Works.opened(folder / "works", f"sqlite:///{folder / 'covenant.db'}")
    fuse = Fuse(at)
    with works.serving(known=True):
        works.drive("branch")
        with fused(works, fuse):
            try:
                story(works)
            except Killed:
                works.centre.engine.dispose()
        if at is not None:
            works = works.taken_over()
            story(works)
        works.drive("branch")
    return works, fuse.count


def require_whole(works: Works, states: list[tuple[int, str]], running: dict[str, int]) -> None:
    engine = works.centre.engine
    assert [(each.version, each.state) for each in reversed(rollouts(engine))] == states
    assert {each.arm: each.version for each in inventory(engine)} == running
    assert all(each.confirmed_at for each in recalls(engine))
    numbers = [each.revision for each in reversed(orders(engine, "branch"))]
    assert numbers == list(range(1, len(numbers) + 1))
    log = open_log(engine, works.centre.settings, works.centre.clock)
    whats = [LogEntry.from_canonical(each.body).what for each in log.entries()]
    ordered = [each.revision for each in whats if each.kind == "deployed"]
    assert ordered == numbers, "an order without its entry, or an entry without its order"
    moved = [(each.rollout, each.revision) for each in whats if each.kind == "rollout-moved"]
    assert len(moved) == len(set(moved)), "confirmed twice"
    stages = {each: get_version(engine, NAME, each).stage for each in (1, 2)}
    serving = running.get("stable")
    assert [each for each, stage in stages.items() if stage is Stage.DEPLOYED] == (
        [serving] if serving else []
    )


def run_all(template: Path, tmp_path: Path, story: str, points: range) -> None:
    act, states, running = STORIES[story]
    for at in points:
        works, count = lived(template, tmp_path / f"killed-{at}", act, at)
        require_whole(works, states, running)
        works.centre.engine.dispose()
        shutil.rmtree(tmp_path / f"killed-{at}")
        assert count >= at, "it was never killed"


@pytest.mark.parametrize("story", STORIES)
def test_an_undisturbed_story_ends_as_it_should(story: str, template: Path, tmp_path: Path) -> None:
    act, states, running = STORIES[story]
    works, count = lived(template, tmp_path / "whole", act, None)
    require_whole(works, states, running)
    assert count > 30


def test_killed_at_some_statement_a_rollout_ends_the_same(template: Path, tmp_path: Path) -> None:
    act, states, running = STORIES["canary"]
    _, count = lived(template, tmp_path / "whole", act, None)
    run_all(template, tmp_path, "canary", range(3, count, count // 4))
    assert states
    assert running


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("story", STORIES)
def test_killed_between_any_two_statements_a_rollout_ends_the_same(
    story: str, template: Path, tmp_path: Path
) -> None:
    act, _, _ = STORIES[story]
    _, count = lived(template, tmp_path / "whole", act, None)
    run_all(template, tmp_path, story, range(1, count))
