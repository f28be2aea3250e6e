"""The privacy accounts of the demo: opened with its plans' own limits at the centre and at each site, and read back after the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime

from client.accounts.book import AccountBook
from coordinator.ledger import Ledger
from coordinator.ledger.ceilings import Proposal
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_privacy import Privacy
from protos.plan_releases import fitting_ceiling, releases_of
from protos.site import load_site
from simulation.demo.report import AccountReport
from simulation.deployment import Deployment
from strategies.dp.filters import Ceiling
from strategies.dp.units import Guarantee
from strategies.ids import SiteName


def _ceiling(plan: Plan, contract: Contract, then: Sequence[Plan]) -> Ceiling | None:
    releases = releases_of(plan, contract)
    if releases is None or not isinstance(plan.privacy, Privacy):
        return None
    fitting = fitting_ceiling(releases, plan.privacy)
    more = (each.privacy.limit.epsilon for each in then if isinstance(each.privacy, Privacy))
    return replace(fitting, epsilon=fitting.epsilon + sum(more))


def account_option(plan: Plan, contract: Contract, then: Sequence[Plan] = ()) -> str | None:
    """The account of a site as `covenant-agent init --account` takes it, with room for `plan` and those that are run `then`; None without privacy."""
    ceiling = _ceiling(plan, contract, then)
    if ceiling is None:
        return None
    return f"{ceiling.unit.kind},{ceiling.epsilon},{ceiling.delta},{ceiling.order}"


def open_accounts(deployment: Deployment, plan: Plan, contract: Contract, then: Sequence[Plan] = ()) -> None:
    """Set the ceilings at the centre, as a privacy officer does with `covenant ledger ceiling`."""
    ceiling = _ceiling(plan, contract, then)
    if ceiling is None:
        return
    centre = deployment.centre()
    for site in plan.sites.invite:
        proposal = Proposal(
            epsilon=ceiling.epsilon,
            delta=ceiling.delta,
            unit=ceiling.unit,
            order=ceiling.order,
            reason="the demo's own account, made anew each time",
        )
        deployment.officers.decide(centre, site, plan.population_of(site), proposal)


def charged_accounts(deployment: Deployment, plan: Plan) -> list[AccountReport]:
    """What each site's account lost, by the larger of both sides; nothing without privacy."""
    if not isinstance(plan.privacy, Privacy):
        return []
    centre = deployment.centre()
    ledger = Ledger(centre.engine, centre.clock)
    return [
        AccountReport(
            site=site,
            dataset=plan.population_of(site),
            mode=plan.privacy.mode,
            guarantee=max(
                ledger.show(site, plan.population_of(site), plan.privacy.unit.unit).spent,
                _own(deployment, site, plan.population_of(site)),
                key=lambda each: each.epsilon,
            ),
        )
        for site in plan.sites.invite
    ]


def _own(deployment: Deployment, site: SiteName, population: str) -> Guarantee:
    config = load_site(deployment.site_folder(site) / "site.yaml")
    rule = config.data[population].account
    if rule is None:
        raise ValueError(f"{site} has no account of {population}")
    book = AccountBook.open(config.accounts, site, clock=lambda: datetime.now(UTC))
    try:
        return book.account(population, rule).guarantee()
    finally:
        book.close()
