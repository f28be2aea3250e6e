"""A fresh database for every test, on SQLite and on a real PostgreSQL; and federations under secure aggregation."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory

import pytest
import structlog
from sqlalchemy import URL, Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from coordinator.db import migrate, open_database, writing
from coordinator.db.schema import Base, Run, RunState
from coordinator.registry.artifacts import ArtifactStore
from protos.plan import Plan
from simulation.world.folders import memory_folder
from strategies.encoding import vector_digest
from strategies.ids import Digest, RunId
from tests.coordinator.secure_for_tests import FOUR, SEVEN, Secured, Template, secure_plan
from tests.coordinator.sums_for_tests import Make

POSTGRES_VARIABLE = "COVENANT_TEST_POSTGRES"
POSTGRES_DEFAULT = "postgresql+pg8000://postgres@127.0.0.1:5432/test"
RUN = RunId("run-0123456789abcdef")
DIGEST = "ab" * 32


@dataclass
class Clock:
    """Advances by one second at every look, so that order shows in the rows."""

    now: datetime = field(default_factory=lambda: datetime(2026, 11, 23, 12, 0, tzinfo=UTC))

    def __call__(self) -> datetime:
        self.now += timedelta(seconds=1)
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'covenant.db'}"


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[Engine]:
    """The server on which tests make their databases; skips where there is none, and fails in CI."""
    url = make_url(os.environ.get(POSTGRES_VARIABLE, POSTGRES_DEFAULT))
    server = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 10})
    try:
        server.connect().close()
    except DBAPIError as error:
        reason = f"no PostgreSQL at {url.render_as_string()} ({POSTGRES_VARIABLE}): {error.orig}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    yield server
    server.dispose()


@contextmanager
def postgres_database(server: Engine) -> Iterator[URL]:
    """A database for the time being."""
    name = f"covenant_{secrets.token_hex(8)}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    try:
        yield server.url.set(database=name)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))


@pytest.fixture
def postgres_url(postgres_server: Engine) -> Iterator[str]:
    """The URL of a database made for this test and dropped after it."""
    with postgres_database(postgres_server) as url:
        yield url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database as the migrations leave it: they take longer than most tests."""
    path = tmp_path_factory.mktemp("migrated") / "covenant.db"
    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    engine.dispose()
    return path


_EMPTY = """DO $$ DECLARE each regclass; BEGIN
    SET LOCAL session_replication_role = replica;
    FOR each IN SELECT oid FROM pg_class WHERE relkind = 'r' AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version' LOOP
        EXECUTE 'DELETE FROM ' || each;
    END LOOP;
    FOR each IN SELECT oid FROM pg_class WHERE relkind = 'S' AND relnamespace = 'public'::regnamespace LOOP
        PERFORM setval(each, 1, false);
    END LOOP;
END $$"""
_SCHEMA = """SELECT (SELECT version_num FROM alembic_version), (SELECT count(*) FROM pg_class), (SELECT count(*) FROM pg_attribute),
    (SELECT count(*) FROM pg_constraint), (SELECT count(*) FROM pg_trigger), (SELECT count(*) FROM pg_proc)"""
_OTHERS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"


