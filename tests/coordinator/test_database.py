"""The database keeps what was committed, says clearly what went wrong, and has the schema that the code believes."""

import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import Column, Engine, Integer, LargeBinary, MetaData, Table, event, inspect, select, text
from sqlalchemy.exc import DBAPIError, StatementError

from coordinator.db import migrate, open_database, reading, writing
from coordinator.db.log_schema import LoggedEntry, LoggedSubject
from coordinator.db.migrate import upgrade
from coordinator.db.schema import Base, Checkpoint, Model, Round, RoundState, Run, Site, Stage
from protos.log_entries import LogEntry
from protos.log_subjects import subjects_of
from simulation.bench.log_story import LogStory
from strategies.errors import CovenantError, Unreachable, UsageError
from tests.coordinator.conftest import DIGEST, RUN, submitted

ALEMBIC_TABLE = "alembic_version"
# pg8000 reports only unique keys as IntegrityError, so the text tells.
VIOLATED = r"constraint failed|violates"


def described(engine: Engine) -> dict[str, Any]:
    """Everything reflection can see, check constraints and partial indexes included, in a comparable order."""
    look = inspect(engine)

    def tidy(items: list[Any]) -> list[str]:
        return sorted(repr(sorted(item.items(), key=lambda pair: pair[0])) for item in items)

    def texts(options: dict[str, Any] | None) -> list[str]:
        return sorted(f"{key}: {value}" for key, value in (options or {}).items())

    return {
        table: {
            "columns": tidy([{**c, "type": repr(c["type"])} for c in look.get_columns(table)]),
            "primary key": look.get_pk_constraint(table),
            "foreign keys": tidy(look.get_foreign_keys(table)),
            "checks": tidy(look.get_check_constraints(table)),
            "unique": tidy(look.get_unique_constraints(table)),
            "indexes": tidy(
                [{**i, "dialect_options": texts(i.get("dialect_options"))} for i in look.get_indexes(table)]
            ),
        }
        for table in sorted(look.get_table_names())
        if table != ALEMBIC_TABLE
    }


def test_migrated_schema_has_no_difference_from_the_models(engine: Engine) -> None:
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": True}
        )
        assert compare_metadata(context, Base.metadata) == []


def test_migrated_schema_equals_the_created_one_in_checks_and_partial_indexes(engine: Engine) -> None:
    migrated = described(engine)
    ledger = {f"ledger_{name}" for name in ("accounts", "alerts", "ceilings", "entries", "releases")}
    recovery = {"adopted_charges", "adopted_sites", "restores"}
    log = {"log_checkpoints", "log_entries", "log_forks", "log_subjects", "witness_statements"}
    office = {"plans", "plan_comments", "requests", "accesses", "invitations"}
    halts = {"halts", "leadership"}
    policies = {"policy_packs", "policy_judgements"}
    registry = {"model_aliases", "model_moves", "model_notes", "model_statements", "model_verdicts"}
    deploy = {
        "deploy_orders",
        "deploy_targets",
        "recalls",
        "releases",
        "rollouts",
        "running",
        "running_events",
    }
    console = {f"console_{name}" for name in ("accounts", "drafts", "identities", "links", "sessions")}
    core = {"attempts", "checkpoints", "models", "rounds", "runs", "sites"}
    progress = {"site_exchanges", "sites_heard"}
    monitors = {"alert_outbox", "drift_alarms", "drift_monitors", "drift_windows"}
    expected = (core, ledger, log, halts, office, recovery, registry, policies, deploy, console)
    assert set(migrated) == set().union(*expected, progress, monitors, {"retraining_drafts"})
    with engine.begin() as connection:
        Base.metadata.drop_all(connection)
        Base.metadata.create_all(connection)
    assert described(engine) == migrated


def test_migrating_a_current_database_changes_nothing(engine: Engine) -> None:
    with writing(engine, "submitting") as session:
        session.add(submitted())
    migrate(engine)
    with reading(engine, "looking") as session:
        assert session.get(Run, RUN) is not None


