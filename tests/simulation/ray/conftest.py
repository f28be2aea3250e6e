"""One Ray cluster for all tests that need one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.simulation.ray.ray_for_tests import RayCluster


@pytest.fixture(scope="session")
def cluster() -> Iterator[RayCluster]:
    """One for all: a head and a second node."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        made = RayCluster(Path(folder))
        try:
            made.start()
            yield made
        finally:
            left = made.stop()
        assert left == {}
