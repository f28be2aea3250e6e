"""Whoever has a source, the plan and the contract makes the same population, and a file that is another one is refused."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from protos.plan import Plan
from simulation.cohorts.population import Population
from simulation.cohorts.sources import FileSource, Source, SyntheticSource
from simulation.partition import Dirichlet, Even
from strategies.errors import Refused, UsageError
from tests.client.loans_for_tests import CONTRACT, loans, plan
from tests.simulation.cohorts.cohorts_for_tests import MLP, filed, generated

SOME = np.array([0, 7, 999], dtype=np.int64)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    pq.write_table(loans(400), tmp_path / "rows.parquet")
    return tmp_path / "rows.parquet"


def sent(source: Source) -> Population:
    """The population that another process makes."""
    there: Source = pickle.loads(pickle.dumps(source.pinned()))
    return there.population(Plan.from_canonical(plan(model=MLP).canonical), CONTRACT)


def require_equal(one: Population, other: Population) -> None:
    mine, its = one.gathered(SOME), other.gathered(SOME)
    assert mine.counts.tolist() == its.counts.tolist()
    assert (mine.part.keys, mine.part.target.tolist()) == (its.part.keys, its.part.target.tolist())
    assert one.description == other.description


def test_a_source_that_was_sent_makes_the_same_clients(file: Path) -> None:
    require_equal(generated(), sent(SyntheticSource(1000, 20, 3)))
    require_equal(filed(Dirichlet(0.5)), sent(FileSource(file, Dirichlet(0.5), 1000, 20, 3)))


def test_a_pinned_file_is_found_from_any_folder(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(file.parent)
    pinned = FileSource(Path("rows.parquet"), Even(), 1000, 20, 3).pinned()
    monkeypatch.chdir("/")
    require_equal(filed(), pinned.population(plan(model=MLP), CONTRACT))


def test_another_file_under_the_same_name_is_refused(file: Path) -> None:
    free = FileSource(file, Even(), 1000, 20, 3)
    pinned = free.pinned()
    pq.write_table(loans(401), file)
    with pytest.raises(
        Refused, match=r"has SHA-256 [0-9a-f]{16}\.\.\., and the rows of this simulation have"
    ):
        pinned.population(plan(model=MLP), CONTRACT)
    assert "401 rows" in free.population(plan(model=MLP), CONTRACT).description


def test_a_file_that_is_not_there_cannot_be_pinned(file: Path) -> None:
    for path, why in ((file.with_name("gone.csv"), "does not exist"), (file.parent, "cannot be read")):
        with pytest.raises(UsageError, match=why):
            FileSource(path, Even(), 1000, 20, 3).pinned()
