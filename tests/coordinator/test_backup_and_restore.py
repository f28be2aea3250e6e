"""A backup holds everything and nothing half; what is restored from it is what was there, and what copies of the log have beyond it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from random import Random

import pytest
from sqlalchemy import Engine, create_engine, select, text
from sqlalchemy.engine import make_url

from client.budget import _stated, views
from coordinator import runs
from coordinator.db import migrate, open_database, reading, writing
from coordinator.db.schema import Base, Checkpoint, Model, Round, Run, RunState
from coordinator.governance.exports import export_log
from coordinator.governance.log import TransparencyLog, append
from coordinator.keys import log_signer
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Decision
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import check_backup
from coordinator.recovery.copies import Reach, reach
from coordinator.recovery.endings import SKIPPED, require_resumable
from coordinator.recovery.restore import Restored, apply_gap, restore
from coordinator.recovery.rows import line_of, read_rows, tables_of
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.publish import publish
from coordinator.service import Service
from protos.account_statement import sign
from protos.backups import SignedManifest
from protos.documents import load_document
from protos.gaps import GapDeclared, GapHead, LostHead, SignedGap, SoundGap
from protos.keys import SigningKey
from protos.log_export import verify_file
from protos.root import SignedRoot
from simulation.world.layout import _signing_key
from strategies.dp.budget import BudgetRefused
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest, RunId
from tests.coordinator.cli_for_tests import commands_in, facts_of
from tests.coordinator.private_for_tests import Make, Private, Templates, make, private_plan, templates
from tests.coordinator.recovery_for_tests import told
from tests.coordinator.secure_for_tests import RUN
from tests.coordinator.test_log_export import log_of, open_again

__all__ = ["make", "templates"]
SECRETS = ("log.key", "node.key", "site.key")


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


# --- backups ----------------------------------------------------------------------------------------------------------


def test_every_table_is_in_a_backup(life: Life) -> None:
    checked = check_backup(life.backups, life.pinned)
    names = {each.name.removeprefix("tables/").removesuffix(".jsonl") for each in checked.tables()}
    assert names == set(Base.metadata.tables)
    assert checked.manifest.artifacts == len(list(checked.artifacts())) > 0
    assert (checked.head.size, checked.manifest.missing) == (
        verify_file(life.early, life.pinned).head.size,
        0,
    )


def test_no_private_key_is_in_a_backup(life: Life) -> None:
    secrets = [
        path.read_bytes().split(b"\n")[1]
        for path in life.federation.layout.folder.rglob("*")
        if path.name in SECRETS
    ]
    assert len(secrets) >= 9
    for path in life.backups.rglob("*"):
        if path.is_file():
            assert not any(secret in path.read_bytes() for secret in secrets), path
            assert b"PRIVATE KEY" not in path.read_bytes()


def test_the_password_of_a_database_is_not_in_a_backup(life: Life, tmp_path: Path) -> None:
    from coordinator.recovery.backup import _config
    from coordinator.settings import CONFIG_NAME, load_settings

    url = "postgresql+pg8000://covenant:hunter2@db.example/covenant"
    config = {"covenant": "coordinator/v1", "federation": "demo", "database": url}
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config))
    written = _config(load_settings(tmp_path)).decode()
    assert "hunter2" not in written
    assert "db.example" in written


@pytest.mark.slow
def test_a_second_backup_copies_what_is_new(make: Make, tmp_path: Path) -> None:
    life = live(tmp_path, make())
    before = {path for path in (life.backups / "artifacts").rglob("*") if path.is_file()}
    life.federation.clock.sleep(60.0)
    made = make_backup(
        life.federation.centre.settings, life.log, life.federation.artifacts, life.backups, quiet
    )
    after = {path for path in (life.backups / "artifacts").rglob("*") if path.is_file()}
    assert made.copied == len(after - before) == made.manifest.artifacts - len(before)
    assert len(list((life.backups / "snapshots").iterdir())) == 2
    assert check_backup(life.backups, life.pinned).snapshot == made.snapshot


@pytest.mark.slow
def test_a_backup_that_fails_leaves_the_earlier_ones_and_nothing_half(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    life = live(tmp_path, make())
    life.federation.clock.sleep(60.0)

    def fails(_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("coordinator.recovery.backup._config", fails)
    with pytest.raises(CovenantError, match="no backup was made"):
        life.back_up()
    (left,) = (life.backups / "snapshots").iterdir()
    assert check_backup(life.backups, life.pinned).snapshot == left


def test_a_folder_with_something_else_in_it_is_refused(life: Life, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "mine").write_text("x")
    with pytest.raises(UsageError, match="is not empty"):
        make_backup(
            life.federation.centre.settings,
            life.log,
            life.federation.artifacts,
            tmp_path / "other",
            quiet,
        )


def snapshot_of(life: Life) -> Path:
    (found,) = (life.backups / "snapshots").iterdir()
    return found


def cut_short(life: Life) -> None:
    path = snapshot_of(life) / "tables/rounds.jsonl"
    path.write_bytes(path.read_bytes()[:-5])


def row_changed(life: Life) -> None:
    path = snapshot_of(life) / "tables/ledger_ceilings.jsonl"
    path.write_bytes(path.read_bytes().replace(b"simulated", b"simulateD", 1))


def file_added(life: Life) -> None:
    (snapshot_of(life) / "tables/more.jsonl").write_text("x")


def file_removed(life: Life) -> None:
    (snapshot_of(life) / "tables/models.jsonl").unlink()


def artifact_altered(life: Life) -> None:
    path = next(path for path in sorted((life.backups / "artifacts/sha256").rglob("*")) if path.is_file())
    path.write_bytes(path.read_bytes() + b"x")


def artifact_removed(life: Life) -> None:
    next(path for path in sorted((life.backups / "artifacts/sha256").rglob("*")) if path.is_file()).unlink()


def signed_by_another(life: Life) -> None:
    path = snapshot_of(life) / "MANIFEST.json"
    manifest = SignedManifest.from_canonical(path.read_bytes().strip()).manifest
    path.write_bytes(SignedManifest.of(manifest, SigningKey.generate()).canonical)


DEFECTS: dict[str, tuple[Callable[[Life], None], str]] = {
    "cut short": (cut_short, "cut short or changed"),
    "a row changed": (row_changed, "cut short or changed"),
    "a file too many": (file_added, "no file of this backup"),
    "a file too few": (file_removed, "not in this backup"),
    "an artifact altered": (artifact_altered, "was altered"),
    "an artifact missing": (artifact_removed, "is not in"),
    "signed by another key": (signed_by_another, "is not signed with the log's key"),
}


@pytest.mark.parametrize("defect", DEFECTS)
def test_a_backup_that_was_changed_is_refused_before_anything_is_written(
    defect: str, life: Life, empty: Engine
) -> None:
    change, words = DEFECTS[defect]
    change(life)
    with pytest.raises(CovenantError, match=words):
        restored(life, life.reach(), empty)
    with empty.connect() as connection:
        assert tables_of(connection) == []


def test_a_backup_of_another_federation_is_refused(life: Life) -> None:
    from tests.trust_for_tests import officers

    with pytest.raises(Refused, match="the root that you have is of"):
        check_backup(life.backups, officers("other").pinned)


# --- restoring --------------------------------------------------------------------------------------------------------


def test_every_artifact_that_a_row_names_is_in_a_backup(life: Life, empty: Engine) -> None:
    restored(life, life.reach(), empty)
    store = ArtifactStore(life.folder / "artifacts-restored")
    with reading(empty, "looking") as session:
        for each in session.scalars(select(Checkpoint)).all():
            store.get(Digest(each.model_artifact))
            store.get(Digest(each.optimizer_artifact))
        for digest in session.scalars(select(Round.aggregate_digest)).all():
            assert digest is None or store.get(Digest(digest))


@pytest.mark.slow
def test_a_backup_restores_every_row_to_the_bit(make: Make, tmp_path: Path, empty: Engine) -> None:
    """Of a federation that is over, so that nothing has to be ended."""
    life = live(tmp_path, make())
    life.federation.clock.sleep(60.0)
    life.back_up()
    before = everything(life.federation.engine)
    done = restored(life, life.reach(), empty)
    after = everything(empty)
    assert (done.replayed, done.ended, done.waits) == (0, 0, False)
    assert len(after.pop("restores")) == 1
    assert before.pop("restores") == []
    assert after.pop("log_checkpoints") >= before.pop("log_checkpoints")
    assert after == before


def test_a_copy_of_the_log_brings_back_what_the_backup_lacks(life: Life, empty: Engine) -> None:
    """The run went on and completed after the backup: its charges, metrics and the model's number come back, its artifacts do not."""
    done = restored(life, life.reach(life.copy), empty)
    assert done.replayed == verify_file(life.copy, life.pinned).head.size - done.kept > 0
    assert (done.waits, done.ended) == (False, 0)
    before, after = told(life.federation.engine), told(empty)
    assert after == before
    log = life.log_in(empty)
    assert [each.body for each in log.entries()] == [each.body for each in life.log.entries()]
    assert log.checkpoint() == life.log.checkpoint()


