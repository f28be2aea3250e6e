"""A console over a federation that has really run: one private run to its end, one that failed, one that goes on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from coordinator.registry.publish import publish
from coordinator.rounds.driver import Driver
from coordinator.rounds.exchange import Outcome, Unanswered
from coordinator.rounds.progress import KeptProgress
from coordinator.rounds.question import RunDocuments
from coordinator.rounds.store import RoundStore
from coordinator.runs import record
from protos.frames import Stage
from simulation.world.clock import VirtualClock
from strategies.errors import CovenantError
from strategies.ids import RunId, SiteName, run_id
from strategies.secagg.messages import MaskedInput
from tests.coordinator.api_for_tests import PEOPLE, Bank, FakeTransport, _people
from tests.coordinator.console_for_tests import Browser, Pages, pages
from tests.coordinator.private_for_tests import Private, Templates, private_plan
from tests.coordinator.registry_for_tests import Registry
from tests.coordinator.secure_for_tests import CONTRACT, EAST, FOUR, NORTH, RUN, SOUTH, WEST, secure_plan

DONE = RUN
PUBLIC, REFUSED = run_id("run-00000000000000bc"), run_id("run-00000000000000de")
FAILED, GOING = run_id("run-00000000000000fa"), run_id("run-00000000000000ab")
HOSTILE = "<script>alert(1)</script>\"><img src=x onerror=alert(2)>'"
ROUNDS = {
    "rounds: 2": "rounds: 6",
    "every: 2": "every: 6",
    "limit: {epsilon: 20.0": "limit: {epsilon: 50.0",
    "training: 1.5": "training: 6.0",
    "evaluation: 1.0": "evaluation: 4.0",
}


@dataclass
class RecentClock(VirtualClock):
    """Virtual time that began an hour ago, so that what runs in it is over when a browser looks."""

    began: datetime = field(default_factory=lambda: datetime.now(UTC) - timedelta(hours=1))

    def wall(self, skew_s: float = 0.0) -> datetime:
        return self.began + timedelta(seconds=self.now + skew_s)


@dataclass
class Ran:
    """The console, the federation behind it, and what is noted of the run that goes on."""

    pages: Pages
    federation: Private
    going: KeptProgress
    store: RoundStore
    _browsers: dict[str, Browser] = field(default_factory=dict)

    def browser(self, officer: str) -> Browser:
        """The one browser of an officer: signing in too often is refused."""
        if officer not in self._browsers:
            self._browsers[officer] = self.pages.browser(officer)
        return self._browsers[officer]


@contextmanager
def ran(folder: Path) -> Iterator[Ran]:
    """See the module."""
    federation = Templates(folder).copy(private_plan(ROUNDS), clock=RecentClock())
    try:
        _drive(federation, federation.documents)
        public = replace(federation.documents, plan=secure_plan(rounds=8, every=1))
        _drive(federation, _launched(federation, public, REFUSED))
        _admit_all(federation)
        _drive(federation, _launched(federation, public, PUBLIC))
        federation.centre = replace(
            federation.centre, clock=lambda: datetime.now(UTC), transport=FakeTransport()
        )
        Registry(federation).certify(officers=_people(PEOPLE))
        _failed(federation)
        progress, store = _going(federation)
        _by_lines(federation.layout.home / "covenant.yaml")
        bank = Bank(federation.layout.folder, federation.centre, FakeTransport())
        with pages(bank) as served:
            yield Ran(served, federation, progress, store)
    finally:
        federation.close()


def _by_lines(config: Path) -> None:
    """One key a line, so that a section can be added."""
    told = json.loads(config.read_text())
    config.write_text("".join(f"{key}: {json.dumps(value)}\n" for key, value in told.items()))


def progress_of(federation: Private, run: RunId) -> KeptProgress:
    centre = federation.centre
    return KeptProgress(federation.engine, run, CONTRACT.ref, centre.clock, centre.monotonic)


def _drive(federation: Private, documents: RunDocuments) -> None:
    """To the end. Every answer takes a while, and the west's masked input of round 2 is lost."""
    clock, centre, run = federation.clock, federation.centre, documents.run
    seconds = {NORTH: 0.4, EAST: 0.7, SOUTH: 1.2, WEST: 2.0}
    federation.wire.reply_lost = lambda site, ask: (
        site == WEST and ask.number == 2 and bool(ask.said(MaskedInput))
    )
    ledger = federation.ledger if run == DONE else None
    store = RoundStore(federation.engine, federation.artifacts, run, clock.wall, ledger)
    store.start(7)
    progress = Slow(federation.engine, run, CONTRACT.ref, clock.wall, clock.monotonic, federation, seconds)
    driver = Driver(
        documents, federation.wire, store, federation.log, clock.monotonic, clock.sleep, centre.entropy, progress=progress
    )  # fmt: skip
    try:
        publish(centre, documents, driver.drive())
        driver.conclude()
        store.finish("completed")
    except CovenantError as error:
        store.finish("failed", str(error))
    progress.flush()


def _launched(federation: Private, documents: RunDocuments, run: RunId) -> RunDocuments:
    found = replace(documents, run=run)
    record(federation.centre, found)
    return found


def _admit_all(federation: Private) -> None:
    """The sites' people admit the plan without noise as well."""
    for site in FOUR:
        path = federation.layout.site_file(site)
        config = json.loads(path.read_text())
        accept = config["policy"]["accept"][0]
        accept["components"], accept["privacy"]["modes"] = ["tabular/1", "tabular/2"], ["none", "distributed"]
        for rows in config["data"].values():  # an account would be charged for nothing else
            for key in rows.keys() - {"contract", "contract_file", "file"}:
                del rows[key]
        path.write_text(json.dumps(config))
        federation.restart(site)


@dataclass
class Slow(KeptProgress):
    """Answers that take their time."""

    federation: Private
    takes: dict[SiteName, float]

    def heard(self, site: SiteName, outcome: Outcome, trouble: str | None) -> None:
        self.federation.clock.sleep(self.takes[site] / 4)
        super().heard(site, outcome, trouble)


def _recorded(federation: Private, run: RunId) -> RoundStore:
    members = federation.centre.settings.members_file.read_bytes()
    plan = secure_plan(rounds=40, every=5)
    listed = plan.sites.model_copy(update={"members": "demo@2"})
    plan = plan.model_copy(update={"sites": listed})
    record(federation.centre, RunDocuments(run=run, plan=plan, contract=CONTRACT, members=members))
    store = RoundStore(federation.engine, federation.artifacts, run, federation.centre.clock)
    store.start(1)
    return store


def _failed(federation: Private) -> None:
    store = _recorded(federation, FAILED)
    progress = progress_of(federation, FAILED)
    progress.asking(Stage.PREPARE, 0, "keys", dict.fromkeys(FOUR, b"1234"))
    for site in FOUR:
        progress.heard(
            site, Unanswered("did not answer before the deadline"), HOSTILE if site == WEST else None
        )
    progress.flush()
    store.finish("failed", f"too many sites refuse the plan: west refused (policy) {HOSTILE}")


def _going(federation: Private) -> tuple[KeptProgress, RoundStore]:
    """The masked inputs of its first attempt were asked for; two sites have answered."""
    store, progress = _recorded(federation, GOING), progress_of(federation, GOING)
    store.next_attempt(Stage.PREPARE, 0, FOUR)
    frames = progress.asking(Stage.PREPARE, 0, "input", dict.fromkeys(FOUR, b"x" * 25_000))
    for site in FOUR:
        assert frames[site]
    progress.heard(SOUTH, Unanswered("refused (later)"), "refused (later)")
    progress.flush()
    return progress, store
