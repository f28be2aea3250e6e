"""`covenant ledger forecast`: the same judgement as a launch's, without one; and how often there can be one."""

from __future__ import annotations

import math
import re
from fractions import Fraction
from pathlib import Path

import pytest

from coordinator.bootstrap import Centre, open_centre
from coordinator.cli.forecast import days
from coordinator.documents import read_plan
from coordinator.ledger.needs import AccountKey, by_account, charges_of
from coordinator.rounds.question import RunDocuments
from coordinator.runs import needs_of
from coordinator.settings import load_settings
from protos.plan_costs import required_releases
from strategies.dp.budget import BudgetRefused
from strategies.dp.units import PrivacyUnit, UnitKind
from strategies.errors import UsageError
from strategies.ids import RunId, SiteName
from tests.coordinator.cli_for_tests import (
    RECORD,
    SITES,
    Command,
    commands_in,
    facts_of,
    launched,
    make_home,
    open_accounts,
)
from tests.private_plan_for_tests import CUSTOMERS, EXEMPTING, NONE, write_documents

FORECAST = ("ledger", "forecast", "plan.yaml")


@pytest.fixture
def covenant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return commands_in(tmp_path, monkeypatch, capsys)


@pytest.fixture
def centre(tmp_path: Path) -> Centre:
    home = tmp_path / "home"
    make_home(home)
    return open_centre(load_settings(home))


def account(facts: dict, site: str) -> dict:
    return next(each for each in facts["accounts"] if each["site"] == site)


def test_a_forecast_is_about_what_a_launch_would_reserve(tmp_path, centre) -> None:
    write_documents(tmp_path)
    plan, contract = read_plan(tmp_path / "plan.yaml")
    documents = RunDocuments(run=RunId("run-0"), plan=plan, contract=contract, members=b"{}")
    planned = required_releases(plan, contract)
    asked = {key: charges_of(stages) for key, stages in by_account(needs_of(documents)).items()}
    assert asked == {
        AccountKey.of(SiteName(site), "lending-club", RECORD): dict(planned.planned()) for site in SITES
    }


def test_after_is_what_the_account_shows_once_it_was_launched(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre)
    told = account(facts_of(covenant, *FORECAST), "west")
    assert told["before"]["spent"]["epsilon"] == 0.0
    launched(centre, tmp_path, 1)
    shown = facts_of(covenant, "ledger", "show", "west", "lending-club")
    assert told["after"]["spent"] == shown["spent"]
    assert told["after"]["fraction"] == shown["fraction"]
    again = account(facts_of(covenant, *FORECAST), "west")
    assert again["before"] == told["after"]


def test_a_forecast_reserves_nothing(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre)
    before = facts_of(covenant, "ledger", "list")
    assert facts_of(covenant, *FORECAST, "--horizon", "12mo")["fits"] is True
    assert facts_of(covenant, "ledger", "list") == before


def test_as_many_launches_fit_as_are_forecast(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre, 15.0, south=12.0)
    told = facts_of(covenant, *FORECAST)
    fits = told["launches_that_fit"]
    assert fits == account(told, "south")["launches_that_fit"] < account(told, "west")["launches_that_fit"]
    for number in range(fits):
        launched(centre, tmp_path, number)
    with pytest.raises(BudgetRefused, match="south/lending-club"):
        launched(centre, tmp_path, fits)
    assert facts_of(covenant, *FORECAST, code=3)["launches_that_fit"] == 0


def test_a_plan_that_does_not_fit_is_refused_with_account_both_figures_and_rounds(
    tmp_path, covenant, centre
) -> None:
    write_documents(tmp_path)
    open_accounts(centre, south=5.8)
    code, out, err = covenant(*FORECAST)
    assert (code, out) == (3, "")
    last = err.strip().splitlines()[-1]
    assert last.startswith("error: south/lending-club: ")
    assert "would take the account to epsilon" in last
    assert "its ceiling is epsilon 5.800 at delta 1e-05 per record (add-or-remove-one)" in last
    facts = facts_of(covenant, *FORECAST, code=3)
    assert (facts["fits"], len(facts["refusals"])) == (False, 1)
    rounds = account(facts, "south")["rounds_that_fit"]
    assert 0 < rounds < 40
    assert f"Of 40 rounds, {rounds} would fit with 5 retries" in last
    assert account(facts, "west")["refusal"] is None


