"""Accounts that are not those a site last answered with: deleted, replaced or set back while its agent was down, they let nothing leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from client.accounts.book import AccountBook
from client.bootstrap import open_participant
from client.journal.entries import JournalBroken
from protos.frames import Stage
from protos.site import load_site
from tests.client.accounts_for_tests import filling, now, occasion
from tests.client.private_for_tests import PrivateSum, charged_on_disk, charges, private_bank
from tests.client.secure_for_tests import VICTIM, SecureBank, secure_bank

NOT_THOSE = "the accounts of this site are not those that it last answered with"


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with private_bank() as made:
        yield made


def accounts(bank: SecureBank) -> Path:
    return bank.folder / VICTIM / "accounts.db"


def site_file(bank: SecureBank) -> Path:
    return bank.folder / VICTIM / "site.yaml"


def answers(bank: SecureBank, attempt: int) -> None:
    """The sites mask their inputs to one more attempt, each charged for it."""
    asked = PrivateSum(bank, Stage.PREPARE, 0, attempt_number=attempt)
    asked.mask(asked.set_up())


def stopped(bank: SecureBank) -> Path:
    """End the site's process; its accounts then lie still."""
    bank._end(VICTIM)
    return accounts(bank)


def refuses_to_start(bank: SecureBank) -> None:
    with pytest.raises(JournalBroken, match=NOT_THOSE) as refusal:
        open_participant(site_file(bank))
    assert "put the right one back" in str(refusal.value)
    assert "tell the privacy officer" in str(refusal.value)


def book(bank: SecureBank, path: Path) -> AccountBook:
    return AccountBook.open(path, load_site(site_file(bank)).site, clock=now)


def charge(bank: SecureBank, path: Path, *numbers: int) -> None:
    """As another agent of the site does, or somebody with the same book on another disk."""
    rule = load_site(site_file(bank)).data["loans"].account
    assert rule is not None
    opened = book(bank, path)
    for number in numbers:
        opened.charge("loans", rule, filling(0.01, rule), occasion(number))
    opened.close()


def test_a_fresh_site_starts_and_so_does_one_that_has_answered(bank: SecureBank) -> None:
    bank.start(VICTIM)
    for attempt in (1, 2):
        answers(bank, attempt)
        bank.start(VICTIM)
    assert charges(bank) == [("prepare", 0, 1), ("prepare", 0, 2)]


def test_accounts_that_were_set_back_to_an_older_copy(bank: SecureBank) -> None:
    answers(bank, 1)
    path = stopped(bank)
    older = path.read_bytes()
    answers(bank, 2)
    newest = stopped(bank).read_bytes()
    assert charged_on_disk(path) == 2
    path.write_bytes(older)
    assert charged_on_disk(path) == 1
    refuses_to_start(bank)
    path.write_bytes(newest)  # as the refusal says
    open_participant(site_file(bank)).close()


def test_an_older_copy_from_before_the_first_charge(bank: SecureBank) -> None:
    bank.start(VICTIM)
    path = stopped(bank)
    older = path.read_bytes()
    answers(bank, 1)
    stopped(bank).write_bytes(older)
    refuses_to_start(bank)


def test_an_older_copy_that_was_charged_anew_is_as_long_and_not_the_same(bank: SecureBank) -> None:
    answers(bank, 1)
    path = stopped(bank)
    older = path.read_bytes()
    answers(bank, 2)
    stopped(bank).write_bytes(older)
    charge(bank, path, 1, 2, 3)
    refuses_to_start(bank)


def test_accounts_that_were_deleted(bank: SecureBank) -> None:
    answers(bank, 1)
    stopped(bank).unlink()
    refuses_to_start(bank)
    refuses_to_start(bank)  # the new file that the first start left does not do either


def test_accounts_that_were_replaced_by_others_with_more_in_them(bank: SecureBank) -> None:
    answers(bank, 1)
    stopped(bank).unlink()
    charge(bank, accounts(bank), *range(1, 9))
    refuses_to_start(bank)


def test_a_configuration_that_names_another_file(bank: SecureBank) -> None:
    answers(bank, 1)
    stopped(bank)
    with site_file(bank).open("a") as file:
        file.write("accounts: others.db\n")
    refuses_to_start(bank)


def test_charges_by_another_agent_since_are_no_harm(bank: SecureBank) -> None:
    answers(bank, 1)
    charge(bank, stopped(bank), 1, 2)
    bank.start(VICTIM)
    answers(bank, 2)
    bank.start(VICTIM)
    assert charged_on_disk(accounts(bank)) == 4


def test_before_the_first_answer_there_is_nothing_that_accounts_could_forget(bank: SecureBank) -> None:
    bank.start(VICTIM)
    stopped(bank).unlink()
    bank.start(VICTIM)
    answers(bank, 1)


def test_a_site_that_never_charged_may_lose_its_empty_accounts() -> None:
    """Without privacy: nothing was in them, so nothing is forgotten."""
    with secure_bank() as bank:
        assert bank.recorded(VICTIM) == 0
        stopped(bank).unlink()
        bank.start(VICTIM)
