"""The order of the suites: files that start a whole federation are spread among the others, so that seldom two of them share the machine."""

from __future__ import annotations

from itertools import groupby

import pytest


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
