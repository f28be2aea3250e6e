"""Backups and restores between kinds of databases, states of one database, versions of its schema, and as commands."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from importlib import import_module
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url

from coordinator import runs
from coordinator.cli import restores
from coordinator.console.identities import Identities
from coordinator.console.links import make_link
from coordinator.console.seals import holds, seal
from coordinator.console.sessions import Sessions
from coordinator.console.vault import Vault
from coordinator.db import migrate, open_database
from coordinator.db.console_schema import ConsoleAccount
from coordinator.db.engine import reading, writing
from coordinator.governance.exports import export_log
from coordinator.keys import log_signer
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from coordinator.recovery.backup import make_backup
from coordinator.recovery.checked import check_backup
from coordinator.registry.artifacts import ArtifactStore
from coordinator.service import Service
from protos.backups import SignedManifest
from strategies.dp.budget import BudgetRefused
from strategies.errors import CovenantError, Refused
from strategies.ids import RunId
from tests.coordinator.cli_for_tests import commands_in, facts_of
from tests.coordinator.private_for_tests import Make, make, templates
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
    snapshot_of,
    told,
)
from tests.coordinator.secure_for_tests import RUN
from tests.coordinator.test_log_export import decide

__all__ = ["empty", "life", "lived", "make", "templates"]


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
    proposal = Proposal(epsilon=9.0, delta=1e-5, unit=account.ceiling.unit, reason="another population")
    decide(life.federation, account.key.site, "another", proposal, "ledger-1", ledger=ledger)


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
            unit = life.federation.ledger.accounts()[0].ceiling.unit
            proposal = Proposal(epsilon=1.0, delta=1e-5, unit=unit, reason="r")
            decide(life.federation, life.federation.sites[0], "meanwhile", proposal, "ledger-1")

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
    since = {"restores", "adopted_charges", "adopted_sites", "invitations"} | {
        "model_moves",
        "model_aliases",
        "model_statements",
        "policy_packs",
        "policy_judgements",
        "model_verdicts",
        "deploy_orders",
        "deploy_targets",
        "recalls",
        "releases",
        "rollouts",
        "running",
        "running_events",
        "alert_outbox",
        "drift_alarms",
        "drift_monitors",
        "drift_windows",
        "retraining_drafts",
        "model_notes",
        "site_exchanges",
        "sites_heard",
        "log_subjects",
        "console_accounts",
        "console_drafts",
        "console_identities",
        "console_links",
        "console_sessions",
        "plan_comments",
        *(f"console_{each}" for each in ("accounts", "drafts", "identities", "links", "sessions")),
    }
    path = snapshot_of(life) / "MANIFEST.json"
    manifest = SignedManifest.from_canonical(path.read_bytes().strip()).manifest
    for table in since:
        (snapshot_of(life) / f"tables/{table}.jsonl").unlink()
    older = manifest.model_copy(
        update={
            "revision": import_module("coordinator.db.migrations.versions.0010_restores").down_revision,
            "files": tuple(
                each for each in manifest.files if each.name not in {f"tables/{name}.jsonl" for name in since}
            ),
        }
    )
    path.write_bytes(SignedManifest.of(older, log_signer(life.federation.centre.settings)).canonical)
    restored(life, life.reach(life.copy), empty)
    assert told(empty) == told(life.federation.engine)


def test_accounts_of_the_console_come_back_and_sessions_and_links_do_not(
    life: Life, empty: Engine, tmp_path: Path
) -> None:
    """What was ended or used since the backup would open the console again."""
    restored(life, life.reach(), empty)
    now = life.log.clock()
    vault = Vault(tmp_path / "console.key")
    Sessions(empty, vault).begin("privacy-1", "password", now)
    make_link(empty, vault, "privacy-1", now)
    Identities(empty, vault).tie("https://id.bank.example", "kim", "privacy-1", now)
    with writing(empty, "setting an account up") as session:
        sealed = vault.seal("privacy-1", "the authenticator's secret")
        account = ConsoleAccount(
            officer="privacy-1", password="$argon2id$", totp=sealed, totp_step=1, failures=0, made_at=now
        )
        seal(vault, account)
        session.add(account)
    again, back = live_on(life, empty), open_database(f"sqlite:///{tmp_path / 'back.db'}")
    restored(again, again.reach(), back)
    before, after = everything(empty), everything(back)
    for table in ("console_accounts", "console_identities"):
        assert len(before[table]) == 1
        assert after[table] == before[table]
    for table in ("console_links", "console_sessions"):
        assert (len(before[table]), after[table]) == (1, [])
    with reading(back, "looking") as session:
        found = session.get_one(ConsoleAccount, "privacy-1")
    assert holds(vault, found)
    assert vault.open("privacy-1", found.totp) == "the authenticator's secret"
    assert Identities(back, vault).officer("https://id.bank.example", "kim") == "privacy-1"
    back.dispose()


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
    monkeypatch.setattr(restores, "now", life.log.clock)
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
