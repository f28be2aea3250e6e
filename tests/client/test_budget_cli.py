"""`covenant-agent budget`, and the account that `init` writes: figures with unit and neighbours, and a statement that the centre can verify."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from client.accounts.book import AccountBook
from client.accounts.views import export_to, views
from client.bootstrap import open_accounts, open_participant
from protos.account_statement import SignedStatement
from protos.keys import SigningKey
from protos.site import SiteConfig, load_site
from protos.site_data import AccountRule
from strategies.dp.events import Mechanism
from strategies.dp.filters import Ceiling
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import Refused
from tests.client.accounts_for_tests import filling, occasion
from tests.client.test_client_cli import left, options, papers

__all__ = ["papers"]
RECORD = PrivacyUnit(kind=UnitKind.RECORD)


@pytest.fixture
def folder(papers: Path, tmp_path: Path) -> Path:
    """A site with an account of epsilon 8, of which nothing is spent."""
    assert left(*options(papers, tmp_path / "west", account="record,8,1e-6")) == 0
    return tmp_path / "west"


@pytest.fixture
def site(folder: Path) -> SiteConfig:
    return load_site(folder / "site.yaml")


@pytest.fixture
def book(site: SiteConfig) -> Iterator[AccountBook]:
    """As the agent has it open."""
    opened = AccountBook.open(
        site.accounts, site.site, clock=lambda: datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    )
    yield opened
    opened.close()


def rule_of(site: SiteConfig) -> AccountRule:
    rule = site.data["loans"].account
    assert rule is not None
    return rule


def charge(book: AccountBook, site: SiteConfig, number: int, **facts: Any) -> None:
    release = filling(facts.pop("share", 0.2), rule_of(site), **facts)
    book.charge("loans", rule_of(site), release, occasion(number))


def shown(folder: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    capsys.readouterr()
    assert left("budget", "--config", str(folder / "site.yaml"), *more) == 0
    told = capsys.readouterr()
    return told.out if "--json" in more else " ".join(told.err.replace("│", " ").split())


def facts(folder: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(shown(folder, capsys, "--json"))
    return found


def figure(epsilon: float | None, words: str) -> dict[str, Any]:
    """A figure as JSON has it; an epsilon that is unbounded is none."""
    return {
        "epsilon": epsilon, "delta": 1e-6, "unit": "record", "neighbours": "add-or-remove-one",
        "words": f"epsilon {words} at delta 1e-06 per record (add-or-remove-one)",
    }  # fmt: skip


# --- what it shows ----------------------------------------------------------------------------------------------------


def test_a_new_account_has_nothing_spent(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (account,) = facts(folder, capsys)["accounts"]
    assert account["population"] == "loans"
    assert Ceiling.from_facts(account["ceiling"]) == Ceiling.fixed(epsilon=8.0, delta=1e-6, unit=RECORD)
    assert account["spent"] == account["own_noise_only"] == figure(0.0, "0.000")
    assert (account["releases"], account["without_noise"], account["overlaps"]) == (0, [], [])


def test_figures_are_those_of_the_filter_with_unit_and_neighbours(
    folder: Path, site: SiteConfig, book: AccountBook, capsys: pytest.CaptureFixture[str]
) -> None:
    """While the agent that charges has the file open too."""
    for number in (1, 2):
        charge(book, site, number)
    spent = book.account("loans", rule_of(site)).guarantee()
    (account,) = facts(folder, capsys)["accounts"]
    assert account["spent"] == figure(spent.epsilon, f"{spent.epsilon:.3f}")
    assert account["releases"] == 2
    assert Ceiling.from_facts(account["ceiling"]) == rule_of(site).ceiling
    said = shown(folder, capsys)
    for words in ("accounts of west", "loans", "per record", "delta", f"{spent.epsilon:.3f}"):
        assert words in said


def test_if_only_its_own_noise_counted_a_site_is_told_the_worst(
    folder: Path, site: SiteConfig, book: AccountBook, capsys: pytest.CaptureFixture[str]
) -> None:
    shared = filling(0.2, rule_of(site))
    charge(
        book,
        site,
        1,
        mechanism=Mechanism.DISTRIBUTED,
        sensitivity=1e4,
        variance=shared.variance * 1e8,
        shares=4,
    )
    (account,) = facts(folder, capsys)["accounts"]
    assert account["own_noise_only"]["epsilon"] > 1.3 * account["spent"]["epsilon"]
    charge(book, site, 2, mechanism=Mechanism.CENTRAL, sensitivity=1e4, variance=shared.variance * 1e8)
    (account,) = facts(folder, capsys)["accounts"]
    assert account["own_noise_only"] == figure(None, "unbounded")
    assert account["spent"]["epsilon"] < 8.0


def test_what_left_without_noise_is_said(
    folder: Path, site: SiteConfig, book: AccountBook, capsys: pytest.CaptureFixture[str]
) -> None:
    charge(book, site, 1, what="evaluation counts", mechanism=Mechanism.NONE, variance=0.0)
    (account,) = facts(folder, capsys)["accounts"]
    assert account["without_noise"] == ["evaluation counts"]
    assert account["spent"]["epsilon"] == 0.0
    assert "loans: evaluation counts left this site without noise" in shown(folder, capsys)


def test_overlapping_sites_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "site.yaml"
    path.write_text(path.read_text().replace("    # columns:", "    overlaps: [south, east]\n    # columns:"))
    assert facts(folder, capsys)["accounts"][0]["overlaps"] == ["south", "east"]
    assert "people may be at south, east too" in shown(folder, capsys)


def test_a_site_without_an_account_is_told_what_that_means(
    papers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left(*options(papers, tmp_path / "west")) == 0
    assert facts(tmp_path / "west", capsys)["accounts"] == []
    assert "only plans without privacy take part" in shown(tmp_path / "west", capsys)


def test_a_look_charges_nothing_and_needs_no_key(
    folder: Path, site: SiteConfig, book: AccountBook, capsys: pytest.CaptureFixture[str]
) -> None:
    charge(book, site, 1)
    (folder / "site.key").unlink()
    facts(folder, capsys)
    assert len(book.charges("loans", RECORD)) == 1


def test_a_missing_configuration_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert left("budget", "--config", str(tmp_path / "site.yaml")) == 2
    assert "does not exist" in capsys.readouterr().err


# --- what it exports --------------------------------------------------------------------------------------------------


def identity(site: SiteConfig) -> str:
    return SigningKey.load(site.identity.key).public


def test_the_statement_holds_every_charge_and_is_signed_with_the_sites_key(
    folder: Path, site: SiteConfig, book: AccountBook, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in (1, 2, 3):
        charge(book, site, number, what="sum" if number < 3 else "another sum")
    out = tmp_path / "west.account"
    shown(folder, capsys, "--export", str(out))
    statement = SignedStatement.read(out.read_bytes()).verify(identity(site))
    (account,) = statement.accounts
    assert (statement.site, account.population) == ("west", "loans")
    assert account.filter_ceiling == book.account("loans", rule_of(site)).ceiling
    assert account.charges() == dict(book.account("loans", rule_of(site)).charges)
    entry, at = account.entries[0], occasion(1)
    assert (entry.run, entry.stage, entry.round, entry.attempt, entry.plan) == (
        at.run, at.stage, at.round, at.attempt, at.plan,
    )  # fmt: skip
    assert entry.at == datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
    with pytest.raises(Refused):
        SignedStatement.read(out.read_bytes()).verify(SigningKey.generate().public)


def test_a_statement_is_never_written_over_another_file(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "precious"
    out.write_text("precious")
    assert left("budget", "--config", str(folder / "site.yaml"), "--export", str(out)) == 2
    assert "exists and is never overwritten" in " ".join(capsys.readouterr().err.split())
    assert out.read_text() == "precious"


def test_charges_of_another_federation_are_stated_under_pseudonyms_and_count(
    site: SiteConfig, book: AccountBook, tmp_path: Path
) -> None:
    """The account is one, but which runs of which plans they were is none of this centre's business."""
    release = filling(0.2, rule_of(site))
    here, away = occasion(1, federation=site.federation.name), occasion(1, federation="others")
    abroad = [away, occasion(2, federation="others"), occasion(1, federation="third")]
    for each in (here, *abroad):
        book.charge("loans", rule_of(site), release, each)
    export_to(tmp_path / "out", site, book)
    data = (tmp_path / "out").read_bytes()
    (account,) = SignedStatement.read(data).verify(identity(site)).accounts
    ours, first, second, third = account.entries
    assert (ours.run, ours.plan, ours.elsewhere) == (here.run, here.plan, False)
    for entry, told in zip((first, second, third), abroad, strict=True):
        assert entry.elsewhere
        assert (entry.run, entry.plan) != (told.run, told.plan)
        assert told.run != entry.run
        assert told.plan != entry.plan
        assert (entry.stage, entry.round, entry.attempt) == (told.stage, told.round, told.attempt)
    assert (first.run, first.plan) == (second.run, second.plan)  # one run has one pseudonym
    assert first.run != third.run
    assert first.plan != third.plan
    assert b"others" not in data
    assert account.charges() == {release: 4}