@dataclass
class Reused:
    """One migrated database for many tests, emptied before each: to make one takes PostgreSQL longer than most tests."""

    server: Engine
    _made: ExitStack = field(default_factory=ExitStack)
    _url: URL | None = None
    _schema: tuple[object, ...] = ()
    _rows: dict[str, list[dict[str, object]]] = field(default_factory=dict)
    """What migrations wrote."""

    def emptied(self) -> str:
        """Its URL. A database whose schema a test has changed is made anew."""
        if self._url is not None and not self._as_it_was(self._url):
            self.drop()
        if self._url is None:
            self._url = self._made.enter_context(postgres_database(self.server))
            engine = open_database(self._text(self._url))
            migrate(engine)
            with engine.connect() as connection:
                self._schema = tuple(connection.execute(text(_SCHEMA)).one())
                for table in Base.metadata.sorted_tables:
                    self._rows[table.name] = [
                        dict(row) for row in connection.execute(table.select()).mappings()
                    ]
            engine.dispose()
        return self._text(self._url)

    def drop(self) -> None:
        self._made.close()
        self._url = None

    def _as_it_was(self, url: URL) -> bool:
        engine = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 10})
        try:
            with engine.connect() as connection:
                connection.execute(text(_OTHERS))
                connection.execute(text(_EMPTY))
                for table in Base.metadata.sorted_tables:
                    if self._rows[table.name]:
                        connection.execute(table.insert(), self._rows[table.name])
                return tuple(connection.execute(text(_SCHEMA)).one()) == self._schema
        except DBAPIError:
            return False
        finally:
            engine.dispose()

    @staticmethod
    def _text(url: URL) -> str:
        return url.render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def reused_postgres(postgres_server: Engine) -> Iterator[Reused]:
    reused = Reused(postgres_server)
    yield reused
    reused.drop()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    """A database without a table; a migrated one for a test that takes `engine`."""
    migrated = "engine" in request.fixturenames
    if request.param == "postgresql":
        return (
            request.getfixturevalue("reused_postgres").emptied()
            if migrated
            else request.getfixturevalue("postgres_url")
        )
    url: str = request.getfixturevalue("sqlite_url")
    if migrated:
        copyfile(request.getfixturevalue("migrated_sqlite"), str(make_url(url).database))
    return url


@pytest.fixture
def opened(database_url: str) -> Iterator[Callable[..., Engine]]:
    """Opens further engines on the test's database and closes them before it is dropped."""
    engines: list[Engine] = []

    def another(**options: float) -> Engine:
        engines.append(open_database(database_url, **options))
        return engines[-1]

    yield another
    for engine in engines:
        engine.dispose()


@pytest.fixture
def engine(opened: Callable[..., Engine]) -> Engine:
    """A migrated database."""
    return opened()


@pytest.fixture
def artifacts(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "artifacts")


def submitted(run_id: RunId = RUN) -> Run:
    """A run as the control plane submits it."""
    return Run(
        id=run_id,
        plan_name="lending-default",
        plan_digest=DIGEST,
        plan="{}",
        contract="{}",
        members="{}",
        state=RunState.SUBMITTED,
        submitted_at=datetime(2026, 11, 23, 11, 0, tzinfo=UTC),
    )


@pytest.fixture
def run(engine: Engine) -> RunId:
    with writing(engine, "submitting") as session:
        session.add(submitted())
    return RUN


# Federations under secure aggregation.


@pytest.fixture(scope="session")
def federations() -> Iterator[Path]:
    """Where the federations lie: in memory if that can be, because here no power is cut and every commit would wait for a disk."""
    with TemporaryDirectory(prefix="covenant-secure-", dir=memory_folder()) as name:
        yield Path(name)


@pytest.fixture(scope="session")
def four(federations: Path) -> Template:
    return Template(federations / "four", FOUR)


@pytest.fixture(scope="session")
def seven(federations: Path) -> Template:
    return Template(federations / "seven", SEVEN)


@pytest.fixture
def make(four: Template, seven: Template, federations: Path) -> Iterator[Make]:
    made: list[Secured] = []
    with TemporaryDirectory(dir=federations) as name:

        def build(plan: Plan, *, begun: bool = False) -> Secured:
            template = four if set(plan.sites.invite) <= set(FOUR) else seven
            made.append(template.copy(Path(name) / "federation", plan))
            if begun:
                made[-1].begin()
            return made[-1]

        yield build
        for each in made:
            each.close()


@pytest.fixture(scope="session")
def undisturbed(four: Template, federations: Path) -> Digest:
    """The model of two rounds in which nothing went wrong."""
    federation = four.copy(federations / "undisturbed", secure_plan(rounds=2, every=1))
    finished = federation.drive()
    federation.close()
    return vector_digest(finished.model)


@pytest.fixture
def heard() -> Iterator[list[dict[str, object]]]:
    """What the log is told, whatever another test has made of its settings."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(0))
    with capture_logs() as lines:
        yield lines  # type: ignore[misc]
    structlog.configure(**before)