def test_models_of_before_there_were_stages_keep_what_they_are(opened: Callable[..., Engine]) -> None:
    engine = opened()
    with engine.begin() as connection:
        upgrade(connection, "0012")
        columns = "id, plan_name, plan_digest, plan, contract, members, state, submitted_at, idle_starts"
        values = f"'{RUN}', 'm', '{'ab' * 32}', '{{}}', '{{}}', '{{}}', 'completed', '2026-01-01 00:00:00', 0"
        connection.execute(text(f"INSERT INTO runs ({columns}) VALUES ({values})"))
        columns = "name, version, stage, run_id, digest, artifacts, created_at"
        values = f"'m', 1, 'candidate', '{RUN}', '{'cd' * 32}', '{{}}', '2026-01-01 00:00:00'"
        connection.execute(text(f"INSERT INTO models ({columns}) VALUES ({values})"))
    migrate(engine)
    with writing(engine, "moving") as session:
        row = session.get_one(Model, ("m", 1))
        assert (row.stage, row.digest, row.signature) == (Stage.CANDIDATE, "cd" * 32, None)
        row.stage = Stage.QUARANTINED
    worse = text("UPDATE models SET stage = 'better'")
    with pytest.raises(DBAPIError, match="ck_models_stage"), engine.begin() as connection:
        connection.execute(worse)


def test_entries_of_before_there_were_subjects_are_found_by_them(opened: Callable[..., Engine]) -> None:
    engine, bodies = opened(), list(LogStory().entries(1200))
    with engine.begin() as connection:
        upgrade(
            connection, import_module("coordinator.db.migrations.versions.0020_log_subjects").down_revision
        )
        connection.execute(
            LoggedEntry.__table__.insert().values(
                [
                    {
                        "seq": seq,
                        "kind": "any",
                        "at": datetime(2026, 1, 1, tzinfo=UTC),
                        "body": body,
                        "nodes": b"",
                    }
                    for seq, body in enumerate(bodies)
                ]
            )
        )
    migrate(engine)
    with reading(engine, "looking") as session:
        found = {(row.subject, row.seq) for row in session.scalars(select(LoggedSubject))}
    assert found == {
        (each.key, seq)
        for seq, body in enumerate(bodies)
        for each in subjects_of(LogEntry.from_canonical(body).what)
    }