def test_an_account_without_charges_can_be_stated(
    site: SiteConfig, book: AccountBook, tmp_path: Path
) -> None:
    export_to(tmp_path / "out", site, book)
    statement = SignedStatement.read((tmp_path / "out").read_bytes()).verify(identity(site))
    assert [dict(each.charges()) for each in statement.accounts] == [{}]


def test_an_attempt_that_was_tried_twice_does_not_keep_the_rest_from_being_stated(
    site: SiteConfig, book: AccountBook, tmp_path: Path
) -> None:
    """Because the second charge is refused: the statement is one that reconciles."""
    charge(book, site, 1)
    with pytest.raises(Refused):
        charge(book, site, 1, what="another sum")
    export_to(tmp_path / "out", site, book)
    (account,) = SignedStatement.read((tmp_path / "out").read_bytes()).verify(identity(site)).accounts
    assert len(account.entries) == 1


def test_accounts_are_listed_in_the_order_of_the_configuration(site: SiteConfig, book: AccountBook) -> None:
    loans = site.data["loans"]
    sources = {
        "zebra": loans.model_copy(),
        "bare": loans.model_copy(update={"account": None}),
        "loans": loans,
    }
    assert [each.population for each in views(site.model_copy(update={"data": sources}), book)] == [
        "zebra",
        "loans",
    ]


