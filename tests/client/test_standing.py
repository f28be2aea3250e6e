"""A site's own word on how it stands: heeded at the next message, signed in every refusal, and forgetting nothing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from client.accounts.book import AccountBook
from client.accounts.settled import Settled, restore
from client.bootstrap import open_accounts, open_standing
from client.cli import app as agent
from client.standing import StandingBook
from protos.frames import RefusalCode
from protos.shell import run_command
from protos.site import load_site
from strategies.dp.budget import BudgetRefused
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import Refused, UsageError
from strategies.ids import Digest, RunId, SiteName
from tests.client.accounts_for_tests import filling, occasion, rule
from tests.client.secure_for_tests import RUN, SITES, SecureBank, Sum, secure_bank

SITE = SITES[0]
OTHER = RunId("run-00000000000000aa")
RULE = rule()
RELEASE = filling(0.1)


@pytest.fixture
def bank() -> Iterator[SecureBank]:
    with secure_bank() as made:
        yield made


def command(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        run_command(lambda: agent(list(arguments), standalone_mode=False))
    assert isinstance(left.value.code, int)
    return left.value.code


def file(bank: SecureBank) -> Path:
    return bank.folder / SITE / "site.yaml"


def say(bank: SecureBank, *arguments: str) -> None:
    """A command at the site, while its agent runs."""
    assert command(*arguments, "--config", str(file(bank)), "--reason", "change of hardware") == 0


def refused(bank: SecureBank) -> tuple[RefusalCode, str]:
    refusal = bank.refusal(SITE, Sum(bank).advertise_request())
    assert refusal.signature
    return refusal.code, refusal.reason


def answers(bank: SecureBank) -> bool:
    return bool(bank.steps(SITE, Sum(bank).advertise_request()))


def test_a_suspended_site_is_away_until_it_returns(bank: SecureBank) -> None:
    assert answers(bank)
    say(bank, "suspend")
    code, reason = refused(bank)
    assert code is RefusalCode.AWAY  # which does not end its part in the run
    assert "change of hardware" in reason
    assert command("suspend", "--config", str(file(bank)), "--reason", "again") == 3
    say(bank, "return")
    assert answers(bank)


def test_who_withdraws_from_a_run_answers_others(bank: SecureBank) -> None:
    say(bank, "withdraw", RUN)
    code, reason = refused(bank)
    assert code is RefusalCode.POLICY
    assert f"has withdrawn from {RUN}" in reason
    with closing(open_standing(load_site(file(bank)))) as book:
        book.require_taking_part(OTHER)
    bank.start(SITE)  # it is on disk
    assert refused(bank)[0] is RefusalCode.POLICY


def test_who_leaves_refuses_everything_and_returns_to_the_same_accounts(bank: SecureBank) -> None:
    say(bank, "leave")
    code, reason = refused(bank)
    assert code is RefusalCode.POLICY
    assert "has left the federation" in reason
    assert command("leave", "--config", str(file(bank)), "--reason", "again") == 3
    say(bank, "return")
    assert answers(bank)


class DiesError(Exception):
    """The command's process ends here."""


@pytest.mark.parametrize("dies_at", [(AccountBook, "freeze", "thaw"), (StandingBook, "say", "say")])
def test_a_command_that_was_cut_off_is_given_again(
    bank: SecureBank, monkeypatch: pytest.MonkeyPatch, dies_at: tuple[type, str, str]
) -> None:
    """Else the accounts of a site that has returned would stay frozen."""
    where, leaving, returning = dies_at

    def dies(*_: object) -> None:
        raise DiesError

    for act, step, frozen in (("leave", leaving, True), ("return", returning, False)):
        typed = [act, "--config", str(file(bank)), "--reason", "moving"]
        with monkeypatch.context() as cut:
            cut.setattr(where, step, dies)
            with pytest.raises(DiesError):
                agent(typed, standalone_mode=False)
        say(bank, act)
        with closing(open_accounts(load_site(file(bank)))) as book:
            _is_frozen(book, frozen=frozen)
    assert answers(bank)


