"""A backup holds everything and nothing half; what is restored from it is what was there, and what copies of the log have beyond it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, select

from client.accounts.views import _stated, views
from coordinator.db import open_database, reading, writing
from coordinator.db.recovery_schema import Restore
from coordinator.db.schema import Base, Checkpoint, Model, Round, Run, RunState
from coordinator.governance.exports import export_log
from coordinator.governance.log import append, append_again
from coordinator.keys import log_signer
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import check_backup
from coordinator.recovery.copies import reach
from coordinator.recovery.endings import SKIPPED, require_resumable
from coordinator.recovery.restore import apply_gap
from coordinator.recovery.rows import tables_of
from coordinator.registry.artifacts import ArtifactStore
from coordinator.registry.publish import publish
from protos.account_statement import sign
from protos.backups import BackupFile, BackupManifest, SignedManifest
from protos.gaps import GapHead
from protos.keys import SigningKey
from protos.log_entries import LogEntry, LoggedDocument, MembersSigned
from protos.log_export import verify_file
from protos.membership import Membership, Service
from strategies.dp.budget import BudgetRefused
from strategies.encoding import sha256_hex
from strategies.errors import CovenantError, Refused, UsageError
from strategies.ids import Digest
from tests.coordinator.private_for_tests import Make, Templates, make, templates
from tests.coordinator.recovery_for_tests import (
    OTHER,
    Life,
    empty,
    everything,
    life,
    live,
    lived,
    quiet,
    restored,
    row_changed,
    signed_gap,
    snapshot_of,
    told,
)
from tests.coordinator.secure_for_tests import RUN
from tests.coordinator.test_log_export import decide, next_root, open_again, root_keys, signed_by

__all__ = ["empty", "life", "lived", "make", "templates"]
SECRETS = ("log.key", "node.key", "site.key")


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
    escaped = url.replace("hunter2", 'hun\\"ter2')
    (tmp_path / CONFIG_NAME).write_text(
        f'# database: "{url}"\ncovenant: coordinator/v1\nfederation: demo\ndatabase: "{escaped}"\n'
    )
    written = _config(load_settings(tmp_path)).decode()
    assert "ter2" not in written
    (tmp_path / "again").mkdir()
    (tmp_path / "again" / CONFIG_NAME).write_text(written)
    assert load_settings(tmp_path / "again").config.federation == "demo"


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


def test_two_backups_of_one_second_do_not_destroy_each_other(
    life: Life, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second begins while the first is written, and a third before the first is over."""
    federation, folder, log = life.federation, tmp_path / "backups", life.log
    now = log.clock()
    log = replace(log, clock=lambda: now)

    def back_up() -> Path:
        settings = federation.centre.settings
        return make_backup(settings, log, federation.artifacts, folder, quiet).snapshot

    rename = Path.rename

    def meanwhile(path: Path, target: Path) -> Path:
        with pytest.raises(UsageError, match="another backup of this second is being made"):
            back_up()
        renamed = rename(path, target)
        path.mkdir()  # by one that looked before
        return renamed

    monkeypatch.setattr(Path, "rename", meanwhile)
    made = back_up()
    assert check_backup(folder, life.pinned).snapshot == made
    assert sorted((folder / "snapshots").iterdir()) == sorted([made, made.with_name(f".{made.name}.making")])


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


def cut_short(life: Life) -> None:
    path = snapshot_of(life) / "tables/rounds.jsonl"
    path.write_bytes(path.read_bytes()[:-5])


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


def test_a_backup_that_shows_other_rows_once_it_was_verified_is_refused(life: Life, empty: Engine) -> None:
    """Whoever keeps the backup may answer the second reading otherwise than the first."""
    found = life.reach()
    row_changed(life)
    with pytest.raises(Refused, match=r"ledger_ceilings\.jsonl was changed after it was verified"):
        restored(life, found, empty)
    with empty.connect() as connection:
        assert tables_of(connection) == []


def charges_forgotten(name: str, lines: list[bytes]) -> list[bytes]:
    return lines[:1] if name in {"tables/ledger_entries.jsonl", "tables/ledger_alerts.jsonl"} else lines


def ceiling_raised(name: str, lines: list[bytes]) -> list[bytes]:
    if name != "tables/ledger_ceilings.jsonl":
        return lines
    place = json.loads(lines[0])["columns"].index("epsilon")
    rows = [json.loads(each) for each in lines[1:]]
    return lines[:1] + [
        json.dumps([*row[:place], row[place] * 2, *row[place + 1 :]]).encode() for row in rows
    ]


def halt_invented(name: str, lines: list[bytes]) -> list[bytes]:
    if name != "tables/halts.jsonl":
        return lines
    facts = {"digest": "0" * 64, "id": "0" * 32, "scope": "all", "order_document": "{}"}
    facts["halted_at"] = {"at": "2026-01-01T00:00:00+00:00"}
    columns = json.loads(lines[0])["columns"]
    return [*lines, json.dumps([facts.get(each) for each in columns]).encode()]