def test_rows_that_follow_two_contracts_have_one_account(site: SiteConfig, book: AccountBook) -> None:
    loans = site.data["loans"]
    sources = {
        "loans": loans,
        "loans-2": loans.model_copy(update={"contract": "loans@2", "population": "loans"}),
    }
    assert [each.population for each in views(site.model_copy(update={"data": sources}), book)] == ["loans"]


def test_the_accounts_of_a_site_are_opened_beside_its_agent(folder: Path, site: SiteConfig) -> None:
    agent = open_participant(folder / "site.yaml")
    beside = open_accounts(site)
    charge(beside, site, 1)
    assert len(agent.book.account("loans", rule_of(site)).charges) == 1
    beside.close()
    agent.close()


# --- what `init` writes -----------------------------------------------------------------------------------------------

UNITS = {
    "record,8,1e-5": (PrivacyUnit(kind=UnitKind.RECORD), 8.0, 1e-5, None),
    "record,0.5,0.001,32": (PrivacyUnit(kind=UnitKind.RECORD), 0.5, 0.001, 32),
    "customer:customer_id:4,8,1e-6": (
        PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4), 8.0, 1e-6, None,
    ),
    "customer:customer_id:4:2,8,1e-6": (
        PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4, max_sites=2), 8.0, 1e-6, None,
    ),
    "site:5000,8,1e-6,10": (PrivacyUnit(kind=UnitKind.SITE, max_rows=5000), 8.0, 1e-6, 10),
}  # fmt: skip


