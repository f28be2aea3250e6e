"""What this site's own configuration admits of a plan, and what is installed here. Default deny: what no rule admits is refused."""

from __future__ import annotations

from importlib.util import find_spec

from client.refusal import TaskRefused
from client.training import COMPONENT, COMPONENTS, PRIVATE
from protos.contract import Contract
from protos.frames import RefusalCode
from protos.plan import Plan, SecureAggregation
from protos.plan_privacy import Privacy
from protos.plan_releases import releases_of
from protos.plan_training import PrivateSteps
from protos.site import AccountRule, DataSource, SiteConfig
from strategies.dp.budget import cost_of
from strategies.secagg.parameters import sharing_an_honest_site


def require_admitted(plan: Plan, config: SiteConfig) -> None:
    """The site's policy admits the plan's purpose, privacy mode and aggregation, and what that protects against. Raises `TaskRefused`."""
    policy = config.policy
    for rule, value, admitted in (
        ("purposes", plan.purpose, policy.purposes),
        ("privacy_modes", plan.privacy.mode, policy.privacy_modes),
        ("aggregation", plan.aggregation.mode, policy.aggregation),
    ):
        if value not in admitted:
            raise TaskRefused(
                RefusalCode.POLICY,
                f"`policy.{rule}` at this site admits {', '.join(admitted) or 'nothing'}; the plan has {value}",
            )
    _secure_policy(plan, config)


def _secure_policy(plan: Plan, config: SiteConfig) -> None:
    chosen, policy = plan.aggregation, config.policy
    if not isinstance(chosen, SecureAggregation):
        return
    if config.peers is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            "`peers` is not configured at this site, so it recognises nobody to be in a sum with",
        )
    if chosen.adversary not in policy.adversaries:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.adversaries` at this site admits {', '.join(policy.adversaries) or 'nothing'}; the plan's secure aggregation is"
            f" {chosen.adversary}",
        )
    strangers = len(set(plan.sites.invite) - set(config.peers.recognise) - {config.site})
    needed = sharing_an_honest_site(len(plan.sites.invite), chosen.colluding + strangers)
    if chosen.adversary == "active" and plan.sites.minimum < needed:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"{strangers} of the plan's sites are not among the `peers` that this site recognises, and count as colluding: a minimum of"
            f" {plan.sites.minimum} lets two sums of one round be opened over different sites; {needed} would not",
        )
    if chosen.colluding < policy.colluding_at_least:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.colluding_at_least` at this site is {policy.colluding_at_least}; the plan bears {chosen.colluding} colluding sites",
        )


def _require_modest(plan: Plan, contract: Contract, account: AccountRule, most: float | None) -> None:
    """The plan costs what the site admits a plan at most: at the account's own delta and order, because the plan chooses its own."""
    planned = releases_of(plan, contract)
    if most is None or planned is None:
        return
    ceiling = account.ceiling
    costs = ceiling.guarantee(cost_of(planned.planned(), ceiling.order))
    if not costs.epsilon <= most:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.max_epsilon_per_plan` at this site is {most:g}; the plan costs {costs.words} at the account's order {ceiling.order}",
        )


def require_privacy_admitted(plan: Plan, contract: Contract, source: DataSource, config: SiteConfig) -> None:
    """A private plan is about the unit that the population's account is about, within the site's limit, and exempts only what may be.

    Raises `TaskRefused`.
    """
    privacy, policy, account = plan.privacy, config.policy, source.account
    if not isinstance(privacy, Privacy):
        if account is not None:
            raise TaskRefused(
                RefusalCode.POLICY,
                f"population {config.population_of(source)} has an account at this site; a plan without privacy would release of it what no"
                " account bounds",
            )
        return
    if account is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`data.{config.population_of(source)}.account` is not configured at this site, so nothing may be released of it",
        )
    named, called = plan.population_of(config.site), config.population_of(source)
    if named != called:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"the plan charges population {named} of this site, which calls it {called}; `sites.populations` must say so",
        )
    ours, theirs = account.unit.unit, privacy.unit.unit
    if not ours.is_same_person(theirs) or theirs.max_sites < ours.max_sites:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"the account at this site is per {ours.words}; the plan protects a {theirs.words}, and one says nothing about the other",
        )
    _require_modest(plan, contract, account, policy.max_epsilon_per_plan)
    exempt = sorted(set(privacy.exempt) - set(policy.exemptions))
    if exempt:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"`policy.exemptions` at this site admits {', '.join(policy.exemptions) or 'nothing'}; the plan releases {', '.join(exempt)}"
            " without noise",
        )


def require_installed(plan: Plan) -> None:
    """What the plan computes is installed: its component, and for local privacy the library that it stands on. Raises `TaskRefused`."""
    if isinstance(plan.training, PrivateSteps) and find_spec("opacus") is None:
        raise TaskRefused(
            RefusalCode.POLICY,
            "algorithm dp-sgd needs Opacus, which is not installed at this site: pip install 'covenant-fl[local]'",
        )
    if plan.training.component not in COMPONENTS:
        raise TaskRefused(
            RefusalCode.POLICY,
            f"training component {plan.training.component} is not installed; this site has {', '.join(COMPONENTS)}",
        )
    wanted = PRIVATE if isinstance(plan.privacy, Privacy) else COMPONENT
    if plan.training.component != wanted:
        raise TaskRefused(
            RefusalCode.PROTOCOL,
            f"training component {plan.training.component} does not do privacy mode {plan.privacy.mode}; the plan must name {wanted}",
        )