def model_invented(name: str, lines: list[bytes]) -> list[bytes]:
    if name != "tables/models.jsonl":
        return lines
    facts = {"name": "private", "version": 1, "stage": "approved", "run_id": RUN, "digest": "0" * 64}
    facts |= {"artifacts": {"json": {}}, "created_at": {"at": "2026-01-01T00:00:00+00:00"}}
    columns = json.loads(lines[0])["columns"]
    return [*lines, json.dumps([facts.get(each) for each in columns]).encode()]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (model_invented, "models in the tables of this backup are not those of its log"),
        (charges_forgotten, "has spent epsilon 0, and by its log"),
        (ceiling_raised, "in the tables of this backup is not the one of its log"),
        (halt_invented, "halts in the tables of this backup are not those of its log"),
    ],
)
def test_tables_that_say_otherwise_than_the_log_are_not_restored(
    change: Callable[[str, list[bytes]], list[bytes]], words: str, life: Life, empty: Engine
) -> None:
    """By whoever has the log's key, and so can sign a manifest of any tables."""
    place = snapshot_of(life)
    signed = SignedManifest.from_canonical((place / "MANIFEST.json").read_bytes().strip())
    files = []
    for each in signed.manifest.files:
        lines = change(each.name, (place / each.name).read_bytes().splitlines())
        data = b"".join(line + b"\n" for line in lines)
        if each.name.startswith("tables/"):
            (place / each.name).write_bytes(data)
            facts = {"sha256": sha256_hex(data), "bytes": len(data), "rows": len(lines) - 1}
            files.append(BackupFile(**{**dict(each), **facts}))
        else:
            files.append(each)
    manifest = BackupManifest(**{**dict(signed.manifest), "files": tuple(files)})
    signer = log_signer(life.federation.centre.settings)
    (place / "MANIFEST.json").write_bytes(SignedManifest.of(manifest, signer).canonical)
    with pytest.raises(Refused, match=words):
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


def test_a_copy_by_an_older_key_of_the_log_adds_nothing(life: Life) -> None:
    """Whoever kept the key that a newer list has replaced could make any copy."""
    ours = life.reach().members
    other = SigningKey.generate().public
    changed = [Service(name=each.name, purpose=each.purpose, key=other) for each in ours.services]
    newer = ours.next(services=changed)
    pinned, backup = life.pinned, check_backup(life.backups, life.pinned)
    with pytest.raises(Refused, match=f"ends before member list {newer.ref}"):
        reach(backup, [life.copy], [], pinned, newer)
    assert reach(backup, [life.early], [], pinned, newer).copy is None
    same = ours.next(services=[])
    assert reach(backup, [life.copy], [], pinned, same).copy == life.copy


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
    proposal = Proposal(epsilon=1e3, delta=1e-5, unit=account.ceiling.unit, reason="more")
    with pytest.raises(Refused, match="restored; a later head is known"):
        decide(life.federation, account.key.site, "another", proposal, "ledger-1", ledger=ledger)
    with pytest.raises(Refused, match="restored; a later head is known"), writing(empty, "trying") as session:
        append(session, life.log.clock(), ())
    log = life.log_in(empty)
    gap = signed_gap(life, found).verify(life.pinned)
    assert apply_gap(log, gap) == found.head.size
    with pytest.raises(UsageError, match="no restore waits"):
        apply_gap(log, gap)
    export_log(log, "demo", life.folder / "gap.jsonl")
    story = verify_file(life.folder / "gap.jsonl", life.pinned).story
    ((seq, sound),) = story.gaps.met
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


def test_a_gap_that_no_auditor_would_believe_is_not_applied(life: Life, empty: Engine) -> None:
    """By officers whose root the log has left behind, or declared for a day that has not come."""
    found = life.reach(notes=(life.note(),))
    restored(life, found, empty)
    log, now = life.log_in(empty), life.log.clock()
    early = signed_gap(life, found, declared=now + timedelta(days=1)).verify(life.pinned)
    with pytest.raises(Refused, match="which has not come"):
        apply_gap(log, early)
    root = next_root(life.pinned, "one")
    members = signed_by(found.members.next(), root_keys(), (root,), root.root)
    logged = LoggedDocument.of(Membership.from_canonical(members))
    with writing(empty, "going on to another root") as session:
        append_again(session, [LogEntry(at=now, what=MembersSigned(members=logged)).canonical])
        session.scalars(select(Restore)).one().size += 1
    old = signed_gap(life, found, kept=GapHead.of(log.head(log.size()))).verify(life.pinned)
    with pytest.raises(Refused, match="signed under root version 1, and the log has come to version 2"):
        apply_gap(log, old)
    assert log.size() == found.head.size + 1


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
