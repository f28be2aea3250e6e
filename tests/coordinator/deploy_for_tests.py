"""A coordinator with an artifacts service, approved versions of a real model, and a small scoring service that opens packages as the real one does."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from shutil import copyfile
from typing import Any

import numpy as np
from sqlalchemy import Engine

from coordinator.bootstrap import Centre, open_centre
from coordinator.db import open_database, writing
from coordinator.db.deploy_schema import TargetRow
from coordinator.deploy.driver import Driver
from coordinator.deploy.issuing import issuer_of
from coordinator.deploy.scoring.serving import (
    LATENCY_BOUNDS_MS,
    SCORE_BINS,
    STATUS_PATH,
    ArmStatus,
    Opened,
    PackageRef,
    RefusedState,
    ServiceStatus,
    ServingState,
    read_state,
)
from coordinator.deploy.targets.local import opener_of
from coordinator.deploy.targets.settings import LocalSettings, TargetSettings
from coordinator.documents import read_listed, read_root
from coordinator.keys import make_artifact_key, make_key
from coordinator.office import deployments
from coordinator.office.actors import here
from coordinator.registry.approvals import approve, subject_of
from coordinator.registry.export import Exportable, onnx_bytes
from coordinator.registry.signatures import sign_files
from coordinator.registry.stages import move
from coordinator.registry.versions import ModelVersion, register
from coordinator.settings import load_settings
from protos.contract import Contract
from protos.documents import read_document
from protos.keys import SigningKey
from protos.log_made import CONTRACT_FILE, PLAN_FILE
from protos.membership import MemberList, Officer, Role, Service
from protos.model_approvals import approve_model
from protos.model_stages import Stage
from protos.plan import Plan
from protos.rollouts import Full, RolloutRules, Step
from protos.windows import WINDOWS_PATH, Window, Windows
from strategies.errors import CovenantError
from strategies.features import Scaling
from strategies.models import DenseModel
from tests.coordinator.cli_for_tests import membership
from tests.coordinator.conftest import RUN, Clock
from tests.coordinator.gate_for_tests import gated_run, passed
from tests.private_plan_for_tests import CONTRACT, PLAN
from tests.trust_for_tests import FAR, key_of, officers

NAME = "lending-default"
PEOPLE = {"privacy-1": Role.PRIVACY_OFFICER, "risk-1": Role.MODEL_RISK, "author-1": Role.ML_ENGINEER}
MANUAL = RolloutRules(automatic=False)


@cache
def model_files(seed: int) -> dict[str, bytes]:
    """The files of a small model; another one for another `seed`."""
    plan = read_document(PLAN, Plan, "plan")
    contract = read_document(CONTRACT, Contract, "contract")
    features = contract.feature_spec(plan.features)
    model, numbers = DenseModel(inputs=features.width, hidden=()), len(features.numeric)
    source = Exportable(
        features=features,
        scaling=Scaling(mean=(0.5,) * numbers, std=(0.2,) * numbers),
        model=model,
        vector=np.random.default_rng(seed).normal(0.0, 0.6, model.size),
        plan_digest=plan.digest,
        contract=contract.ref,
    )
    return {"model.onnx": onnx_bytes(source), PLAN_FILE: plan.canonical, CONTRACT_FILE: contract.canonical}


def officers_of(home: Path, *, key: SigningKey | None = None) -> MemberList:
    """The list of a federation whose coordinator in `home` has keys for its log and its artifacts."""
    log = make_key(home, "log", None)
    artifacts = make_key(home, "artifacts", None).public_key if key is None else key.public
    services = (
        Service(name="log", purpose="log", key=log.public_key),
        Service(name="artifacts", purpose="artifacts", key=artifacts),
    )
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in PEOPLE.items()
    )
    return MemberList(**{**dict(membership().signed.list), "officers": people, "services": services})


@dataclass
class Works:
    """A coordinator in `home` over `engine`, with what it deploys to."""

    home: Path
    centre: Centre
    services: dict[str, Serving] = field(default_factory=dict)

    @classmethod
    def make(
        cls,
        home: Path,
        engine: Engine,
        migrated: Path | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> Works:
        home.mkdir(parents=True)
        if migrated is not None:
            copyfile(migrated, home / "covenant.db")
        (home / "covenant.yaml").write_text("covenant: coordinator/v1\nfederation: demo\n")
        officers().save(home)
        (home / "members.json").write_bytes(officers().sign(officers_of(home)).canonical)
        settings = load_settings(home)
        centre = replace(open_centre(settings), engine=engine, clock=clock or Clock())
        made = cls(home, centre)
        make_artifact_key(
            home,
            SigningKey.load(settings.release_key_file),
            "artifacts",
            None,
            federation=read_root(settings).root.identity,
            at=centre.clock(),
        )
        with writing(engine, "submitting") as session:
            session.add(gated_run())
        return made

    @classmethod
    def make_at(cls, home: Path, migrated: Path) -> Works:
        """One whose database lies in its home, where commands find it; `migrated` is an empty one."""
        engine = open_database(f"sqlite:///{home / 'covenant.db'}")
        return cls.make(home, engine, migrated, clock=lambda: datetime.now(UTC))

    @classmethod
    def opened(cls, home: Path, url: str) -> Works:
        """A coordinator that was made before, in its home or a copy of it."""
        centre = replace(
            open_centre(load_settings(home)),
            engine=open_database(url),
            clock=Clock(datetime(2026, 11, 24, tzinfo=UTC)),
        )
        return cls(home, centre)

    def taken_over(self) -> Works:
        """The same, by a process that has nothing in memory of the one before."""
        return Works(self.home, replace(self.centre), self.services)

    @property
    def driver(self) -> Driver:
        return Driver(issuer_of(self.centre))

    def registered(self, seed: int, metrics: Mapping[str, Any] | None = None) -> ModelVersion:
        """A candidate, with what its evaluation said."""
        files = model_files(seed)
        return register(
            self.centre.engine,
            self.centre.artifacts,
            name=NAME,
            run_id=RUN,
            files=files,
            signed=sign_files(self.centre.settings, files),
            weights=membership().digest,
            metrics=metrics,
            clock=self.centre.clock,
        )

    def approved(self, seed: int, metrics: Mapping[str, Any] | None = None) -> ModelVersion:
        """A version that officers have approved."""
        return self.approve(self.registered(seed, metrics))

    def approve(self, found: ModelVersion) -> ModelVersion:
        """Have the gate pass a candidate, and the officers approve it."""
        passed(self.centre, NAME, found.version)
        found = self.agree(found.version)
        assert found.stage is Stage.APPROVED
        return found

    def agree(self, version: int, days: float = 30) -> ModelVersion:
        """Both officers approve a version."""
        listed = read_listed(self.centre.settings)
        with writing(self.centre.engine, "looking") as session:
            subject = subject_of(session, NAME, version)
        assert subject is not None
        for name in ("privacy-1", "risk-1"):
            said = approve_model(
                subject,
                name,
                PEOPLE[name],
                key_of(name),
                federation=listed.trusted.federation,
                at=self.centre.clock(),
                expires=self.centre.clock() + timedelta(days=days),
            )
            found = approve(self.centre, said, listed)
        return found

    def move(self, version: int, to: Stage, why: str = "a test") -> None:
        with writing(self.centre.engine, "moving") as session:
            move(session, NAME, version, to, why=why, by="risk-1", at=self.centre.clock())

    def add(self, name: str, settings: TargetSettings) -> None:
        deployments.add_target(self.centre, here(), name, settings)

    def start(self, version: int, target: str, step: Step | None = None, rules: RolloutRules = MANUAL) -> str:
        what = deployments.Start(
            name=NAME, version=version, target=target, step=step or Full(), rules=rules, why="a test"
        )
        return deployments.start(self.centre, here(), what)

    def promote(self, target: str, step: Step | None = None) -> None:
        deployments.promote(self.centre, here(), target, step, "a test")

    def roll_back(self, target: str) -> None:
        deployments.roll_back(self.centre, here(), target, "a test")

    def drive(self, target: str, times: int = 2) -> None:
        """Give, let the service look, confirm."""
        for _ in range(times):
            self.driver.drive(target)
            if target in self.services:
                self.services[target].look()
        self.driver.drive(target)

    @contextmanager
    def serving(self, name: str = "branch", *, known: bool = False) -> Iterator[Serving]:
        """A local target with its scoring service; with `known`, one that was added before, wherever it was then."""
        state = self.home / f"state-{name}"
        state.mkdir(exist_ok=True)
        with serve(self, name, state) as service:
            self.services[name] = service
            settings = LocalSettings(state=str(state), url=service.url)
            if known:
                with writing(self.centre.engine, "moving the target") as session:
                    session.get_one(TargetRow, name).settings = settings.canonical.decode()
            else:
                self.add(name, settings)
            yield service


@dataclass
class Serving:
    """Watches a state folder, opens what it names, and tells its status over HTTP; it scores nothing, and counts what a test says."""

    works: Works
    name: str
    state: Path
    url: str = ""
    revision: int = 0
    in_force: ServingState | None = None
    refused: RefusedState | None = None
    counts: dict[str, tuple[int, int, int, float, tuple[int, ...]]] = field(default_factory=dict)
    started_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    opened: dict[str, Opened] = field(default_factory=dict)
    windows: list[Window] = field(default_factory=list)
    """What it has released, for whoever asks."""
    asked: list[str] = field(default_factory=list)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """It looks by itself."""
        done = threading.Event()

        def watch() -> None:
            while not done.wait(0.01):
                self.look()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def look(self) -> None:
        """Put the newest state in force, or refuse it."""
        wanted = read_state(self.state)
        if wanted is None or wanted.revision == self.revision:
            return
        try:
            arms = {
                arm: self._open(ref)
                for arm, ref in (("stable", wanted.stable), ("challenger", wanted.challenger))
                if ref is not None
            }
        except CovenantError as error:
            self.refused = RefusedState(revision=wanted.revision, why=str(error)[:900])
            return
        for arm, found in arms.items():
            if arm not in self.opened or self.opened[arm].digest != found.digest:
                self.counts.pop(arm, None)
        self.revision, self.in_force, self.opened, self.refused = wanted.revision, wanted, arms, None

    def _open(self, ref: PackageRef) -> Opened:
        pinned, clock = read_root(self.works.centre.settings), self.works.centre.clock
        found = opener_of(self.state, self.name, pinned, clock)(Path(ref.package))
        assert found.digest == ref.digest
        return found

    def count(
        self,
        arm: str,
        *,
        rows: int,
        errors: int = 0,
        latency_ms: float = 2.0,
        scores: tuple[int, ...] | None = None,
    ) -> None:
        """What an arm has done with `rows`, all in all: every row is a request, of which `errors` were not scored."""
        even, scored = tuple(rows // SCORE_BINS for _ in range(SCORE_BINS)), rows - errors
        self.counts[arm] = scored, scored, errors, scored * latency_ms, scores or even

    def status(self) -> ServiceStatus:
        state = self.in_force
        return ServiceStatus(
            started_at=self.started_at,
            revision=self.revision,
            ready="stable" in self.opened,
            mode="none" if state is None else state.mode,
            share=0.0 if state is None else state.share,
            stable=self._arm("stable"),
            challenger=self._arm("challenger"),
            refused=self.refused,
        )

    def told_windows(self, path: str) -> bytes:
        """Two at a time, so that whoever asks has to ask again."""
        self.asked.append(path)
        after = int(path.rpartition("=")[2])
        new = [each for each in self.windows if each.sequence > after]
        last = self.windows[-1].sequence if self.windows else 0
        return Windows(place=self.name, windows=tuple(new[:2]), last=last).canonical

    def _arm(self, arm: str) -> ArmStatus | None:
        opened = self.opened.get(arm)
        if opened is None:
            return None
        requests, rows, errors, latency, scores = self.counts.get(arm, (0, 0, 0, 0.0, (0,) * SCORE_BINS))
        return ArmStatus(
            name=opened.name,
            version=opened.version,
            digest=opened.digest,
            since=self.started_at,
            requests=requests,
            rows=rows,
            declined=0,
            errors=errors,
            latencies=(0,) * (len(LATENCY_BOUNDS_MS) + 1),
            latency_sum_ms=latency,
            scores=scores,
        )


@contextmanager
def serve(works: Works, name: str, state: Path) -> Iterator[Serving]:
    """A service on a free loopback port."""
    service = Serving(works, name, state)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith(WINDOWS_PATH):
                data = service.told_windows(self.path)
            else:
                data = service.status().model_dump_json().encode() if self.path == STATUS_PATH else b"{}"
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    service.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