def _is_frozen(book: AccountBook, *, frozen: bool) -> None:
    try:
        book.charge("loans", RULE, RELEASE, occasion(1))
    except BudgetRefused:
        assert frozen
    else:
        assert not frozen


def test_standing_says_nothing_of_another_federation(bank: SecureBank) -> None:
    with closing(open_standing(load_site(file(bank)))) as book:
        book.say("leave", "enough")
        book.federation = Digest("0" * 64)
        book.left = None
        with pytest.raises(Refused, match="nothing to return from"):
            book.say("return", "no")


def test_leaving_freezes_the_accounts_of_one_federation_and_forgets_nothing(tmp_path: Path) -> None:
    path = tmp_path / "accounts.db"
    with closing(AccountBook.open(path, SiteName("north"), clock=lambda: datetime.now(UTC))) as book:
        book.charge("loans", RULE, RELEASE, occasion(1))
        spent = book.account("loans", RULE).guarantee().epsilon
        book.freeze("demo", "the site leaves")
    with closing(AccountBook.open(path, SiteName("north"), clock=lambda: datetime.now(UTC))) as book:
        with pytest.raises(BudgetRefused, match="frozen for demo"):
            book.charge("loans", RULE, RELEASE, occasion(2))
        assert book.account("loans", RULE).guarantee().epsilon == spent
        book.thaw("demo", "it is back")
        book.charge("loans", RULE, RELEASE, occasion(2))
        assert book.account("loans", RULE).guarantee().epsilon > spent


def test_what_others_know_is_charged_once_and_nothing_is_taken_away(tmp_path: Path, bank: SecureBank) -> None:
    """The larger of all records: their union, by attempt."""
    rule_of = load_site(file(bank)).model_copy()
    population = rule_of.population_of(next(iter(rule_of.data.values())))
    source = next(iter(rule_of.data.values())).model_copy(update={"account": RULE})
    config = rule_of.model_copy(update={"data": {next(iter(rule_of.data)): source}})
    book = AccountBook.open(tmp_path / "accounts.db", SITE, clock=lambda: datetime.now(UTC))
    with closing(book):
        book.charge(population, RULE, RELEASE, occasion(1))
        found = [Settled(population, RELEASE, occasion(each)) for each in (1, 2, 3)]
        assert restore(book, config, found) == 2
        assert restore(book, config, found) == 0
        assert len(book.charges(population, RULE.unit.unit)) == 3
        assert (
            restore(book, config, [Settled(population, RELEASE, occasion(n)) for n in range(4, 400)]) == 396
        )


def test_what_no_account_of_this_site_takes_is_not_forgotten(tmp_path: Path, bank: SecureBank) -> None:
    """A population that was taken out of site.yaml, or is counted per another unit there, would begin from nothing later."""
    given = load_site(file(bank))
    name, source = next(iter(given.data.items()))
    config = given.model_copy(update={"data": {name: source.model_copy(update={"account": RULE})}})
    population = config.population_of(config.data[name])
    per_customer = replace(
        RELEASE, unit=PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer", max_rows=4, max_sites=1)
    )
    with closing(AccountBook.open(tmp_path / "accounts.db", SITE, clock=lambda: datetime.now(UTC))) as book:
        for lacking in (
            Settled("mortgages", RELEASE, occasion(2)),
            Settled(population, per_customer, occasion(2)),
        ):
            with pytest.raises(UsageError, match=f"{lacking.population}.*put it back"):
                restore(book, config, [Settled(population, RELEASE, occasion(1)), lacking])
            assert book.charges(population, RULE.unit.unit) == ()
        gone = rule(unit={"kind": "customer", "column": "customer", "max_rows": 4, "max_sites": 1})
        book.charge("mortgages", gone, per_customer, occasion(2))
        assert (
            restore(book, config, [Settled("mortgages", per_customer, occasion(2))]) == 0
        )  # nothing is lost
