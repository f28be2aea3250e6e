"""What a site refuses of a private plan before it touches its rows: one test a rule, each against a control that passes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from client.admission import policy
from client.admission.documents import Accepted, check_documents
from client.admission.findings import Outcome
from client.cli.plans import _room
from client.refusal import TaskRefused
from protos.contract import Contract
from protos.frames import RefusalCode, Task
from protos.plan import Plan
from protos.site import SiteConfig
from protos.site_data import AccountRule
from strategies.dp.budget import Account
from tests.client import loans_for_tests as loans
from tests.client.local_for_tests import CUSTOMERS
from tests.client.private_for_tests import (
    CENTRAL,
    LOCAL,
    charged_on_disk,
    planned,
    private_bank,
    private_plan,
)
from tests.client.secure_for_tests import VICTIM, SecureBank, secure_plan


@pytest.fixture(scope="module")
def bank() -> Iterator[SecureBank]:
    with private_bank() as made:
        yield made


def config_of(bank: SecureBank, **policy: Any) -> SiteConfig:
    config = bank.participant(VICTIM).config
    (rule,) = config.policy.accept
    changed = rule.model_copy(update={"privacy": rule.privacy.model_copy(update=policy)})
    return config.model_copy(update={"policy": config.policy.model_copy(update={"accept": (changed,)})})


def with_source(config: SiteConfig, **source: Any) -> SiteConfig:
    changed = config.data["loans"].model_copy(update=source)
    return config.model_copy(update={"data": {**config.data, "loans": changed}})


def with_unit(config: SiteConfig, unit: dict[str, Any], **account: Any) -> SiteConfig:
    written = {"unit": unit, "epsilon": 12.0, "delta": 1e-5, **account}
    return with_source(config, account=AccountRule.model_validate(written))


def check(
    bank: SecureBank, config: SiteConfig, plan: Plan | None = None, contract: Contract = loans.CONTRACT
) -> Accepted:
    participant = bank.participant(VICTIM)
    task = Task(
        plan=(plan or bank.plan).canonical, contract=contract.canonical, members=bank.members.canonical
    )
    return check_documents(
        task,
        config=config,
        trust=participant.trust,
        identity_key=participant.identity.public,
        began=None,
    )


def refused(
    bank: SecureBank, config: SiteConfig, plan: Plan | None = None, code: RefusalCode = RefusalCode.POLICY
) -> str:
    with pytest.raises(TaskRefused) as caught:
        check(bank, config, plan)
    assert caught.value.code is code
    return str(caught.value)


@pytest.mark.parametrize("changes", [{}, CENTRAL, LOCAL], ids=["distributed", "central", "local"])
def test_a_private_plan_that_keeps_every_rule_is_accepted_with_what_it_releases(
    bank: SecureBank, changes: dict[str, str]
) -> None:
    plan = private_plan(changes)
    accepted = check(bank, config_of(bank), plan)
    assert accepted.releases == planned(plan)
    assert accepted.population == "loans"


def test_a_plan_without_privacy_releases_nothing_that_is_charged_and_needs_no_account(
    bank: SecureBank,
) -> None:
    bare = with_source(config_of(bank), account=None)
    assert check(bank, bare, secure_plan()).releases is None


def test_a_plan_without_privacy_about_a_population_that_has_an_account(bank: SecureBank) -> None:
    said = refused(bank, config_of(bank), secure_plan())
    assert (
        "population loans has an account at this site; a plan without privacy would release of it what no account bounds"
        in said
    )


@pytest.mark.parametrize("mode", ["distributed", "central", "local"])
def test_a_mode_that_the_policy_does_not_name(bank: SecureBank, mode: str) -> None:
    plan = private_plan({"distributed": {}, "central": CENTRAL, "local": LOCAL}[mode])
    others = tuple(each for each in ("none", "local", "distributed", "central") if each != mode)
    said = refused(bank, config_of(bank, modes=others), plan)
    assert (
        f"`policy.accept.privacy.modes` at this site admits {', '.join(others)}; the plan has {mode}" in said
    )


def test_a_plan_without_privacy_where_the_policy_asks_for_some(bank: SecureBank) -> None:
    bare = with_source(config_of(bank, modes=("distributed",)), account=None)
    said = refused(bank, bare, secure_plan())
    assert said.endswith("admits distributed; the plan has none")


def test_a_population_without_an_account(bank: SecureBank) -> None:
    said = refused(bank, with_source(config_of(bank), account=None))
    assert "`data.loans.account` is not configured at this site, so nothing may be released of it" in said


OTHER_UNITS: dict[str, dict[str, Any]] = {
    "customers": {"kind": "customer", "column": "customer_id", "max_rows": 3},
    "sites": {"kind": "site", "max_rows": 100},
}


@pytest.mark.parametrize("unit", OTHER_UNITS.values(), ids=OTHER_UNITS.keys())
def test_an_account_about_another_unit(bank: SecureBank, unit: dict[str, Any]) -> None:
    said = refused(bank, with_unit(config_of(bank), unit))
    assert said.startswith("the account at this site is per ")
    assert "the plan protects a record, and one says nothing about the other" in said


def customer_plan(column: str = "customer_id", sites: int = 1) -> Plan:
    unit = f"unit: {{kind: customer, column: {column}, max_rows: 3, max_sites: {sites}}}"
    return private_plan(
        {"unit: {kind: record}": unit, "by: loan_id": f"by: {column}", "epsilon: 9.0": "epsilon: 40.0"}
    )


def people(bank: SecureBank, **unit: Any) -> SiteConfig:
    """A site whose contract tells customers apart, and whose account is per customer."""
    config = config_of(bank)
    path = bank.folder / VICTIM / "people.yaml"
    path.write_bytes(CUSTOMERS.canonical)
    config = with_source(config, contract_file=path)
    return with_unit(
        config, {"kind": "customer", "column": "customer_id", "max_rows": 9, **unit}, epsilon=40.0
    )


@pytest.mark.parametrize(("declared", "planned_for"), [(1, 1), (1, 2), (3, 3), (2, 3)])
def test_a_plan_that_protects_people_at_as_many_sites_as_they_may_be_at(
    bank: SecureBank, declared: int, planned_for: int
) -> None:
    accepted = check(bank, people(bank, max_sites=declared), customer_plan(sites=planned_for), CUSTOMERS)
    assert accepted.releases is not None
    assert accepted.releases.train.unit.max_sites == planned_for


@pytest.mark.parametrize(("declared", "planned_for"), [(2, 1), (3, 2)])
def test_a_plan_that_protects_people_at_fewer_sites_than_they_may_be_at(
    bank: SecureBank, declared: int, planned_for: int
) -> None:
    with pytest.raises(TaskRefused, match=f"at up to {declared} sites") as caught:
        check(bank, people(bank, max_sites=declared), customer_plan(sites=planned_for), CUSTOMERS)
    assert caught.value.code is RefusalCode.POLICY


def test_customers_by_another_column_are_other_people(bank: SecureBank) -> None:
    config = people(bank, column="household_id")
    with pytest.raises(TaskRefused, match="one says nothing about the other"):
        check(bank, config, customer_plan(), CUSTOMERS)


def test_how_many_rows_of_a_customer_count_is_the_plans_business(bank: SecureBank) -> None:
    """Further rows do not count in a release, so a bound of the plan's that differs from the account's protects no less."""
    for rows in (1, 3, 50):
        check(bank, people(bank, max_rows=rows), customer_plan(), CUSTOMERS)


def test_a_plan_that_charges_a_population_by_another_name(bank: SecureBank) -> None:
    plan = private_plan({"join_within: 2m}": "join_within: 2m, populations: {west: cards}}"})
    said = refused(bank, config_of(bank), plan)
    assert (
        "the plan charges population cards of this site, which calls it loans; `sites.populations` must say so"
        in said
    )
    check(
        bank,
        config_of(bank),
        private_plan({"join_within: 2m}": "join_within: 2m, populations: {east: cards}}"}),
    )


def test_a_plan_dearer_than_the_site_admits_a_plan(bank: SecureBank) -> None:
    """By what it costs at the account's own order and delta: a plan's own limit is the plan's own choice."""
    ceiling = config_of(bank).data["loans"].account
    assert ceiling is not None
    cost = (
        Account(name="x", ceiling=ceiling.ceiling).charged(planned(bank.plan).planned()).guarantee().epsilon
    )
    check(bank, config_of(bank, max_epsilon_per_plan=None))
    check(bank, config_of(bank, max_epsilon_per_plan=cost * 1.001))
    said = refused(bank, config_of(bank, max_epsilon_per_plan=cost * 0.999))
    assert f"the plan costs epsilon {cost:.3f} at delta 1e-05 per record (add-or-remove-one)" in said
    with_smaller_limit = private_plan({"epsilon: 9.0": "epsilon: 7.0", "delta: 1.0e-5": "delta: 1.0e-3"})
    assert "policy.accept.privacy.max_epsilon_per_plan" in refused(
        bank, config_of(bank, max_epsilon_per_plan=cost * 0.999), with_smaller_limit
    )


