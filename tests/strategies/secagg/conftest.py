"""Labels are remembered, and some controls make wrong ones."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from strategies.secagg import labels


@pytest.fixture(autouse=True)
def _fresh_labels() -> Iterator[None]:
    labels._beginning.cache_clear()
    yield
    labels._beginning.cache_clear()
