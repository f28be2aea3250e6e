"""Whom a site must be in a noisy sum with: as many whom it knows as the noise that is charged for counts on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.frames import RefusalCode
from strategies.ids import SiteName
from tests.client.private_for_tests import PrivateSum, private_bank, private_plan
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank

EAST, NORTH, SOUTH, WEST = SITES
SEMI_HONEST = {"aggregation: {mode: secure}": "aggregation: {adversary: semi-honest}"}


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    """Under a semi-honest plan, in which a site may count strangers among the survivors; west knows east and north only."""
    with private_bank(private_plan(SEMI_HONEST)) as made:
        made.edit(VICTIM, "[east, north, south]", "[east, north]")
        yield made


@pytest.mark.parametrize("lost", [EAST, NORTH])
def test_a_sum_whose_survivors_leave_too_few_that_it_knows_is_not_unmasked(
    bank: SecureBank, lost: SiteName
) -> None:
    """Strangers may collude, and then take their noise off again."""
    asked = PrivateSum(bank)
    step = asked.confirm(asked.mask(asked.set_up(), [each for each in SITES if each != lost]))
    refusal = bank.refusal(VICTIM, asked.request(step.request))
    assert refusal.code is RefusalCode.PROTOCOL
    assert "of 3 survivors this site recognises 1 and itself; 3 are needed" in refusal.reason


@pytest.mark.parametrize("lost", [None, SOUTH])
def test_with_enough_that_it_knows_it_is(bank: SecureBank, lost: SiteName | None) -> None:
    """The control."""
    asked = PrivateSum(bank)
    step = asked.confirm(asked.mask(asked.set_up(), [each for each in SITES if each != lost]))
    assert asked.unmask(step).any()


def test_strangers_do_not_count_from_the_start(bank: SecureBank) -> None:
    """Nor is anything charged for such a sum: the roster is looked at before."""
    roster = (EAST, SOUTH, WEST)
    asked = PrivateSum(bank, roster=roster)
    refusal = bank.refusal(VICTIM, asked.mask_request(asked.set_up(), VICTIM))
    assert "this site recognises 1 and itself" in refusal.reason
    assert bank.participant(VICTIM).book.charges("loans", private_plan().privacy.unit.unit) == ()  # type: ignore[union-attr]
