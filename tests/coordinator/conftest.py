"""A fresh database for every test, on SQLite and on a real PostgreSQL; and federations under secure aggregation."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import structlog
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError
from structlog.testing import capture_logs

from coordinator.db import migrate, open_database, writing
from coordinator.db.schema import Run, RunState
from coordinator.registry.artifacts import ArtifactStore
from protos.plan import Plan
from simulation.experiment import memory_folder
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


@pytest.fixture
def postgres_url() -> Iterator[str]:
    """The URL of a database made for this test and dropped after it."""
    url = make_url(os.environ.get(POSTGRES_VARIABLE, POSTGRES_DEFAULT))
    server = create_engine(url, isolation_level="AUTOCOMMIT", connect_args={"timeout": 10})
    name = f"covenant_{secrets.token_hex(8)}"
    try:
        with server.connect() as connection:
            connection.execute(text(f"CREATE DATABASE {name}"))
    except DBAPIError as error:
        reason = f"no PostgreSQL at {url.render_as_string()} ({POSTGRES_VARIABLE}): {error.orig}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    try:
        yield url.set(database=name).render_as_string(hide_password=False)
    finally:
        with server.connect() as connection:
            connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
        server.dispose()


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def database_url(request: pytest.FixtureRequest) -> str:
    name = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(name)
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
    engine = opened()
    migrate(engine)
    return engine


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