@pytest.mark.parametrize("written", UNITS)
def test_init_writes_the_account_that_was_asked_for(papers: Path, tmp_path: Path, written: str) -> None:
    assert left(*options(papers, tmp_path / "west", account=written)) == 0
    unit, epsilon, delta, order = UNITS[written]
    rule = load_site(tmp_path / "west" / "site.yaml").data["loans"].account
    assert rule is not None
    assert rule.ceiling == Ceiling.fixed(epsilon=epsilon, delta=delta, unit=unit, order=order)


BAD = {
    "record": "use UNIT,EPSILON,DELTA",
    "record,8": "use UNIT,EPSILON,DELTA",
    "record,8,1e-5,10,3": "use UNIT,EPSILON,DELTA",
    "record,eight,1e-5": "use UNIT,EPSILON,DELTA",
    "record,8,": "use UNIT,EPSILON,DELTA",
    "customer:customer_id:4:2:9,8,1e-6": "use UNIT,EPSILON,DELTA",
    "record:3:4,8,1e-6": "use UNIT,EPSILON,DELTA",
    "record:3,8,1e-6": "unknown key `data.loans.account.unit.max_rows`",
    "customer,8,1e-6": "`data.loans.account.unit.column` is missing",
    "person,8,1e-6": "`data.loans.account.unit.kind`",
    "record,nan,1e-6": "`data.loans.account.epsilon` is",
    "record,0,1e-6": "`data.loans.account.epsilon` is 0",
    "record,8,0": "`data.loans.account.delta` is 0",
    "record,8,1": "`data.loans.account.delta` is 1",
    "record,8,1e-6,ten": "`data.loans.account.order` is",
    "record,8,1e-6,2": "leaves nothing to spend at order 2",
}


@pytest.mark.parametrize("written", BAD)
def test_init_with_an_account_that_is_none_says_so_and_makes_no_keys(
    papers: Path, tmp_path: Path, written: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "west"
    assert left(*options(papers, folder, account=written)) == 2
    assert BAD[written] in " ".join(capsys.readouterr().err.split())
    assert not (folder / "site.key").exists()
    assert not (folder / "site.yaml").exists()
    assert left(*options(papers, folder, account="record,8,1e-5")) == 0


def test_without_an_account_init_shows_how_one_is_written(papers: Path, tmp_path: Path) -> None:
    assert left(*options(papers, tmp_path / "west")) == 0
    text = (tmp_path / "west" / "site.yaml").read_text()
    assert "# account: {unit: {kind: record}, epsilon: 8.0, delta: 1.0e-5}" in text
    shown_line = next(line for line in text.splitlines() if line.strip().startswith("# account:"))
    (tmp_path / "west" / "site.yaml").write_text(
        text.replace(shown_line, shown_line.replace("# account", "account", 1))
    )
    assert load_site(tmp_path / "west" / "site.yaml").data["loans"].account is not None


@pytest.mark.parametrize("modes", [("distributed",), ("local", "central"), ("none",)])
def test_init_admits_the_modes_that_were_asked_for_and_distributed_if_none_was(
    papers: Path, tmp_path: Path, modes: tuple[str, ...]
) -> None:
    more = [word for mode in modes for word in ("--privacy", mode)]
    assert left(*options(papers, tmp_path / "west"), *more) == 0
    assert load_site(tmp_path / "west" / "site.yaml").policy.accept[0].privacy.modes == modes
    assert left(*options(papers, tmp_path / "south", site="south")) == 0
    assert load_site(tmp_path / "south" / "site.yaml").policy.accept[0].privacy.modes == ("distributed",)


def test_init_refuses_a_mode_that_there_is_not(
    papers: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert left(*options(papers, tmp_path / "west", privacy="global")) == 2
    assert "it should be 'none', 'local', 'distributed' or 'central'" in " ".join(
        capsys.readouterr().err.split()
    )
