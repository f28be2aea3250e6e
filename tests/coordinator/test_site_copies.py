"""A coordinator that lost its database gets the log back from a site, whose peers go on witnessing; and where no site has it, a gap leads on."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine

from client.transparency.export import export_copy
from client.transparency.report import report
from coordinator.bootstrap import Centre
from coordinator.db import open_database, reading
from coordinator.governance.log import TransparencyLog, open_log
from coordinator.governance.witnesses import require_no_fork
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import check_backup
from coordinator.recovery.copies import Reach, reach
from coordinator.recovery.restore import apply_gap, restore
from coordinator.registry.artifacts import ArtifactStore
from coordinator.rounds.driver import Driver, Finished
from coordinator.rounds.store import RoundStore
from coordinator.runs import record
from protos.documents import load_document
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap
from protos.log_audit import Audit, audit
from protos.log_export import verify_file
from protos.root import SignedRoot
from protos.site import SiteConfig, load_site
from simulation.world.layout import _signing_key
from strategies.errors import CovenantError
from strategies.ids import RunId, SiteName
from tests.coordinator.secure_for_tests import EAST, RUN, WEST, Secured, secure_plan
from tests.coordinator.sums_for_tests import Make

NEXT = RunId("run-00000000000000aa")


@dataclass
class Loss:
    """A federation whose coordinator was backed up before the second round of its first run, and then lost."""

    federation: Secured
    folder: Path

    @property
    def pinned(self) -> SignedRoot:
        return load_document(self.federation.centre.settings.root_file, SignedRoot)

    def site(self, site: SiteName) -> SiteConfig:
        return load_site(self.federation.layout.site_file(site))

    def copy_of(self, site: SiteName) -> Path:
        """The site's copy, exported while its agent runs."""
        path = self.folder / f"{site}.jsonl"
        export_copy(self.site(site), path)
        return path

    def note_of(self, site: SiteName) -> Path:
        """The last head that the site has signed."""
        path = self.folder / f"{site}.note"
        path.write_text(report(self.site(site))["note"])
        return path

    def reach(self, *copies: Path, notes: tuple[Path, ...] = ()) -> Reach:
        return reach(check_backup(self.folder / "backups", self.pinned), copies, notes, self.pinned)

    def restore(self, found: Reach, engine: Engine) -> bool:
        """Whether it waits."""
        store = ArtifactStore(self.folder / "artifacts")
        clock = self.federation.clock.wall
        return restore(found, engine, artifacts=store, gap=None, clock=clock, say=lambda _: None).waits

    def gap(self, found: Reach, *, but: SiteName | None = None) -> SignedGap:
        """Signed by the officers; without the head that one site knows, if it is named."""
        lost = [each for each in found.later if but is None or each.source != self.note_of(but)]
        declared = GapDeclared(
            federation="demo",
            kept=GapHead.of(found.head),
            lost=tuple(LostHead.known_by(each.note) for each in lost),
            reason="the disk failed",
            declared=self.federation.clock.wall(),
        )
        signed, source = SignedGap(gap=declared), Random("keys 0")
        for _ in range(2):
            signed = signed.signed_with(_signing_key(source), self.pinned.root)
        return signed

    def log_in(self, engine: Engine) -> TransparencyLog:
        return open_log(engine, self.federation.centre.settings, self.federation.clock.wall)

    def go_on(self, engine: Engine) -> Finished:
        """Another run, at the restored coordinator, with the sites as they are."""
        made, clock = self.federation, self.federation.clock
        facts = {name: getattr(made.centre, name) for name in Centre.__dataclass_fields__}
        documents = replace(made.documents, run=NEXT)
        record(Centre(**{**facts, "engine": engine}), documents)
        store = RoundStore(engine, ArtifactStore(self.folder / "artifacts"), NEXT, clock.wall)
        store.start(1)
        driver = Driver(
            documents, made.wire, store, self.log_in(engine), clock.monotonic, clock.sleep, os.urandom
        )
        done = driver.drive()
        store.finish("completed")
        driver.conclude()
        return done

    def told(self, engine: Engine) -> Audit:
        return audit((each.body for each in self.log_in(engine).entries()), self.pinned)


@pytest.fixture
def loss(make: Make, tmp_path: Path) -> Loss:
    """The last head that the sites know is of their run's end."""
    federation = make(secure_plan(rounds=2))
    made = Loss(federation, tmp_path)

    def back_up(ask: object) -> None:
        if getattr(ask, "number", 0) == 2 and not (tmp_path / "backups").exists():
            store = ArtifactStore(federation.centre.settings.artifacts)
            make_backup(
                federation.centre.settings, federation.log, store, tmp_path / "backups", lambda _: None
            )

    federation.wire.before = back_up
    driver = federation.driver()
    driver.drive()
    federation.store.finish("completed")
    driver.conclude()
    federation.wire.before = lambda _: None
    federation.clock.sleep(60.0)
    return made


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'restored.db'}")
    yield engine
    engine.dispose()


