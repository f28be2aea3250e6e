"""One rule of `policy.accept`, against one plan."""

from __future__ import annotations

from collections.abc import Iterator

from client.admission.findings import Finding, found, listed
from protos.contract import Contract
from protos.plan import Plan
from protos.plan_aggregation import SecureAggregation
from protos.plan_privacy import Privacy
from protos.plan_releases import releases_of
from protos.site import SiteConfig
from protos.site_data import AccountRule
from protos.site_policy import Acceptance
from strategies.dp.budget import cost_of


def judge_rule(
    key: str, rule: Acceptance, plan: Plan, contract: Contract, config: SiteConfig
) -> Iterator[Finding]:
    """What `rule`, at `key` of site.yaml, finds in a plan of its purpose; approvals apart."""
    source = config.source_for(plan.contract)
    for name, value, admitted, narrows in (
        ("contracts", plan.contract, rule.contracts, False),
        ("components", plan.training.component, rule.components, False),
        ("plans", plan.name, rule.plans, True),
        ("targets", contract.target.column, rule.targets, True),
        ("privacy.modes", plan.privacy.mode, rule.privacy.modes, False),
        ("aggregation.modes", plan.aggregation.mode, rule.aggregation.modes, False),
    ):
        if admitted or not narrows:
            yield _member(key, name, value, admitted)
    if plan.protected_columns:
        yield _protected(key, rule, plan)
    if isinstance(plan.aggregation, SecureAggregation):
        yield from _secure(key, rule, plan.aggregation)
    if isinstance(plan.privacy, Privacy):
        yield from _private(key, rule, plan.privacy)
        if source is not None and source.account is not None:
            yield from _modest(key, rule, plan, contract, source.account)


def _member(key: str, name: str, value: str, admitted: tuple[str, ...]) -> Finding:
    return found(
        f"{key}.{name}",
        value in admitted,
        value,
        listed(admitted),
        f"`policy.accept.{name}` at this site admits {listed(admitted)}; the plan has {value}",
        f"add {value} to it, if this site agrees with it",
    )


def _protected(key: str, rule: Acceptance, plan: Plan) -> Finding:
    """What the plan reads of protected attributes: only what this site names."""
    more = sorted(set(plan.protected_columns) - set(rule.protected))
    return found(
        f"{key}.protected",
        not more,
        listed(plan.protected_columns),
        listed(rule.protected),
        f"`policy.accept.protected` at this site admits {listed(rule.protected)}; the plan reads protected attribute {listed(more)}",
        f"add {listed(more)} to it, if this site lets groups be counted by it",
    )


def _secure(key: str, rule: Acceptance, chosen: SecureAggregation) -> Iterator[Finding]:
    """What the plan's secure aggregation protects against."""
    admitted, least = rule.aggregation.adversaries, rule.aggregation.colluding_at_least
    yield found(
        f"{key}.aggregation.adversaries",
        chosen.adversary in admitted,
        chosen.adversary,
        listed(admitted),
        f"`policy.accept.aggregation.adversaries` at this site admits {listed(admitted)}; the plan's secure aggregation is {chosen.adversary}",
        "the plan must protect against what this site asks for",
    )
    yield found(
        f"{key}.aggregation.colluding_at_least",
        chosen.colluding >= least,
        f"{chosen.colluding} colluding sites",
        f"{least} or more",
        f"`policy.accept.aggregation.colluding_at_least` at this site is {least}; the plan bears {chosen.colluding} colluding sites",
        f"the plan must have aggregation.colluding: {least} or more",
    )


def _private(key: str, rule: Acceptance, privacy: Privacy) -> Iterator[Finding]:
    """Whom the plan protects, and what it exempts from that."""
    if rule.units:
        yield _member(key, "units", privacy.unit.kind, rule.units)
    admitted, more = rule.privacy.exemptions, sorted(set(privacy.exempt) - set(rule.privacy.exemptions))
    yield found(
        f"{key}.privacy.exemptions",
        not more,
        f"{listed(privacy.exempt)} without noise",
        listed(admitted),
        f"`policy.accept.privacy.exemptions` at this site admits {listed(admitted)}; the plan releases {listed(more)} without noise",
        f"the plan must have noise for {listed(more)}",
    )


def _modest(
    key: str, rule: Acceptance, plan: Plan, contract: Contract, account: AccountRule
) -> Iterator[Finding]:
    """The plan costs what the site admits a plan at most: at the account's own delta and order, because the plan chooses its own."""
    most, planned = rule.privacy.max_epsilon_per_plan, releases_of(plan, contract)
    if most is None or planned is None:
        return
    ceiling = account.ceiling
    costs = ceiling.guarantee(cost_of(planned.planned(), ceiling.order))
    yield found(
        f"{key}.privacy.max_epsilon_per_plan",
        costs.epsilon <= most,
        costs.words,
        f"epsilon {most:g}",
        f"`policy.accept.privacy.max_epsilon_per_plan` at this site is {most:g}; the plan costs {costs.words} at the account's order {ceiling.order}",
        "the plan must cost less: fewer rounds, a smaller batch, more noise",
    )