EXEMPT = {
    "noise: {preparation: 2.0, training: 1.5, evaluation: 2.0}": "noise: {training: 1.5}",
    "retries: 2": "exempt: [preparation, evaluation]",
}


@pytest.mark.parametrize(
    ("allowed", "missing"),
    [
        ((), "evaluation, preparation"),
        (("evaluation",), "preparation"),
        (("preparation",), "evaluation"),
        (("preparation", "evaluation"), None),
    ],
)
def test_a_stage_without_noise_that_the_policy_does_not_name(
    bank: SecureBank, allowed: tuple[str, ...], missing: str | None
) -> None:
    config = config_of(bank, exemptions=allowed)
    if missing is None:
        check(bank, config, private_plan(EXEMPT))
        return
    said = refused(bank, config, private_plan(EXEMPT))
    admits = ", ".join(allowed) or "nothing"
    assert (
        f"`policy.accept.privacy.exemptions` at this site admits {admits}; the plan releases {missing} without noise"
        in said
    )


def test_a_plan_above_its_own_limit(bank: SecureBank) -> None:
    said = refused(
        bank, config_of(bank), private_plan({"epsilon: 9.0": "epsilon: 3.0"}), RefusalCode.PROTOCOL
    )
    assert "within privacy.limit" in said


def test_a_plan_for_customers_under_a_contract_that_knows_none(bank: SecureBank) -> None:
    said = refused(bank, config_of(bank), customer_plan(), RefusalCode.PROTOCOL)
    assert "contract loans@1 has no customer column" in said