def test_the_rounds_that_would_fit_do_and_one_more_does_not(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre, south=5.8)
    rounds = account(facts_of(covenant, *FORECAST, code=3), "south")["rounds_that_fit"]
    write_documents(tmp_path, ("rounds: 40 ", f"rounds: {rounds} "))
    assert facts_of(covenant, *FORECAST)["fits"] is True
    write_documents(tmp_path, ("rounds: 40 ", f"rounds: {rounds + 1} "))
    assert facts_of(covenant, *FORECAST, code=3)["fits"] is False


def test_a_site_without_a_ceiling_refuses_and_says_how_to_set_one(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre, south=0.0)
    code, _, err = covenant(*FORECAST, "--horizon", "3mo")
    assert code == 3
    assert "south/lending-club per record has no ceiling" in err
    assert "covenant ledger ceiling draft south lending-club --unit record" in err
    facts = facts_of(covenant, *FORECAST, "--horizon", "3mo", code=3)
    assert [each["site"] for each in facts["without_ceiling"]] == ["south"]
    assert (facts["launches_that_fit"], facts["launches_until_horizon"]) == (0, 0)
    assert account(facts, "west")["launches_that_fit"] > 0


def test_a_site_s_own_name_of_the_population_finds_its_account(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path, ("  join_within: 2m", "  join_within: 2m\n  populations: {south: retail}"))
    open_accounts(centre)
    assert "south/retail per record has no ceiling" in covenant(*FORECAST)[2]


