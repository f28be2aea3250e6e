"""What holds for all suites: how many threads they compute with, that nothing is timed, and their order. Files that start a whole federation are spread among the others, so that seldom two of them
share the machine."""

from __future__ import annotations

import os
from itertools import groupby

import pytest
import structlog
from hypothesis import settings

# An example that takes long on a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")

# Each worker and each process of a federation computes with one thread. With as many as there are cores in each of them, BLAS threads of
# small matrices wait for each other at full load: an audit takes three times as long.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def _logs_as_they_begin() -> None:
    """Whatever an earlier test had the logs do, this one hears them all."""
    structlog.reset_defaults()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Reorder whole files: `make test` hands them to its workers in this order."""
    files = [list(found) for _, found in groupby(items, key=lambda item: item.path)]
    engine = [found for found in files if found[0].get_closest_marker("engine")]
    others = [found for found in files if not found[0].get_closest_marker("engine")]
    if not engine or not others:
        return
    spread: list[list[pytest.Item]] = []
    for place, found in enumerate(engine):
        spread += [
            found,
            *others[place * len(others) // len(engine) : (place + 1) * len(others) // len(engine)],
        ]
    items[:] = [item for found in spread for item in found]