@pytest.mark.parametrize(
    ("plan", "component", "mode"),
    [
        (private_plan({"component: tabular/2": "component: tabular/1"}), "tabular/2", "distributed"),
        (secure_plan(component="tabular/2"), "tabular/1", "none"),
    ],
)
def test_a_component_that_does_not_do_what_the_plan_says(
    bank: SecureBank, plan: Plan, component: str, mode: str
) -> None:
    """Before: such a plan was let in, and failed at every site without a reason that the centre could read."""
    said = refused(bank, config_of(bank), plan, RefusalCode.PROTOCOL)
    assert f"does not do privacy mode {mode}; the plan must name {component}" in said


def test_dp_sgd_where_opacus_is_not_installed(bank: SecureBank, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy, "find_spec", lambda _: None)
    said = refused(bank, config_of(bank), private_plan(LOCAL))
    assert "pip install 'covenant-fl[local]'" in said
    check(bank, config_of(bank), private_plan(CENTRAL))


def test_nothing_is_charged_by_a_look_at_documents(bank: SecureBank) -> None:
    check(bank, config_of(bank))
    assert charged_on_disk(bank.folder / VICTIM / "accounts.db") == 0


def test_what_a_plan_costs_is_judged_by_the_accounts_delta_and_not_by_the_delta_that_the_plan_chooses(
    bank: SecureBank,
) -> None:
    """At a delta of 0.9 nearly anything is within epsilon 0.5: such a limit would pass under any `max_epsilon_per_plan`."""
    generous = private_plan({"epsilon: 9.0, delta: 1.0e-5": "epsilon: 0.5, delta: 0.9"})
    check(bank, config_of(bank, max_epsilon_per_plan=None), generous)
    said = refused(bank, config_of(bank, max_epsilon_per_plan=0.5), generous)
    account = config_of(bank).data["loans"].account
    assert account is not None
    assert "`policy.accept.privacy.max_epsilon_per_plan` at this site is 0.5; the plan costs epsilon " in said
    assert (
        f"at delta 1e-05 per record (add-or-remove-one) at the account's order {account.ceiling.order}"
        in said
    )


def test_what_a_plan_costs_is_judged_at_the_accounts_order(bank: SecureBank) -> None:
    costs = {}
    for order in (4, 32):
        config = with_source(
            config_of(bank, max_epsilon_per_plan=0.01),
            account=AccountRule.model_validate(
                {"unit": {"kind": "record"}, "epsilon": 12.0, "delta": 1e-5, "order": order}
            ),
        )
        rule = config.data["loans"].account
        assert rule is not None
        spent = Account(name="x", ceiling=rule.ceiling).charged(planned(bank.plan).planned())
        costs[order] = spent.guarantee().epsilon
        assert f"the plan costs epsilon {costs[order]:.3f} at" in refused(bank, config)
    assert costs[4] != pytest.approx(costs[32], rel=0.01)


@pytest.mark.parametrize(("epsilon", "outcome"), [(12.0, Outcome.PASSES), (0.01, Outcome.REFUSES)])
def test_plan_test_judges_an_account_that_nobody_has_begun_and_begins_none(
    bank: SecureBank, tmp_path: Path, epsilon: float, outcome: Outcome
) -> None:
    """Whoever asks may be another user than the agent's, who could not open the file then."""
    config = bank.participant(VICTIM).config
    (source,) = config.data.values()
    assert source.account is not None
    account = source.account.model_copy(update={"epsilon": epsilon})
    changes = {
        "accounts": tmp_path / "accounts.db",
        "data": {"loans": source.model_copy(update={"account": account})},
    }
    (found,) = _room(bank.plan, config.model_copy(update=changes))
    assert found.outcome is outcome
    assert not list(tmp_path.iterdir())
