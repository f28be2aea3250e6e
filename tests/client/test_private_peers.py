"""Whom a site must be in a noisy sum with: as many whom it knows as the noise that is charged for counts on."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from protos.frames import RefusalCode
from strategies.ids import SiteName
from tests.client.private_for_tests import PrivateSum, private_bank, private_plan
from tests.client.secure_for_tests import SITES, VICTIM, SecureBank, secure_bank, secure_plan

EAST, NORTH, SOUTH, WEST = SITES
SEMI_HONEST = {"aggregation: {mode: secure}": "aggregation: {adversary: semi-honest}"}
SEVEN = {
    "[east, north, south, west]": "[central, coast, east, north, ridge, south, west]",
    "minimum: 3": "minimum: 6",
}


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    """Under a semi-honest plan, in which a site may count strangers among the survivors; west knows east and north only."""
    with private_bank(private_plan(SEMI_HONEST)) as made:
        made.edit(VICTIM, "[east, north, south]", "[east, north]")
        yield made


def at_least(bank: SecureBank, changes: dict[str, str]) -> int:
    """How many peers the victim asks for under a plan, its own configuration asking for two."""
    bank.plan = private_plan(changes)
    site = bank.participant(VICTIM)
    run = site._secure._begun(site._accepted_documents(bank.task))
    return site._secure._peers_of(run).at_least


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (SEVEN, 4),  # six survivors less one colluding are five, of whom one is the site itself
        ({**SEVEN, "{mode: secure}": "{mode: secure, colluding: 0}"}, 5),
        ({**SEVEN, "{mode: secure}": "{mode: secure, colluding: 2}"}, 3),
    ],
)
def test_a_site_asks_for_as_many_peers_as_the_noise_counts_on_beside_itself(
    changes: dict[str, str], expected: int
) -> None:
    with private_bank(private_plan(SEVEN)) as bank:
        bank.edit(VICTIM, "purposes: [credit-risk]", "purposes: [credit-risk], colluding_at_least: 0")
        assert at_least(bank, changes) == expected


def test_its_own_configuration_may_ask_for_more_and_a_plan_without_noise_for_no_more_than_that() -> None:
    with private_bank(private_plan(SEVEN)) as bank:
        bank.edit(VICTIM, "at_least: 2", "at_least: 6")
        assert at_least(bank, SEVEN) == 6
    with private_bank() as bank:
        assert at_least(bank, {}) == 2
    with secure_bank(seven := secure_plan().model_copy(update={"sites": private_plan(SEVEN).sites})) as bank:
        site = bank.participant(VICTIM)
        run = site._secure._begun(site._accepted_documents(bank.task))
        assert (seven.honest_survivors, site._secure._peers_of(run).at_least) == (5, 2)


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