def test_a_restored_log_goes_on_and_an_auditor_believes_it(life: Life, empty: Engine) -> None:
    restored(life, life.reach(life.early), empty)
    log = life.log_in(empty)
    export_log(log, "demo", life.folder / "after.jsonl")
    found = verify_file(life.folder / "after.jsonl", life.pinned)
    (run,) = found.story.runs.values()
    assert run.state == "failed"
    with reading(empty, "looking") as session:
        row = session.get_one(Run, RUN)
        assert row.state == RunState.FAILED
        assert "restored from the backup of" in (row.reason or "")


def test_a_run_whose_model_is_there_may_be_resumed_under_attempts_that_nobody_was_asked(
    life: Life, empty: Engine
) -> None:
    restored(life, life.reach(), empty)
    with reading(empty, "looking") as session:
        require_resumable(session, session.get_one(Run, RUN))
        attempts = session.scalars(select(Round.attempt).where(Round.number == 2)).all()
    assert max(attempts) > SKIPPED


def moved(life: Life, engine: Engine) -> None:
    """The federation's centre is the restored one from now on; its sites are started again and remember everything."""
    federation = life.federation
    federation.artifacts = ArtifactStore(life.folder / "artifacts-restored")
    federation.engine = engine
    federation.centre = replace(federation.centre, engine=engine, artifacts=federation.artifacts)
    federation.wire.before = lambda _: None
    for site in federation.sites:
        federation.restart(site)


