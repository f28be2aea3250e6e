"""Officers and registrations that come at the same moment, on SQLite and PostgreSQL: each counts once, and nobody waits for ever."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select, text
from sqlalchemy.orm import Session

from coordinator.bootstrap import Centre, open_centre
from coordinator.db import reading, writing
from coordinator.db.log_schema import LoggedEntry
from coordinator.db.schema import Run
from coordinator.deploy.gate import validate
from coordinator.governance.log import append
from coordinator.governance.members import Listed
from coordinator.registry import approvals
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.signatures import Signed
from coordinator.registry.stages import move, move_by_hand, set_alias
from coordinator.registry.versions import ModelVersion, get_version, register
from coordinator.settings import load_settings
from protos.artifact_keys import certify_artifact_key
from protos.gates import PolicyFinding
from protos.keys import create_node_key
from protos.membership import MemberList, Officer, Role, Service
from protos.model_approvals import ModelStatement, approve_model
from protos.model_stages import Stage
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError
from strategies.ids import RunId
from tests.coordinator.cli_for_tests import make_home, membership
from tests.coordinator.conftest import RUN, Clock
from tests.coordinator.gate_for_tests import gated_run, held_back, passed
from tests.trust_for_tests import FAR, key_of, officers

NAME = "lending-default"
PEOPLE = {
    "privacy-1": Role.PRIVACY_OFFICER,
    "privacy-2": Role.PRIVACY_OFFICER,
    "risk-1": Role.MODEL_RISK,
    "risk-2": Role.MODEL_RISK,
}


@pytest.fixture
def listed() -> Listed:
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for name, role in PEOPLE.items()
    )
    services = (Service(name="artifacts", purpose="artifacts", key=key_of("artifacts").public),)
    made = MemberList(**{**dict(membership().signed.list), "officers": people, "services": services})
    return Listed.of(officers().sign(made), officers().pinned)


@pytest.fixture
def centre(engine: Engine, artifacts: ArtifactStore, clock: Clock, tmp_path: Path) -> Centre:
    make_home(tmp_path / "home")
    opened = open_centre(load_settings(tmp_path / "home"))
    opened.engine.dispose()
    return replace(opened, engine=engine, artifacts=artifacts, clock=clock)


@pytest.fixture
def signed(listed: Listed, clock: Clock, tmp_path: Path) -> Signed:
    key = create_node_key(tmp_path / "p256.key")
    federation = listed.trusted.federation
    made = certify_artifact_key(key, "artifacts", key_of("artifacts"), federation=federation, at=clock())
    return Signed(b"a signature", made, listed)


@pytest.fixture
def run(engine: Engine) -> RunId:
    with writing(engine, "submitting") as session:
        session.add(gated_run())
    return RUN


def registered(centre: Centre, run: RunId, signed: Signed, graph: bytes = b"a graph") -> ModelVersion:
    return register(
        centre.engine,
        centre.artifacts,
        name=NAME,
        run_id=run,
        files={"model.onnx": graph},
        weights=sha256_hex(b"weights"),
        metrics=None,
        clock=centre.clock,
        signed=signed,
    )


def said(centre: Centre, listed: Listed, name: str) -> ModelStatement:
    subject = approvals.standing(
        centre.engine, get_version(centre.engine, NAME, 1), listed.trusted, centre.clock()
    ).subject
    assert subject is not None
    at = centre.clock()
    facts = {"federation": listed.trusted.federation, "at": at, "expires": at + timedelta(days=30)}
    return approve_model(subject, name, PEOPLE[name], key_of(name), **facts)


def at_once(*acts: Callable[[], object]) -> list[CovenantError]:
    """Do all of it at the same moment; what was refused."""
    ready, failed = threading.Barrier(len(acts)), []

    def one(act: Callable[[], object]) -> None:
        ready.wait()
        try:
            act()
        except CovenantError as error:
            failed.append(error)

    threads = [threading.Thread(target=one, args=(each,)) for each in acts]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return failed


def kinds(engine: Engine) -> Sequence[str]:
    with reading(engine, "looking") as session:
        return session.scalars(select(LoggedEntry.kind).order_by(LoggedEntry.seq)).all()


def test_four_officers_at_once_approve_once(
    centre: Centre, run: RunId, signed: Signed, listed: Listed, opened: Callable[..., Engine]
) -> None:
    registered(centre, run, signed)
    passed(centre, NAME, 1)
    statements = [said(centre, listed, name) for name in PEOPLE]

    def approving(statement: ModelStatement) -> Callable[[], object]:
        mine = replace(centre, engine=opened())
        return lambda: approvals.approve(mine, statement, listed)

    failed = at_once(*map(approving, statements))
    assert get_version(centre.engine, NAME, 1).stage is Stage.APPROVED
    assert failed == []
    # Whoever came after the last that it took is told too, and moved nothing.
    told = kinds(centre.engine)
    assert told.count("model-approved") == len(PEOPLE)
    assert told.count("model-moved") == 2


def test_nobody_moves_a_version_while_it_is_judged(
    centre: Centre, run: RunId, signed: Signed, opened: Callable[..., Engine]
) -> None:
    found = registered(centre, run, signed)
    mine = replace(centre, engine=opened())
    taking = threading.Thread(
        target=lambda: move_by_hand(mine, found, Stage.QUARANTINED, why="a test", by="risk-1")
    )

    def policies(session: Session, judged: ModelVersion, at: datetime) -> list[PolicyFinding]:
        del session, judged, at
        taking.start()
        taking.join(1.0)
        assert taking.is_alive()
        return []

    assert validate(centre, found, why="a test", by="gate", policies=policies).passed
    taking.join()
    assert get_version(centre.engine, NAME, 1).stage is Stage.QUARANTINED
    assert [each for each in kinds(centre.engine) if each in {"gate", "model-moved"}] == [
        "gate",
        "model-moved",
        "model-moved",
    ]


def test_registrations_moves_and_aliases_at_once_do_not_lock_each_other_out(
    centre: Centre, run: RunId, signed: Signed, opened: Callable[..., Engine]
) -> None:
    registered(centre, run, signed)

    def moving(mine: Centre) -> None:
        for to in (Stage.QUARANTINED, Stage.CANDIDATE) * 3:
            with writing(mine.engine, "moving") as session:
                move(session, NAME, 1, to, why="a test", by="risk-1", at=mine.clock())

    def registering(mine: Centre) -> None:
        for number in range(4):
            registered(mine, run, signed, f"graph {number}".encode())

    def naming(mine: Centre) -> None:
        for number in range(4):
            set_alias(mine, NAME, f"next-{number}", 1, by="author-1")

    centres = [replace(centre, engine=opened()) for _ in range(3)]
    failed = at_once(lambda: moving(centres[0]), lambda: registering(centres[1]), lambda: naming(centres[2]))
    # An alias for a version that is in quarantine at that moment is refused, and nothing else is.
    assert all("is quarantined, and such a version has no alias" in str(each) for each in failed)
    assert get_version(centre.engine, NAME, 5).stage is Stage.CANDIDATE
    assert kinds(centre.engine).count("model-moved") == 6


def test_a_verdict_that_fails_at_the_same_moment_leaves_the_log_in_one_order(
    centre: Centre, run: RunId, signed: Signed, opened: Callable[..., Engine]
) -> None:
    registered(centre, run, signed)
    centres = [replace(centre, engine=opened()) for _ in range(2)]
    failed = at_once(lambda: passed(centres[0], NAME, 1), lambda: held_back(centres[1], NAME, 1))
    assert failed == []
    assert get_version(centre.engine, NAME, 1).stage is Stage.VALIDATED
    told = kinds(centre.engine)
    assert [each for each in told if each in {"gate", "model-moved"}] in (
        ["gate", "model-moved", "gate"],
        ["gate", "gate", "model-moved"],
    )


def test_a_run_that_is_stopped_and_its_registration_do_not_lock_each_other_out(
    centre: Centre, run: RunId, signed: Signed, opened: Callable[..., Engine]
) -> None:
    if centre.engine.dialect.name != "postgresql":
        pytest.skip("SQLite's writers take turns")
    registering = threading.Thread(target=registered, args=(replace(centre, engine=opened()), run, signed))
    with writing(centre.engine, "stopping") as session:
        session.get_one(Run, run, with_for_update=True)
        registering.start()
        waits = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
        while not session.scalar(waits):
            time.sleep(0.02)
        append(session, centre.clock(), ())
    registering.join()
    assert get_version(centre.engine, NAME, 1).stage is Stage.CANDIDATE
