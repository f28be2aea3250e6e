"""What the tests of backup and restore share: a federation that was backed up and went on, replaying a whole log, and the tables compared by what it says."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from coordinator.db import migrate, open_database, reading
from coordinator.db.deploy_schema import (
    OrderRow,
    RecallRow,
    ReleaseRow,
    RolloutRow,
    RunningEvent,
    RunningRow,
    TargetRow,
)
from coordinator.db.evidence_schema import ModelNoteRow
from coordinator.db.gate_schema import ModelVerdict
from coordinator.db.halt_schema import HaltRow
from coordinator.db.ledger_schema import LedgerAccount, LedgerAlert, LedgerCeiling, LedgerEntry, LedgerRelease
from coordinator.db.log_schema import LoggedEntry, LoggedSubject
from coordinator.db.loop_schema import DraftRow
from coordinator.db.monitor_schema import AlarmRow, MonitorRow
from coordinator.db.policy_schema import PolicyJudgementRow, PolicyPackRow
from coordinator.db.recovery_schema import AdoptedCharge, AdoptedSite
from coordinator.db.registry_schema import ModelAlias, ModelMove, ModelStatementRow
from coordinator.db.schema import Attempt, Model, Round, Run
from coordinator.db.witness_schema import WitnessRow
from coordinator.governance.exports import export_log
from coordinator.governance.log import TransparencyLog, append_again
from coordinator.governance.replay import Replay
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import check_backup
from coordinator.recovery.copies import Reach, reach
from coordinator.recovery.restore import Restored, restore
from coordinator.recovery.rows import line_of, read_rows, tables_of
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.publish import publish
from protos.documents import load_document
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap, SoundGap
from protos.root import SignedRoot
from simulation.world.layout import _signing_key
from strategies.encoding import canonical_json
from tests.coordinator.private_for_tests import Private, Templates, private_plan
from tests.coordinator.test_log_export import log_of

OTHER = "run-" + "ab" * 8
UNTOLD: dict[Any, set[str]] = {
    # Times are of another look at the clock, and transport, durations and secrets are in no log.
    Run: {"flower_run_id", "idle_starts", "scaling", "submitted_at", "started_at", "finished_at"},
    Round: {"testimony", "opening", "exchange_s", "seconds", "opened_at", "closed_at", "roster"},
    Attempt: {"roster", "opening", "asked_at"},
    Model: {"created_at"},
    ModelMove: set(),
    ModelAlias: set(),
    ModelStatementRow: set(),
    ModelVerdict: set(),
    TargetRow: set(),
    ReleaseRow: set(),
    RolloutRow: set(),
    # Why a target refused, and what a service had counted, are of the target.
    OrderRow: {"refused", "baseline"},
    RunningRow: set(),
    RunningEvent: {"id"},
    RecallRow: {"id"},
    # Windows come again from where they were released.
    MonitorRow: set(),
    AlarmRow: set(),
    DraftRow: set(),
    ModelNoteRow: set(),
    LedgerAccount: {"id", "opened_at"},
    LedgerCeiling: {"set_at"},
    LedgerRelease: set(),
    LedgerEntry: {"id", "at"},
    LedgerAlert: {"crossed_at"},
    AdoptedCharge: {"id", "at"},
    AdoptedSite: {"at"},
    LoggedEntry: set(),
    LoggedSubject: set(),
    HaltRow: set(),
    PolicyPackRow: set(),
    PolicyJudgementRow: {"id"},
    WitnessRow: {"id", "view", "received_at"},
}


def told(engine: Engine) -> dict[str, list[Any]]:
    """All that a log tells of the tables, in an order that does not depend on ids."""
    with reading(engine, "looking") as session:
        accounts = {row.id: f"{row.site}/{row.population}" for row in session.scalars(select(LedgerAccount))}
        return {
            model.__tablename__: sorted(
                (_facts(row, untold, accounts) for row in session.scalars(select(model)) if _is_told(row)),
                key=repr,
            )
            for model, untold in UNTOLD.items()
        }


def _is_told(row: Any) -> bool:
    """Attempts that nobody's answer was ever opened of are in no log, nor are rounds before anything became of them."""
    if isinstance(row, Attempt):
        return row.survivors is not None
    if isinstance(row, Round):
        return row.survivors is not None or row.reason is not None
    return True


