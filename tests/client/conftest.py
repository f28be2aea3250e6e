"""Banks under a secure plan, for whoever does not make one of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.client.secure_for_tests import SecureBank, secure_bank


@pytest.fixture
def bank(request: pytest.FixtureRequest) -> Iterator[SecureBank]:
    """Four sites, under the plan of a test that asks for one of its own."""
    with secure_bank(getattr(request, "param", None)) as made:
        yield made


@pytest.fixture(scope="module")
def standing() -> Iterator[SecureBank]:
    """A bank for tests that need an attempt of their own and nothing more: see `fresh`."""
    with secure_bank() as made:
        yield made