@pytest.mark.slow
def test_a_restored_run_that_is_resumed_completes_and_no_site_is_asked_anything_twice(
    make: Make, tmp_path: Path, empty: Engine
) -> None:
    """The sites have answered an attempt that the backup does not know of, and given no shares for it."""
    life = Life(make(), tmp_path, tmp_path / "early.jsonl", tmp_path / "copy.jsonl")

    def back_up_and_die(ask: object) -> None:
        if getattr(ask, "number", 0) == 2 and not life.backups.exists():
            life.back_up()
            life.federation.store.finish("failed", "a disk")

    life.federation.wire.before = back_up_and_die
    with pytest.raises(CovenantError):
        life.federation.drive()
    restored(life, life.reach(), empty)
    moved(life, empty)
    open_again(life.federation)
    publish(life.federation.centre, life.federation.documents, life.federation.drive())
    life.federation.store.finish("completed")
    export_log(life.log, "demo", tmp_path / "resumed.jsonl")
    (run,) = verify_file(tmp_path / "resumed.jsonl", life.pinned).story.runs.values()
    assert (run.state, run.committed) == ("completed", 2)
    for site in life.federation.sites:
        first, second = (each[2] for each in life.federation.charged(site) if each[:2] == ("train", 2))
        assert first < SKIPPED < second


@pytest.mark.slow
def test_sites_that_have_given_their_shares_give_no_second_sum_to_a_restored_centre(
    make: Make, tmp_path: Path, empty: Engine
) -> None:
    """They have opened the round that the backup knows nothing of: that run comes to nothing, and nothing more of it is opened."""
    life = live(tmp_path, make())
    restored(life, life.reach(), empty)
    before = told(empty)["ledger_entries"]
    moved(life, empty)
    open_again(life.federation)
    with pytest.raises(CovenantError, match="has given its shares for attempt 1"):
        life.federation.drive()
    assert told(empty)["ledger_entries"] == before