def _facts(row: Any, untold: set[str], accounts: dict[int, str]) -> dict[str, Any]:
    # Some attributes are called otherwise than their columns.
    facts = {
        each.key: getattr(row, each.key) for each in row.__mapper__.column_attrs if each.key not in untold
    }
    if "account_id" in facts:
        facts["account_id"] = accounts[facts["account_id"]]
    for name in ("metrics", "panels"):
        if facts.get(name) is not None:
            facts[name] = canonical_json(facts[name])
    return facts


def replayed(engine: Engine, bodies: Iterable[bytes], pinned: SignedRoot) -> None:
    """Replay a whole log into the empty database of `engine`."""
    migrate(engine)
    with engine.begin() as connection, Session(bind=connection, expire_on_commit=False) as session:
        replay = Replay(session, engine, pinned)
        for seq, body in enumerate(bodies):
            append_again(session, [body])
            replay.take(seq, body)
        session.commit()


@dataclass
class Life:
    """A federation that was backed up before its run's second round; `early` is a copy of the log from then, `copy` one from the end."""

    federation: Private
    folder: Path
    early: Path
    copy: Path

    @property
    def log(self) -> TransparencyLog:
        return log_of(self.federation)

    @property
    def pinned(self) -> SignedRoot:
        return load_document(self.federation.centre.settings.root_file, SignedRoot)

    @property
    def backups(self) -> Path:
        return self.folder / "backups"

    def back_up(self) -> None:
        make_backup(self.federation.centre.settings, self.log, self.federation.artifacts, self.backups, quiet)

    def reach(self, *copies: Path, notes: tuple[Path, ...] = ()) -> Reach:
        return reach(check_backup(self.backups, self.pinned), copies, notes, self.pinned)

    def note(self, name: str = "head.note") -> Path:
        path = self.folder / name
        path.write_text(self.log.checkpoint().encoded)
        return path

    def log_in(self, engine: Engine) -> TransparencyLog:
        """The log as a coordinator over `engine` has it."""
        return TransparencyLog(engine, self.log.key, self.log.sign, self.log.clock)


def quiet(_: str) -> None:
    pass


def live(folder: Path, federation: Private) -> Life:
    life = Life(federation, folder, folder / "early.jsonl", folder / "copy.jsonl")

    def back_up_once(ask: object) -> None:
        if getattr(ask, "number", 0) == 2 and not life.backups.exists():
            life.back_up()
            export_log(life.log, "demo", life.early)

    federation.wire.before = back_up_once
    publish(federation.centre, federation.documents, federation.drive())
    federation.store.finish("completed")
    export_log(life.log, "demo", life.copy)
    return life


@pytest.fixture(scope="module")
def lived(templates: Templates, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """Nobody changes it."""
    federation = templates.copy(private_plan())
    yield live(tmp_path_factory.mktemp("life"), federation)
    federation.close()


@pytest.fixture
def life(lived: Life, tmp_path: Path) -> Life:
    """The same with files that a test may change."""
    shutil.copytree(lived.folder, tmp_path / "life")
    folder = tmp_path / "life"
    return Life(lived.federation, folder, folder / "early.jsonl", folder / "copy.jsonl")


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Engine]:
    engine = open_database(f"sqlite:///{tmp_path / 'restored.db'}")
    yield engine
    engine.dispose()


def restored(
    life: Life, found: Reach, engine: Engine, gap: SoundGap | None = None, folder: Path | None = None
) -> Restored:
    store = ArtifactStore(folder or life.folder / "artifacts-restored")
    return restore(found, engine, artifacts=store, gap=gap, clock=life.log.clock, say=quiet)


def everything(engine: Engine) -> dict[str, list[bytes]]:
    """Every row of every table, to the bit."""
    with engine.connect() as connection:
        return {
            table.name: [line_of(row, table) for row in read_rows(connection, table)]
            for table in tables_of(connection)
        }


def signed_gap(life: Life, found: Reach, officers: int = 2, **changes: object) -> SignedGap:
    facts = {
        "federation": "demo",
        "kept": GapHead.of(found.head),
        "lost": tuple(LostHead.known_by(each.note) for each in found.later),
        "reason": "the disk of the database failed",
        "declared": life.log.clock(),
        **changes,
    }
    signed = SignedGap(gap=GapDeclared(**facts))
    source = Random("keys 0")
    for _ in range(officers):
        signed = signed.signed_with(_signing_key(source), life.pinned.root)
    return signed


def snapshot_of(life: Life) -> Path:
    (found,) = (life.backups / "snapshots").iterdir()
    return found


def row_changed(life: Life) -> None:
    path = snapshot_of(life) / "tables/ledger_ceilings.jsonl"
    path.write_bytes(path.read_bytes().replace(b"simulated", b"simulateD", 1))