def test_without_any_account_all_are_named(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    code, _, err = covenant(*FORECAST, "--horizon", "3mo")
    assert code == 3
    assert all(f"{site}/lending-club per record has no ceiling" in err for site in SITES)


def test_an_account_for_another_unit_is_not_one(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path, *CUSTOMERS)
    open_accounts(centre)
    err = covenant(*FORECAST)[2]
    assert "west/lending-club per customer (customer_id) has no ceiling" in err
    assert "--unit customer:customer_id" in err


def test_an_account_for_persons_at_more_sites_refuses_with_none_that_fit(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path, *CUSTOMERS)
    unit = PrivacyUnit(kind=UnitKind.CUSTOMER, column="customer_id", max_rows=4, max_sites=2)
    open_accounts(centre, unit=unit)
    facts = facts_of(covenant, *FORECAST, "--horizon", "1y", code=3)
    west = account(facts, "west")
    assert "charge it for that many" in west["refusal"]
    assert (west["rounds_that_fit"], west["launches_that_fit"]) == (0, 0)
    assert west["at_horizon"]["further_evaluations"] == 0


# --- horizons ----------------------------------------------------------------------------------------------------------


def test_until_the_horizon_the_tightest_account_decides(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre, 40.0, south=12.0)
    facts = facts_of(covenant, *FORECAST, "--horizon", "12mo")
    south, west = account(facts, "south"), account(facts, "west")
    assert facts["launches_wanted"] == 12
    assert facts["launches_until_horizon"] == south["launches_that_fit"] < 12 < west["launches_that_fit"]
    for number in range(facts["launches_until_horizon"]):
        launched(centre, tmp_path, number)
    for told in (south, west):
        shown = facts_of(covenant, "ledger", "show", told["site"], "lending-club")
        assert told["at_horizon"]["spent"] == shown["spent"]
    assert south["at_horizon"]["fraction"] > west["at_horizon"]["fraction"]
    assert 0 <= south["at_horizon"]["further_evaluations"] < west["at_horizon"]["further_evaluations"]


def test_a_roomy_account_bears_every_launch_until_the_horizon(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre, 40.0)
    facts = facts_of(covenant, *FORECAST, "--horizon", "12mo", "--every", "6mo")
    assert (facts["launches_wanted"], facts["launches_until_horizon"]) == (2, 2)


def test_further_evaluations_are_as_many_as_the_account_bears(tmp_path, covenant, centre) -> None:
    """Each is charged to every row, so an account that paid for training alone bears them too."""
    write_documents(tmp_path)
    open_accounts(centre, 12.0)
    told = account(facts_of(covenant, *FORECAST, "--horizon", "1mo"), "west")["at_horizon"]
    plan, contract = read_plan(tmp_path / "plan.yaml")
    evaluation = required_releases(plan, contract).evaluate
    further = told["further_evaluations"]
    left = 3 * evaluation.sensitivity**2 / (2 * evaluation.variance)  # Renyi divergence of one at order 3
    budget = 12.0 - (told["spent"]["epsilon"])
    assert further == math.floor(budget / left) > 0


def test_an_exempt_evaluation_costs_nothing_and_says_so(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path, *EXEMPTING)
    open_accounts(centre)
    facts = facts_of(covenant, *FORECAST, "--horizon", "2mo")
    assert account(facts, "west")["at_horizon"]["further_evaluations"] is None
    assert "evaluation is exempt" in covenant(*FORECAST, "--horizon", "2mo")[2]


def test_without_a_horizon_nothing_is_said_of_one(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre)
    facts = facts_of(covenant, *FORECAST)
    assert (facts["launches_wanted"], facts["launches_until_horizon"]) == (None, None)
    assert account(facts, "west")["at_horizon"] is None


def test_people_read_a_table_a_site_and_one_of_all(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path)
    open_accounts(centre, 40.0, south=12.0)
    code, out, err = covenant(*FORECAST, "--horizon", "12mo")
    assert (code, out) == (0, "")
    assert sorted(re.findall(r"^(\w+)/lending-club per record *$", err, re.MULTILINE)) == sorted(SITES)
    fits = facts_of(covenant, *FORECAST)["launches_that_fit"]
    assert f"{fits} of 12, one every 1mo, the first now" in err
    assert f"The budget lasts {fits} x 1mo" in err
    assert "least left then" in err
    assert "4 of 4" in err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--every", "1mo"], "give both, or neither"),
        (["--horizon", "0mo"], "'0mo' is no span of time"),
        (["--horizon", "12"], "'12' is no span of time"),
        (["--horizon", "-1mo"], "'-1mo' is no span of time"),
        (["--horizon", "nan"], "'nan' is no span of time"),
        (["--horizon", "1.5y"], "'1.5y' is no span of time"),
        (["--horizon", "12mo", "--every", "1m"], "'1m' is no span of time"),
        (["--horizon", "9999y", "--every", "1d"], "use a rarer --every"),
    ],
)
def test_spans_that_are_none_are_refused(tmp_path, covenant, centre, options, sentence) -> None:
    write_documents(tmp_path)
    code, out, err = covenant(*FORECAST, *options, "--json")
    assert (code, out) == (2, "")
    assert sentence in err


@pytest.mark.parametrize(
    ("horizon", "every", "launches"),
    [
        ("1y", "1mo", 12),
        ("12mo", "1y", 1),
        ("1mo", "1y", 1),
        ("1y", "1w", 53),
        ("13mo", "6mo", 3),
        ("30d", "1d", 30),
    ],
)
def test_the_first_launch_is_now_and_none_is_at_the_horizon(
    tmp_path, covenant, centre, horizon, every, launches
) -> None:
    write_documents(tmp_path)
    open_accounts(centre)
    facts = facts_of(covenant, *FORECAST, "--horizon", horizon, "--every", every)
    assert facts["launches_wanted"] == launches


def test_twelve_months_are_a_year() -> None:
    assert days("12mo") == days("1y") == Fraction(1461, 4)
    with pytest.raises(UsageError):
        days("١٢mo")


def test_a_plan_without_privacy_has_nothing_to_forecast(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path, *NONE)
    code, out, err = covenant(*FORECAST, "--json")
    assert (code, out) == (2, "")
    assert "privacy mode none: nothing protects a person's rows" in err


def test_a_plan_above_its_own_limit_is_not_forecast(tmp_path, covenant, centre) -> None:
    write_documents(tmp_path, ("epsilon: 8.0", "epsilon: 2.0"))
    assert covenant(*FORECAST)[0] == 2