def test_a_run_whose_model_is_lost_does_not_go_on(life: Life, empty: Engine) -> None:
    restored(life, life.reach(life.copy), empty)
    with writing(empty, "changing") as session:
        row = session.get_one(Run, RUN)
        row.state = RunState.FAILED
        with pytest.raises(Refused, match="its model after round 2 is lost"):
            require_resumable(session, row)


def test_a_models_number_stays_taken(life: Life, empty: Engine) -> None:
    restored(life, life.reach(life.copy), empty)
    with reading(empty, "looking") as session:
        (model,) = session.scalars(select(Model)).all()
    assert (model.name, model.version) == ("private", 1)
    store = ArtifactStore(life.folder / "artifacts-restored")
    with pytest.raises(CovenantError, match="is not in"):
        store.get(next(iter(model.artifacts.values())))


def test_a_database_that_is_not_empty_is_refused(life: Life, tmp_path: Path) -> None:
    engine = life.federation.engine
    with pytest.raises(UsageError, match="into an empty one only"):
        restored(life, life.reach(), engine)


def test_an_interruption_leaves_the_database_empty(
    life: Life, empty: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    def dies(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("coordinator.recovery.restore.end_open_runs", dies)
        with pytest.raises(KeyboardInterrupt):
            restored(life, life.reach(life.copy), empty)
    with empty.connect() as connection:
        assert tables_of(connection) == []
    restored(life, life.reach(life.copy), empty)


# --- copies -----------------------------------------------------------------------------------------------------------


def test_the_longest_of_several_copies_is_taken(life: Life) -> None:
    found = life.reach(life.early, life.copy)
    assert found.copy == life.copy
    assert life.reach(life.copy, life.early).head == found.head


@pytest.mark.slow
def test_a_copy_that_is_older_than_the_backup_adds_nothing(make: Make, tmp_path: Path) -> None:
    life = live(tmp_path, make())
    life.federation.clock.sleep(60.0)
    life.back_up()
    found = life.reach(life.early)
    assert (found.copy, found.later) == (None, ())


def forked(life: Life) -> Path:
    """An export of a log that went another way after the backup, signed with the log's own key."""
    engine = open_database(f"sqlite:///{life.folder / 'fork.db'}")
    restored(life, life.reach(), engine, folder=life.folder / "fork-artifacts")
    path = life.folder / "fork.jsonl"
    export_log(life.log_in(engine), "demo", path)
    engine.dispose()
    return path


def test_a_copy_that_forks_is_refused_with_both_heads(life: Life, empty: Engine) -> None:
    fork = forked(life)
    head = verify_file(fork, life.pinned).head
    with pytest.raises(Refused, match="this is a fork") as refused:
        life.reach(life.copy, fork)
    assert head.root.hex() in str(refused.value)
    assert life.log.head(head.size).root.hex() in str(refused.value)


def test_a_copy_of_another_federation_is_refused(life: Life, templates: Templates, tmp_path: Path) -> None:
    lines = life.copy.read_bytes().split(b"\n")
    lines[0] = lines[0].replace(b'"demo"', b'"other"')
    (tmp_path / "other.jsonl").write_bytes(b"\n".join(lines))
    with pytest.raises(Refused, match="this log is of federation other"):
        life.reach(tmp_path / "other.jsonl")


def test_a_note_that_the_log_did_not_sign_says_nothing(life: Life) -> None:
    note = life.note()
    key = SigningKey.generate()
    forged = note.read_text().split("\n\n")[0] + "\n"
    note.write_text(forged + "\n" + life.log.key.line(key.sign_note(forged)) + "\n")
    with pytest.raises(Refused, match="is not signed by the log of this federation"):
        life.reach(notes=(note,))


# --- gaps -------------------------------------------------------------------------------------------------------------


def test_with_a_later_head_known_nothing_is_done_before_a_gap_is_signed(life: Life, empty: Engine) -> None:
    found = life.reach(notes=(life.note(),))
    done = restored(life, found, empty)
    assert done.waits
    ledger = Ledger(empty, life.log.clock)
    (account, *_) = ledger.accounts()
    decision = Decision(
        epsilon=1e3, delta=1e-5, unit=account.ceiling.unit, officers=["one", "other"], reason="more"
    )
    with pytest.raises(Refused, match="restored; a later head is known"):
        ledger.set_ceiling(account.key.site, "another", decision)
    with pytest.raises(Refused, match="restored; a later head is known"), writing(empty, "trying") as session:
        append(session, life.log.clock(), ())
    log = life.log_in(empty)
    gap = signed_gap(life, found).verify(life.pinned)
    assert apply_gap(log, gap) == found.head.size
    with pytest.raises(UsageError, match="no restore waits"):
        apply_gap(log, gap)
    export_log(log, "demo", life.folder / "gap.jsonl")
    story = verify_file(life.folder / "gap.jsonl", life.pinned).story
    ((seq, sound),) = story.gaps
    assert (seq, sound.declared.reason) == (found.head.size, "the disk of the database failed")
    (run,) = story.runs.values()
    assert run.state == "failed"
    with reading(empty, "looking") as session, pytest.raises(Refused, match="before entries of the log were"):
        require_resumable(session, session.get_one(Run, RUN))


def test_a_gap_that_comes_with_the_restore_is_the_first_entry_after_what_was_kept(
    life: Life, empty: Engine
) -> None:
    found = life.reach(life.early, notes=(life.note(),))
    done = restored(life, found, empty, signed_gap(life, found).verify(life.pinned))
    assert (done.waits, done.gap) == (False, found.head.size)
    kinds = [json.loads(each.body)["what"]["kind"] for each in life.log_in(empty).entries(found.head.size)]
    assert kinds[0] == "gap"
    assert "ended" in kinds


def test_a_gap_with_too_few_signatures_is_refused(life: Life) -> None:
    found = life.reach(notes=(life.note(),))
    with pytest.raises(Refused, match="has 1 of the 2 signatures"):
        signed_gap(life, found, officers=1).verify(life.pinned)


def test_a_gap_of_another_head_or_that_names_too_little_is_refused(life: Life, empty: Engine) -> None:
    found = life.reach(notes=(life.note(),))
    silent = signed_gap(life, found, lost=()).verify(life.pinned)
    with pytest.raises(Refused, match="does not name the head"):
        restored(life, found, empty, silent)
    kept = GapHead(size=3, root=found.head.root.hex())
    with pytest.raises(Refused, match="begins after another head"):
        restored(life, found, empty, signed_gap(life, found, kept=kept).verify(life.pinned))


def test_after_a_gap_a_site_is_charged_again_only_once_its_own_account_was_adopted(
    life: Life, empty: Engine, tmp_path: Path
) -> None:
    """The sites had charged more than the backup knows; afterwards the centre has no less than they."""
    found = life.reach(notes=(life.note(),))
    restored(life, found, empty, signed_gap(life, found).verify(life.pinned))
    ledger, site = Ledger(empty, life.log.clock), life.federation.sites[0]
    population = life.federation.plan.population_of(site)
    before = ledger.show(site, population)
    enrol(life, empty)
    from coordinator.runs import needs_of

    with writing(empty, "submitting") as session:
        session.add(copied_run(session))
    needs = needs_of(life.federation.documents)
    with pytest.raises(BudgetRefused, match="are unsettled"):
        ledger.reserve_now(OTHER, needs)
    old = statement_of(life, site, before_gap=True)
    with pytest.raises(Refused, match="before the gap was declared"):
        ledger.adopt(old)
    for each in life.federation.sites:
        statement = statement_of(life, each)
        assert ledger.adopt(statement) is not None
        assert ledger.adopt(statement) is None
        assert not ledger.reconcile(statement).alarms
    after = ledger.show(site, population)
    live = life.federation.ledger.show(site, population)
    assert after.settled.epsilon >= live.settled.epsilon > before.settled.epsilon
    with pytest.raises(BudgetRefused, match=r"more than|above|ceiling"):  # and no more "unsettled"
        ledger.reserve_now(OTHER, needs)
    export_log(life.log_in(empty), "demo", life.folder / "adopted.jsonl")
    budgets = verify_file(life.folder / "adopted.jsonl", life.pinned).story.budgets
    for budget in budgets.standing():
        view = ledger.show(budget.account.site, budget.account.population)
        assert (budget.opened, budget.charged) == (view.settled, view.spent)


OTHER = "run-" + "ab" * 8


def enrol(life: Life, engine: Engine) -> None:
    """As a coordinator does once it serves."""
    from coordinator.db.schema import Site

    members = life.reach().backup.members
    with writing(engine, "enrolling") as session:
        for each in members.members:
            session.merge(
                Site(
                    name=each.site,
                    identity_key=each.identity_key,
                    node_key=each.node_key,
                    members_ref=members.ref,
                    enrolled_at=life.log.clock(),
                )
            )


def copied_run(session: object) -> Run:
    row = session.get_one(Run, RUN)  # type: ignore[attr-defined]
    facts = {column.name: getattr(row, column.name) for column in Run.__table__.columns}
    return Run(**{**facts, "id": OTHER, "state": RunState.SUBMITTED, "flower_run_id": None})


def statement_of(life: Life, site: str, *, before_gap: bool = False) -> bytes:
    """What `covenant-agent budget --export` writes."""
    participant = life.federation.wire.participants[site]
    moment = life.log.clock() + (timedelta(days=-9) if before_gap else timedelta(minutes=5))
    accounts = [
        _stated(each, participant.book, "demo") for each in views(participant.config, participant.book)
    ]
    return sign(participant.site, participant.identity, moment, accounts).to_bytes()


# --- kinds of databases -----------------------------------------------------------------------------------------------


@pytest.fixture
def postgres(postgres_url: str) -> Iterator[Engine]:
    engine = open_database(postgres_url)
    yield engine
    engine.dispose()


@pytest.mark.slow
@pytest.mark.postgres
def test_sqlite_restores_into_postgresql_and_back_to_the_bit(
    life: Life, postgres: Engine, tmp_path: Path
) -> None:
    found = life.reach(life.copy)
    restored(life, found, postgres)
    assert told(postgres) == told(life.federation.engine)
    again = live_on(life, postgres)
    back = open_database(f"sqlite:///{tmp_path / 'back.db'}")
    restored(again, again.reach(), back)
    before, after = everything(postgres), everything(back)
    for table in ("restores", "log_checkpoints"):
        before.pop(table), after.pop(table)
    assert after == before
    back.dispose()


def live_on(life: Life, engine: Engine) -> Life:
    """A backup of the database in `engine` as well, in a folder of its own."""
    folder = life.folder / "again"
    folder.mkdir()
    made = Life(life.federation, folder, life.early, life.copy)
    make_backup(
        life.federation.centre.settings,
        life.log_in(engine),
        ArtifactStore(life.folder / "artifacts-restored"),
        made.backups,
        quiet,
    )
    return made


@pytest.mark.slow
@pytest.mark.postgres
def test_postgresql_goes_on_numbering_after_the_rows_that_were_restored(life: Life, postgres: Engine) -> None:
    restored(life, life.reach(), postgres)
    ledger, (account, *_) = Ledger(postgres, life.log.clock), Ledger(postgres, life.log.clock).accounts()
    assert ledger.release_run(RUN, "lost") > 0
    decision = Decision(
        epsilon=9.0, delta=1e-5, unit=account.ceiling.unit, officers=["one"], reason="another population"
    )
    ledger.set_ceiling(account.key.site, "another", decision)


@pytest.mark.slow
@pytest.mark.postgres
def test_a_postgresql_that_lost_its_last_transactions_gets_them_back_from_a_copy(
    life: Life, postgres: Engine, postgres_url: str
) -> None:
    """It is set back to an older state of its own, as a server is that said yes before its disk did; then restored with what a site has kept."""
    restored(life, life.reach(life.early), postgres)
    ledger, log = Ledger(postgres, life.log.clock), life.log_in(postgres)
    older = live_on(life, postgres)
    name = make_url(postgres_url).database
    with set_back(postgres, postgres_url) as put_back:
        assert ledger.release_run(RUN, "nobody wants it any more") > 0
        before, size = told(postgres), log.size()
        kept_by_a_site = life.folder / "kept.jsonl"
        export_log(log, "demo", kept_by_a_site)
        put_back()
        assert log.size() < size
        assert told(postgres)["ledger_entries"] != before["ledger_entries"]
    with postgres.connect() as connection:
        assert connection.scalar(text("SELECT current_database()")) == name
    found = older.reach(kept_by_a_site)
    with fresh_database(postgres_url) as another:
        done = restored(older, found, another)
        assert (done.waits, done.kept + done.replayed) == (False, size)
        after = told(another)
        for table in ("ledger_entries", "ledger_ceilings", "ledger_accounts", "runs", "models"):
            assert after[table] == before[table]
        assert [each for each in after["log_entries"] if each["seq"] < size] == before["log_entries"]


class set_back:  # noqa: N801 (used as a function is)
    """Takes a copy of a PostgreSQL database now, and puts it in the place of the database later."""

    def __init__(self, engine: Engine, url: str) -> None:
        self.engine, self.url = engine, make_url(url)
        self.copy = f"{self.url.database}_older"

    def __enter__(self) -> Callable[[], None]:
        self.engine.dispose()
        self._run(f"CREATE DATABASE {self.copy} TEMPLATE {self.url.database}")
        return self._put_back

    def _put_back(self) -> None:
        self.engine.dispose()
        self._run(f"DROP DATABASE {self.url.database} WITH (FORCE)")
        self._run(f"CREATE DATABASE {self.url.database} TEMPLATE {self.copy}")

    def __exit__(self, *_: object) -> None:
        self._run(f"DROP DATABASE {self.copy} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        server = create_engine(self.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text(statement))
        server.dispose()


class fresh_database:  # noqa: N801 (used as a function is)
    """A further PostgreSQL database for the time being."""

    def __init__(self, url: str) -> None:
        self.url = make_url(url)
        self.name = f"{self.url.database}_fresh"

    def __enter__(self) -> Engine:
        self._run(f"CREATE DATABASE {self.name}")
        self.engine = open_database(self.url.set(database=self.name).render_as_string(hide_password=False))
        return self.engine

    def __exit__(self, *_: object) -> None:
        self.engine.dispose()
        with suppress(Exception):
            self._run(f"DROP DATABASE {self.name} WITH (FORCE)")

    def _run(self, statement: str) -> None:
        server = create_engine(self.url.set(database="postgres"), isolation_level="AUTOCOMMIT")
        with server.connect() as connection:
            connection.execute(text(statement))
        server.dispose()


@pytest.mark.slow
def test_a_backup_is_of_one_moment_while_others_write(make: Make, tmp_path: Path) -> None:
    """An entry that is appended while tables are read is in all of them or in none."""
    life = live(tmp_path, make())
    life.federation.clock.sleep(60.0)
    written: list[str] = []

    def say(what: str) -> None:
        if not written:
            written.append(what)
            life.federation.ledger.set_ceiling(
                life.federation.sites[0],
                "meanwhile",
                Decision(
                    epsilon=1.0,
                    delta=1e-5,
                    unit=life.federation.ledger.accounts()[0].ceiling.unit,
                    officers=["one"],
                    reason="r",
                ),
            )

    size = life.log.size()
    make_backup(life.federation.centre.settings, life.log, life.federation.artifacts, life.backups, say)
    checked = check_backup(life.backups, life.pinned)
    assert (checked.head.size, life.log.size()) == (size, size + 1)


@pytest.mark.postgres
@pytest.mark.slow
def test_a_backup_of_postgresql_is_of_one_moment_too(life: Life, postgres: Engine) -> None:
    restored(life, life.reach(life.early), postgres)
    log, written = life.log_in(postgres), []
    size = log.size()

    def say(what: str) -> None:
        if not written:
            written.append(what)
            assert Ledger(postgres, life.log.clock).release_run(RUN, "meanwhile") > 0

    folder = life.folder / "moment"
    settings, store = life.federation.centre.settings, ArtifactStore(life.folder / "artifacts-restored")
    make_backup(settings, log, store, folder, say)
    assert (check_backup(folder, life.pinned).head.size, log.size()) == (size, size + 1)


def test_a_coordinator_that_waits_neither_serves_nor_launches(life: Life, empty: Engine) -> None:
    restored(life, life.reach(notes=(life.note(),)), empty)
    waiting = replace(life.federation.centre, engine=empty)
    for act in (
        Service(waiting).serve,
        lambda: runs.launch(waiting, life.federation.layout.plan_file),
        lambda: runs.resume(waiting, RUN),
        lambda: runs.record(waiting, replace(life.federation.documents, run=RunId(OTHER))),
    ):
        with pytest.raises((Refused, BudgetRefused)):
            act()
    with pytest.raises(Refused, match="restored; a later head is known"):
        Service(waiting).serve()


def test_a_backup_of_an_older_schema_is_brought_up_to_date(life: Life, empty: Engine) -> None:
    """As a version before had made it: without the tables that came since."""
    since = {"restores", "adopted_charges", "adopted_sites"}
    path = snapshot_of(life) / "MANIFEST.json"
    manifest = SignedManifest.from_canonical(path.read_bytes().strip()).manifest
    for table in since:
        (snapshot_of(life) / f"tables/{table}.jsonl").unlink()
    older = manifest.model_copy(
        update={
            "revision": "0006",
            "files": tuple(
                each for each in manifest.files if each.name not in {f"tables/{name}.jsonl" for name in since}
            ),
        }
    )
    path.write_bytes(SignedManifest.of(older, log_signer(life.federation.centre.settings)).canonical)
    restored(life, life.reach(life.copy), empty)
    assert told(empty) == told(life.federation.engine)


def test_a_backup_of_a_later_schema_is_refused(life: Life, empty: Engine) -> None:
    path = snapshot_of(life) / "MANIFEST.json"
    manifest = SignedManifest.from_canonical(path.read_bytes().strip()).manifest
    later = manifest.model_copy(update={"revision": "9999"})
    path.write_bytes(SignedManifest.of(later, log_signer(life.federation.centre.settings)).canonical)
    with pytest.raises(CovenantError, match="a revision this version does not know"):
        restored(life, life.reach(), empty)


@pytest.mark.slow
def test_the_commands_do_it_and_say_what_was_lost(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    covenant = commands_in(tmp_path, monkeypatch, capsys)
    home = shutil.copytree(life.federation.layout.home, tmp_path / "home")
    root, backups = str(home / "root.json"), str(life.backups)
    made = facts_of(covenant, "backup", "mine")
    found = facts_of(covenant, "backup", "verify", "mine", "--root", root)
    assert (found["verified"], found["entries"], found["root"]) == (True, made["entries"], made["root"])
    assert (found["runs"], found["models"], found["artifacts_missing"]) == (1, 1, 0)

    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    drilled = facts_of(covenant, "restore", "drill", backups, "--root", root)
    assert drilled["entries_behind"] == made["entries"] - drilled["kept"] > 0
    copied = facts_of(covenant, "restore", "drill", backups, "--root", root, "--copy", str(life.copy))
    assert (copied["entries_behind"], copied["replayed"]) == (0, drilled["entries_behind"])
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before

    left, _, err = covenant("restore", backups, "--root", root)
    assert (left, "into an empty one only" in " ".join(err.split())) == (2, True)
    (home / "covenant.db").unlink()
    facts = facts_of(covenant, "restore", backups, "--root", root, "--copy", str(life.copy))
    assert (facts["replayed"], facts["waits"], facts["later"]) == (drilled["entries_behind"], False, [])
    models = facts_of(covenant, "model", "list")["models"]
    assert [(each["name"], each["version"]) for each in models] == [("private", 1)]

    row_changed(life)
    left, _, err = covenant("backup", "verify", backups, "--root", root)
    assert (left, "cut short or changed" in " ".join(err.split())) == (3, True)
    left, _, err = covenant("backup", "--help")
    assert left == 0


def test_a_migrated_empty_database_will_do(life: Life, empty: Engine) -> None:
    migrate(empty)
    assert restored(life, life.reach(life.copy), empty).replayed > 0
