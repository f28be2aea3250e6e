"""What this site would say of a plan that nobody has launched: every rule, those that pass among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime

from client.admission.consent import judge_consent, judge_hours
from client.admission.findings import Finding, found, listed, passed, refused
from client.admission.policy import judge, no_data
from protos.consent import Consent
from protos.contract import Contract
from protos.documents import load_document
from protos.plan import Plan
from protos.plan_fit import check_plan
from protos.site import SiteConfig
from strategies.errors import UsageError


def contract_of(plan: Plan, config: SiteConfig) -> Contract | None:
    """The contract that a plan names, as this site agreed to it; None if it has no data under it. Raises UsageError where it cannot be read."""
    source = config.source_for(plan.contract)
    return None if source is None else load_document(source.contract_file, Contract)


def try_plan(plan: Plan, config: SiteConfig, given: Iterable[Consent], now: datetime) -> Iterator[Finding]:
    """All that the agent would find at `now`, where people here have `given` their consent, but for what comes with a launch."""
    contract = contract_of(plan, config)
    if contract is None:
        yield no_data(plan.contract, listed(each.contract for each in config.data.values()))
        return
    misfit = _misfit(plan, contract)
    if misfit is not None:
        yield refused("plan", plan.name, contract.ref, misfit, "the plan must fit its contract")
        return
    yield passed("plan", f"{len(plan.columns)} features", contract.ref)
    invited = listed(plan.sites.invite)
    yield found(
        "site",
        config.site in plan.sites.invite,
        invited,
        config.site,
        f"the plan invites {invited}, and not this site",
        "the plan must invite it",
    )
    verdict = judge(plan, contract, config)
    yield from verdict.findings
    if verdict.rule is not None:
        yield judge_consent(verdict.rule, plan, contract, given, now=now)
    yield judge_hours(config.run.window, now)


def _misfit(plan: Plan, contract: Contract) -> str | None:
    try:
        check_plan(plan, contract)
    except UsageError as error:
        return str(error)
    return None