def test_every_site_has_the_whole_log_as_far_as_it_has_witnessed_it(loss: Loss) -> None:
    log = loss.federation.log
    for site in loss.federation.sites:
        found = verify_file(loss.copy_of(site), loss.pinned)
        assert found.head.size == log.size() - 1  # but for the entry that says that it was witnessed
        assert found.story.runs[RUN].state == "completed"


def restored_from_a_copy(loss: Loss, engine: Engine) -> None:
    found = loss.reach(loss.copy_of(EAST), notes=tuple(map(loss.note_of, loss.federation.sites)))
    assert found.later == ()
    assert not loss.restore(found, engine)
    assert loss.go_on(engine).model.size > 0
    log, story = loss.log_in(engine), loss.told(engine)
    assert (story.runs[RUN].state, story.runs[NEXT].state) == ("completed", "completed")
    assert story.witnesses.sizes == dict.fromkeys(loss.federation.sites, log.size() - 1)
    for site in loss.federation.sites:
        facts = report(loss.site(site))
        assert (facts["forks"], facts["gaps"], facts["entries"]) == ([], [], log.size() - 1)
    with reading(engine, "looking") as session:
        require_no_fork(session)


def test_a_database_that_was_set_back_comes_back_from_a_sites_copy_and_all_go_on(
    loss: Loss, empty: Engine
) -> None:
    restored_from_a_copy(loss, empty)


@pytest.mark.slow
@pytest.mark.postgres
def test_on_postgresql_too(loss: Loss, postgres_url: str) -> None:
    engine = open_database(postgres_url)
    try:
        restored_from_a_copy(loss, engine)
    finally:
        engine.dispose()


def test_over_a_gap_that_names_their_heads_all_sites_go_on(loss: Loss, empty: Engine) -> None:
    found = loss.reach(notes=tuple(map(loss.note_of, loss.federation.sites)))
    assert loss.restore(found, empty)
    kept = found.head.size
    apply_gap(loss.log_in(empty), loss.gap(found).verify(loss.pinned))
    loss.go_on(empty)
    log, story = loss.log_in(empty), loss.told(empty)
    assert ([gap.seq for gap in story.gaps.met], story.runs[NEXT].state) == ([kept], "completed")
    for site in loss.federation.sites:
        facts = report(loss.site(site))
        assert (facts["forks"], facts["entries"]) == ([], log.size() - 1)
        assert [each["kept"] for each in facts["gaps"]] == [kept]
        (loss.folder / f"{site}.jsonl").unlink(missing_ok=True)
        assert verify_file(loss.copy_of(site), loss.pinned).head.size == log.size() - 1
    with reading(empty, "looking") as session:
        require_no_fork(session)


@pytest.mark.slow
def test_a_coordinator_that_goes_on_without_what_it_lost_is_found_out(loss: Loss, empty: Engine) -> None:
    """Nobody told it of a later head, so it did not wait."""
    assert not loss.restore(loss.reach(), empty)
    with pytest.raises(
        CovenantError, match=r"its database was set back to an older copy|it was split, or changed"
    ):
        loss.go_on(empty)


@pytest.mark.slow
def test_who_joins_late_is_sent_the_whole_log_in_pieces(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("coordinator.rounds.log_shown.MOST_COPIED", 2)
    federation = make(secure_plan(rounds=2))
    absent: set[SiteName] = {WEST}
    federation.wire.absent = lambda: absent if federation.store.last_committed() is None else ()
    federation.drive()
    sizes = {site: copy_size(federation, site) for site in federation.sites}
    seen = {
        site: report(load_site(federation.layout.site_file(site)))["entries"] for site in federation.sites
    }
    assert sizes[WEST] >= seen[WEST] - 1  # what was logged while it was being sent
    assert sizes[EAST] >= seen[EAST] - 1 > 2


def copy_size(federation: Secured, site: SiteName) -> int:
    copy = federation.wire.participants[site].witness.copy
    assert copy is not None
    return copy.size


def test_a_site_without_a_copy_takes_part_and_is_not_asked_for_ever(make: Make) -> None:
    federation = make(secure_plan(rounds=1))
    federation.wire.participants[EAST].witness.copy = None
    federation.drive()
    assert federation.wire.witnessed == [*federation.sites, EAST]