def test_two_who_migrate_at_once_take_turns(opened: Callable[..., Engine]) -> None:
    failures: list[BaseException] = []

    def one() -> None:
        try:
            migrate(opened())
        except CovenantError as error:
            failures.append(error)

    threads = [threading.Thread(target=one) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_database_of_a_newer_version_is_refused(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(CovenantError, match=r"a revision this version does not know .*9999.* newer"):
        migrate(engine)


def test_a_migration_that_fails_leaves_no_table(opened: Callable[..., Engine]) -> None:
    engine = opened()
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE models (name TEXT)"))  # the last table the migration makes
    with pytest.raises(Exception, match="models"):
        migrate(engine)
    assert inspect(engine).get_table_names() == ["models"]


@pytest.mark.parametrize(
    ("version", "journal_mode", "synchronous"), [((3, 51, 2), "delete", 3), ((3, 51, 3), "wal", 2)]
)
def test_sqlite_keeps_a_commit_through_a_power_cut(
    sqlite_url: str,
    monkeypatch: pytest.MonkeyPatch,
    version: tuple[int, int, int],
    journal_mode: str,
    synchronous: int,
) -> None:
    monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
    with closing(open_database(sqlite_url).raw_connection()) as connection:
        cursor = connection.cursor()
        settings = {
            name: cursor.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")
        }
    assert settings == {
        "journal_mode": journal_mode,
        "synchronous": synchronous,
        "foreign_keys": 1,
        "busy_timeout": 10_000,
    }


def test_a_row_that_names_no_run_is_rejected(engine: Engine) -> None:
    with pytest.raises(DBAPIError, match=VIOLATED), writing(engine, "writing") as session:
        session.add(Checkpoint(run_id=RUN, round=0, model_artifact=DIGEST, optimizer_artifact=DIGEST))


def test_the_database_itself_rejects_a_second_open_or_committed_attempt(engine: Engine) -> None:
    closed = {
        "survivors": ["west"],
        "statement_digest": DIGEST,
        "aggregate_digest": DIGEST,
        "model_digest": DIGEST,
        "closed_at": datetime.now(UTC),
    }
    with writing(engine, "submitting") as session:
        session.add(submitted())
    for state, facts in ((RoundState.OPEN, {}), (RoundState.COMMITTED, closed)):
        rows = [
            Round(
                run_id=RUN,
                number=1,
                attempt=n,
                state=state,
                roster=["west"],
                opened_at=datetime.now(UTC),
                **facts,
            )
            for n in (1, 2)
        ]
        with pytest.raises(DBAPIError, match=VIOLATED), writing(engine, "opening") as session:
            session.add_all(rows)


def test_the_database_itself_rejects_a_committed_round_without_its_digests(engine: Engine) -> None:
    bare = Round(
        run_id=RUN,
        number=1,
        attempt=1,
        state=RoundState.COMMITTED,
        roster=["west"],
        opened_at=datetime.now(UTC),
    )
    with writing(engine, "submitting") as session:
        session.add(submitted())
    with pytest.raises(DBAPIError, match=VIOLATED), writing(engine, "opening") as session:
        session.add(bare)


def test_times_come_back_aware_and_in_utc_and_ids_unsigned(engine: Engine) -> None:
    local = datetime(2026, 3, 1, 9, 30, 0, 123456, tzinfo=timezone(timedelta(hours=-5)))
    site = Site(
        name="west",
        identity_key="i",
        node_key="n",
        node_id=2**64 - 1,
        members_ref="demo@1",
        enrolled_at=local,
    )
    with writing(engine, "enrolling") as session:
        session.add(site)
    with reading(engine, "looking") as session:
        found = session.scalars(select(Site)).one()
    assert found.enrolled_at == local
    assert found.enrolled_at.tzinfo is UTC
    assert found.node_id == 2**64 - 1


@pytest.mark.parametrize(
    ("field", "value"),
    [("enrolled_at", datetime(2026, 1, 1)), ("node_id", 2**64), ("node_id", -1)],  # noqa: DTZ001
)
def test_naive_times_and_ids_beyond_64_bits_are_rejected(sqlite_url: str, field: str, value: object) -> None:
    engine = open_database(sqlite_url)
    migrate(engine)
    facts = {"name": "west", "identity_key": "i", "node_key": "n", "members_ref": "demo@1"}
    with pytest.raises(StatementError), writing(engine, "enrolling") as session:
        session.add(Site(**{**facts, "enrolled_at": datetime.now(UTC), field: value}))


def test_reading_does_not_wait_for_a_writer(engine: Engine, opened: Callable[..., Engine]) -> None:
    other = opened(lock_timeout_s=0.2)
    with writing(engine, "submitting") as session:
        session.add(submitted())
        session.flush()
        with reading(other, "looking") as view:
            assert view.get(Run, RUN) is None


def test_a_password_where_nothing_hides_it_is_refused_and_not_repeated() -> None:
    with pytest.raises(UsageError, match="a password after its `\\?`") as refused:
        open_database("postgresql+pg8000://db.example/covenant?password=hunter22")
    assert "hunter22" not in str(refused.value)


def test_full_disk_under_sqlite_is_one_sentence_and_nothing_is_half_written(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    migrate(engine)
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite:///"))) as direct:
        pages = direct.execute("PRAGMA page_count").fetchone()[0]
    engine.dispose()

    @event.listens_for(engine, "connect")
    def fill(connection: sqlite3.Connection, _: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    big = submitted()
    big.plan = "x" * 100_000
    site = Site(name="w", identity_key="i", node_key="n", members_ref="d@1", enrolled_at=datetime.now(UTC))

    def enrol_and_submit() -> None:
        with writing(engine, "submitting the run") as session:
            session.add(site)
            session.flush()
            session.add(big)

    with pytest.raises(CovenantError) as caught:
        enrol_and_submit()
    assert str(caught.value) == (
        f"submitting the run: the database {engine.url.database} has no space left; nothing of this step was kept; "
        "free space on its volume, then run the command again"
    )
    assert "SQLITE_FULL" in repr(getattr(caught.value.__cause__.orig, "sqlite_errorname", ""))
    with reading(engine, "looking") as session:
        assert session.scalars(select(Run)).all() == []
        assert session.scalars(select(Site)).all() == []
    small = submitted()
    with writing(engine, "submitting the run") as session:  # the engine is usable afterwards
        session.add(small)


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("code", "sentence", "kind"),
    [
        ("53100", "has no space left; nothing of this step was kept; free space", CovenantError),
        ("53300", "accepts no more connections", Unreachable),
        ("25006", "does not allow this user", CovenantError),
        ("58030", "by the operating system", CovenantError),
        ("XX001", "restore it from the latest backup", CovenantError),
        ("57P01", "cannot be reached", Unreachable),
        ("40P01", "is locked by another transaction", CovenantError),
    ],
)
def test_postgres_failures_are_one_sentence(
    postgres_url: str, code: str, sentence: str, kind: type[CovenantError]
) -> None:
    engine = open_database(postgres_url)
    raising = text(f"DO $$ BEGIN RAISE EXCEPTION 'boom' USING ERRCODE = '{code}'; END $$")
    with (
        pytest.raises(kind, match=f"^submitting: the database .*{sentence}"),
        writing(engine, "submitting") as session,
    ):
        session.execute(raising)
    engine.dispose()


@pytest.mark.postgres
def test_postgres_rights_and_logins_are_explained(postgres_url: str) -> None:
    engine = open_database(postgres_url)
    migrate(engine)

    def look_as_a_stranger() -> None:
        with writing(engine, "looking") as session:
            session.execute(text("SET LOCAL ROLE pg_monitor"))
            session.execute(text("SELECT * FROM runs"))

    with pytest.raises(CovenantError, match="does not allow this user"):
        look_as_a_stranger()
    engine.dispose()
    absent = open_database(postgres_url + "x")
    with pytest.raises(CovenantError, match="refused the login"), reading(absent, "looking") as session:
        session.execute(text("SELECT 1"))


@pytest.mark.postgres
def test_a_server_that_drops_the_connection_is_unreachable_and_what_was_kept_is_left_open(
    postgres_url: str,
) -> None:
    engine, killer = open_database(postgres_url), open_database(postgres_url)

    def lose_the_server() -> None:
        with writing(engine, "committing") as session:
            process = session.scalar(text("SELECT pg_backend_pid()"))
            with writing(killer, "killing") as other:
                other.execute(text("SELECT pg_terminate_backend(:process)"), {"process": process})
            session.execute(text("SELECT 1"))

    with pytest.raises(Unreachable, match="may or may not have been kept"):
        lose_the_server()
    with reading(engine, "looking") as session:  # the pool replaces the dead connection
        assert session.scalar(text("SELECT 1")) == 1
    engine.dispose()
    killer.dispose()


def test_an_absent_server_is_unreachable_and_its_password_is_not_told() -> None:
    engine = open_database("postgresql://covenant:s3cret@127.0.0.1:1/covenant")
    with (
        pytest.raises(Unreachable, match=r"cannot be reached") as caught,
        reading(engine, "looking") as session,
    ):
        session.execute(text("SELECT 1"))
    assert "s3cret" not in str(caught.value)


def test_a_lock_held_too_long_is_explained(engine: Engine, opened: Callable[..., Engine]) -> None:
    with writing(engine, "submitting") as session:
        session.add(submitted())
    impatient = opened(lock_timeout_s=0.2)
    with writing(engine, "holding") as holder:
        holder.execute(text("UPDATE runs SET reason = 'held'"))
        with (
            pytest.raises(CovenantError, match=r"locked by another transaction"),
            writing(impatient, "waiting") as late,
        ):
            late.execute(text("UPDATE runs SET reason = 'late'"))
    with reading(engine, "looking") as session:
        assert session.scalar(select(Run.reason)) == "held"


def test_a_missing_migration_is_explained(opened: Callable[..., Engine]) -> None:
    with (
        pytest.raises(CovenantError, match="run covenant db migrate"),
        reading(opened(), "looking") as session,
    ):
        session.scalars(select(Run)).all()


def test_sqlite_files_that_cannot_be_used_are_explained(tmp_path: Path) -> None:
    (tmp_path / "letter.db").write_text("Dear customer, this is not a database at all." * 30)
    cases = {
        f"sqlite:///{tmp_path}/absent/covenant.db": "create its folder",
        f"sqlite:///{tmp_path}/letter.db": "is not a database; .* restore it",
    }
    for url, sentence in cases.items():
        with pytest.raises(CovenantError, match=sentence):
            migrate(open_database(url))
    database = tmp_path / "covenant.db"
    migrate(open_database(f"sqlite:///{database}"))
    locked = open_database(f"sqlite:///file:{database}?mode=ro&uri=true")
    with (
        pytest.raises(CovenantError, match="does not allow this user"),
        writing(locked, "submitting") as session,
    ):
        session.add(submitted())


@pytest.mark.parametrize("url", ["mysql://u:s3cret@h/d", "s3cret", "postgresql+psycopg2://u:s3cret@h/d"])
def test_another_kind_of_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageError, match="use sqlite:///") as caught:
        open_database(url)
    assert "s3cret" not in str(caught.value)


def test_a_connection_of_sqlite_that_was_given_megabytes_is_closed_after_its_transaction(
    sqlite_url: str,
) -> None:
    """Its statement, which is cached, would hold a copy of them."""
    engine = open_database(sqlite_url)

    def connected(given: bytes) -> object:
        with engine.begin() as connection:
            connection.execute(text("SELECT length(:given)"), {"given": given})
            return connection.connection.driver_connection

    first = connected(b"small")
    assert connected(bytes(1 << 20)) is first
    assert connected(bytes((1 << 20) + 1)) is first
    second = connected(b"small")
    assert second is not first
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        first.execute("SELECT 1")  # type: ignore[attr-defined]
    assert connected(b"small") is second


_MEBIBYTE = 1 << 20


@pytest.mark.parametrize(
    ("given", "is_large"),
    [
        ((memoryview(bytes(_MEBIBYTE + 1)),), True),
        ((memoryview(bytes(2 * _MEBIBYTE)).cast("d"),), True),
        ((bytearray(_MEBIBYTE + 1),), True),
        (("x" * (_MEBIBYTE + 1),), True),
        ({"given": bytes(_MEBIBYTE + 1)}, True),
        ([(1, b"small"), (2, memoryview(bytes(_MEBIBYTE + 1)))], True),
        ((memoryview(bytes(_MEBIBYTE)), 1, None), False),
        ([(1, b"small"), (2, b"small")], False),
        ((), False),
    ],
)
def test_megabytes_are_seen_in_whatever_form_a_statement_is_given_them(
    sqlite_url: str, given: Any, is_large: bool
) -> None:
    engine = open_database(sqlite_url)
    closed: list[object] = []
    event.listen(engine, "close", lambda connection, _: closed.append(connection))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (number INTEGER, value BLOB)")
        match given:
            case list():
                connection.exec_driver_sql("INSERT INTO kept VALUES (?, ?)", given)
            case dict():
                connection.exec_driver_sql("INSERT INTO kept VALUES (1, :given)", given)
            case _:
                connection.exec_driver_sql(f"SELECT 1 {', ?' * len(given)}", given)
    assert bool(closed) == is_large


def test_megabytes_in_rows_that_are_written_with_one_statement_are_seen(sqlite_url: str) -> None:
    """SQLAlchemy gives them as one row, and calls it many."""
    engine = open_database(sqlite_url)
    table = Table("kept", MetaData(), Column("id", Integer, primary_key=True), Column("value", LargeBinary))
    closed: list[object] = []
    event.listen(engine, "close", lambda connection, _: closed.append(connection))
    for size in (1, _MEBIBYTE + 1):
        assert not closed
        with engine.begin() as connection:
            table.create(connection, checkfirst=True)
            rows = [{"value": b"small"}, {"value": bytes(size)}]
            connection.execute(table.insert().returning(table.c.id), rows)
    assert len(closed) == 1


def test_megabytes_of_a_statement_that_failed_are_given_up_too(sqlite_url: str) -> None:
    engine = open_database(sqlite_url)
    closed: list[object] = []
    event.listen(engine, "close", lambda connection, _: closed.append(connection))
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (value BLOB CHECK (length(value) < 10))")
    with pytest.raises(DBAPIError), engine.begin() as connection:
        connection.exec_driver_sql("INSERT INTO kept VALUES (?)", (bytes(2 * _MEBIBYTE),))
    assert len(closed) == 1
