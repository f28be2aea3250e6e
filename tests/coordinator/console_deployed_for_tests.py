"""A coordinator with its console, officers of every role, versions whose scores are those of real models on real rows, and targets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coordinator.db import writing
from coordinator.db.schema import Round, RoundState
from coordinator.documents import read_listed
from coordinator.governance.evidence import notes
from coordinator.governance.log import open_log
from coordinator.registry.signatures import sign_files
from coordinator.registry.versions import ModelVersion, register
from protos.log_entries import LogEntry, What
from protos.membership import Officer, Role
from protos.model_notes import NoteKind, state_note
from strategies.analytics.histograms import metrics_from, score_counts
from tests.coordinator.api_for_tests import BY_ROLE
from tests.coordinator.cli_for_tests import Command, commands_in, membership
from tests.coordinator.conftest import RUN
from tests.coordinator.console_for_tests import Pages, pages
from tests.coordinator.deploy_for_tests import NAME, Works, model_files
from tests.trust_for_tests import FAR, key_of, officers

HOSTILE = '"><img src=x onerror=alert(1)><script>alert(1)</script>'
MORE = {"author-1", "privacy-1", "risk-1"}
"""Officers that the works have already."""


@dataclass
class Desk:
    """The works of a bank, with its pages."""

    works: Works
    pages: Pages

    def registered(
        self, seed: int, *, champion: ModelVersion | None = None, metrics: bool = True
    ) -> ModelVersion:
        files, store = model_files(seed), self.works.centre
        found = scored(seed)
        if champion is not None:
            found["champion"] = dict(champion.metrics or {})
        return register(
            store.engine,
            store.artifacts,
            name=NAME,
            run_id=RUN,
            files=files,
            signed=sign_files(store.settings, files),
            weights=membership().digest,
            metrics=found if metrics else None,
            clock=store.clock,
        )

    def approved(self, seed: int) -> ModelVersion:
        """A version that the gate passed and two officers approved."""
        return self.works.approve(self.registered(seed))

    def states(self, version: ModelVersion, kind: NoteKind, text: str, name: str = "risk-1") -> None:
        listed = read_listed(self.works.centre.settings)
        note = state_note(
            kind,
            text,
            name,
            Role.MODEL_RISK,
            key_of(name),
            model=(version.name, version.version, version.digest),
            federation=listed.trusted.federation,
            at=self.works.centre.clock() - timedelta(seconds=1),
        )
        notes.record(self.works.centre, note, listed)


def scored(seed: int, rows: int = 4000) -> dict[str, Any]:
    """The metrics of a score that knows more with a higher seed."""
    source = np.random.default_rng(seed)
    labels = source.binomial(1, 0.22, rows)
    logit = source.normal(0.0, 1.0, rows) + (0.9 + 0.2 * seed) * labels - 1.4
    return asdict(metrics_from(score_counts(1.0 / (1.0 + np.exp(-logit)), labels, 50)))


def told(works: Works) -> list[What]:
    """What the log has."""
    log = open_log(works.centre.engine, works.centre.settings, works.centre.clock)
    return [LogEntry.from_canonical(each.body).what for each in log.entries()]


@contextmanager
def desk(home: Path, migrated: Path) -> Iterator[Desk]:
    """A desk whose officers have all roles, and whose run had two rounds over three sites."""
    works = Works.make_at(home, migrated)
    listed = read_listed(works.centre.settings).trusted.members
    people = tuple(
        Officer(name=name, roles=(role,), key=key_of(name).public, expires=FAR)
        for role, name in BY_ROLE.items()
        if name not in MORE
    )
    (home / "members.json").write_bytes(officers().sign(listed.next(officers=people)).canonical)
    with writing(works.centre.engine, "two rounds") as session:
        for number in (1, 2):
            session.add(_committed(number))
    with pages(works) as served:  # type: ignore[arg-type]
        yield Desk(works, served)


def _committed(number: int) -> Round:
    at, digest, sites = (
        datetime(2026, 11, 23, 12, number, tzinfo=UTC),
        "ab" * 32,
        ["midwest", "south", "west"],
    )
    return Round(
        run_id=RUN,
        number=number,
        attempt=1,
        state=RoundState.COMMITTED,
        roster=sites,
        survivors=sites,
        statement_digest=digest,
        aggregate_digest=digest,
        model_digest=digest,
        opened_at=at,
        closed_at=at,
    )


@pytest.fixture
def at(tmp_path: Path, migrated_sqlite: Path) -> Iterator[Desk]:
    """A desk of its own for one test."""
    with desk(tmp_path / "home", migrated_sqlite) as made:
        yield made


@pytest.fixture
def covenant(
    at: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    """Commands in the home of that desk."""
    monkeypatch.setenv("COVENANT_HOME", str(at.works.centre.settings.home))
    return commands_in(tmp_path, monkeypatch, capsys)
